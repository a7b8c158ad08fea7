"""The loss in other people's loops: plain PyTorch, and TRL's SFTTrainer."""

from __future__ import annotations

import torch

from pege.lexicon import extend_lexicon, load_lexicon
from pege.loss import pege_loss
from pege.models.causal import load_model


def test_a_plain_loop_learns(tiny_model_dir, lexicon_file):
    model, tokenizer = load_model(tiny_model_dir, dtype="float32")
    table = torch.from_numpy(extend_lexicon(load_lexicon(lexicon_file), tokenizer).values)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    ids = torch.tensor([tokenizer("I am sorry, dogs often come home.")["input_ids"]])
    losses = []
    for _ in range(8):
        hidden = model.model(input_ids=ids).last_hidden_state[0, :-1]
        out = pege_loss(
            hidden, model.lm_head.weight, ids[0, 1:], token_vad=table, user_vad=torch.tensor([0.2, 0.5, 0.3]),
            p_positive=0.05, p_negative=0.8, n_utterances=1, alpha=0.5, beta=0.2,
        )  # fmt: skip
        out.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(out.loss.item())
    assert losses[-1] < losses[0] - 0.5


def test_it_sits_in_trl(tiny_model_dir, lexicon_file, tmp_path):
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from pege.models.head import last_hidden_states

    class GuidedTrainer(SFTTrainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            hidden = last_hidden_states(model, inputs["input_ids"], inputs["attention_mask"])[:, :-1].flatten(0, 1)
            out = pege_loss(
                hidden, model.lm_head.weight, inputs["labels"][:, 1:].flatten(), token_vad=self.table,
                user_vad=torch.tensor([0.2, 0.5, 0.3]), p_positive=0.05, p_negative=0.8, n_utterances=1,
                num_items_in_batch=num_items_in_batch,
            )  # fmt: skip
            return (out.loss, out) if return_outputs else out.loss

    model, tokenizer = load_model(tiny_model_dir, dtype="float32")
    data = Dataset.from_list([{"text": t} for t in ("I am sorry, dogs often come home.", "I love the sea.")] * 2)
    config = SFTConfig(
        output_dir=str(tmp_path), max_steps=2, use_cpu=True, report_to="none", per_device_train_batch_size=2, bf16=False,
        gradient_checkpointing=False, disable_tqdm=True, logging_steps=1,
    )  # fmt: skip
    trainer = GuidedTrainer(model=model, args=config, train_dataset=data, processing_class=tokenizer)
    trainer.table = torch.from_numpy(extend_lexicon(load_lexicon(lexicon_file), tokenizer).values)
    trainer.train()
    assert all(0 < r["loss"] < 10 for r in trainer.state.log_history if "loss" in r)
