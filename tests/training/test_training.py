"""The trainer: same loss however the batch is split, plain NLL as Hugging Face has it, runs that resume."""

from __future__ import annotations

import json

import pytest
import torch

from pege.dialog import make_dialog
from pege.errors import InputError
from pege.io import read_json, write_rows
from pege.lexicon import extend_lexicon, load_lexicon
from pege.loss import PegeOutput
from pege.models.causal import load_model
from pege.training import LossSettings, PegeTrainer, TrainConfig, run_training
from pege.training.samples import collate, make_samples

LORA = {"r": 4, "target_modules": ["q_proj", "v_proj"]}


@pytest.fixture
def setting(tiny_model_dir, lexicon_file, dialogs):
    model, tokenizer = load_model(tiny_model_dir, dtype="float32")
    lexicon = load_lexicon(lexicon_file)
    samples = list(make_samples(dialogs, tokenizer, lexicon, max_length=200))
    return model, tokenizer, lexicon, samples


def make_trainer(setting, tmp_path, loss, **training):
    from transformers import TrainingArguments

    model, tokenizer, lexicon, samples = setting
    table = extend_lexicon(lexicon, tokenizer, n_rows=model.get_output_embeddings().weight.shape[0])
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "run"), use_cpu=True, report_to="none", remove_unused_columns=False,
        label_names=["labels"], disable_tqdm=True, **training,
    )  # fmt: skip
    return PegeTrainer(
        model=model, args=arguments, train_dataset=samples, token_vad=table.values, loss=loss,
        data_collator=lambda rows: collate(rows, pad_id=tokenizer.pad_token_id),
    )  # fmt: skip


def test_only_the_agents_words_are_learned_each_with_its_own_count(setting):
    _, tokenizer, lexicon, samples = setting
    sample = samples[0]  # five utterances, the user's last left out
    learned = [(i, c) for i, c in zip(sample["labels"], sample["n_utterances"], strict=True) if i != -100]
    for count, text in ((1, "Oh no, what happened to your dog?"), (3, "I am sorry, dogs often come home.")):
        assert tokenizer.decode([i for i, c in learned if c == count]) == f"{text}<|end|>"
    assert "kind" not in tokenizer.decode(sample["input_ids"])
    assert sample["user_vad"] == pytest.approx(
        ((lexicon.vad("lost") + lexicon.vad("dog") + lexicon.vad("sad")) / 3).tolist()
    )


def test_a_base_chat_learns_both_sides(setting, dialogs):
    _, tokenizer, lexicon, _ = setting
    (sample,) = make_samples(dialogs[:1], tokenizer, lexicon, sides="both", emotion_input=False)
    learned = tokenizer.decode([i for i in sample["labels"] if i != -100])
    assert "He ran away" in learned
    assert "kind" in learned
    assert "I lost my dog" not in learned


def test_turns_may_be_counted_in_place_of_utterances(setting, dialogs):
    _, tokenizer, lexicon, _ = setting
    (sample,) = make_samples(dialogs[:1], tokenizer, lexicon, count="turns")
    assert {c for i, c in zip(sample["labels"], sample["n_utterances"], strict=True) if i != -100} == {1, 2}


def test_without_guidance_the_loss_is_that_of_hugging_face(setting, tmp_path):
    trainer = make_trainer(setting, tmp_path, LossSettings(alpha=0.0, beta=0.0))
    batch = trainer.data_collator(setting[3])
    loss = trainer.compute_loss(trainer.model, batch)
    names = ("input_ids", "attention_mask", "labels")
    assert loss.item() == pytest.approx(trainer.model(**{k: batch[k] for k in names}).loss.item(), rel=1e-5)


def test_a_model_whose_logits_are_made_otherwise_is_refused(setting, tmp_path):
    setting[0].config.final_logit_softcapping = 0.05  # which a Llama does not heed
    with pytest.raises(InputError, match="LlamaForCausalLM: its logits are not"):
        make_trainer(setting, tmp_path, LossSettings())


def test_gradients_do_not_depend_on_how_the_batch_is_split(setting, tmp_path):
    trainer = make_trainer(setting, tmp_path, LossSettings())
    samples = setting[3]
    n_items = sum(label != -100 for s in samples for label in s["labels"])

    def gradient(parts):
        trainer.model.zero_grad()
        for part in parts:
            trainer.compute_loss(trainer.model, trainer.data_collator(part), num_items_in_batch=n_items).backward()
        return torch.cat([p.grad.flatten() for p in trainer.model.parameters()])

    whole, split = gradient([samples]), gradient([samples[:1], samples[1:3], samples[3:]])
    assert torch.allclose(whole, split, atol=1e-6)


def test_terms_and_distances_by_count_are_logged(setting, tmp_path):
    trainer = make_trainer(
        setting, tmp_path, LossSettings(), max_steps=2, logging_steps=1, per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
    )  # fmt: skip
    trainer.train()
    row = trainer.state.log_history[0]
    assert row["loss"] == pytest.approx(row["nll"] + 5 * row["peg"] - 2 * row["ner"], rel=1e-4)
    assert 0 < row["ed_1"] < 2
    assert "ed_3" in row


@pytest.fixture
def config(tiny_model_dir, lexicon_file, dialogs, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = tmp_path / "train.jsonl"
    write_rows(data, dialogs)
    return TrainConfig.model_validate(
        {
            "model": str(tiny_model_dir),
            "data": [str(data)],
            "validation": [str(data)],
            "lexicon": str(lexicon_file),
            "dtype": "float32",
            "lora": {**LORA, "lora_dropout": 0.1},
            "training": {
                "max_steps": 6, "per_device_train_batch_size": 2, "logging_steps": 1, "save_steps": 2,
                "learning_rate": 0.01, "disable_tqdm": True,
            },
        }
    )  # fmt: skip


def read_log(folder):
    return [r for r in map(json.loads, (folder / "log.jsonl").read_text().splitlines()) if "nll" in r]


def test_a_run_that_was_stopped_goes_on_with_the_same_losses(config, tmp_path, monkeypatch):
    straight = run_training(config, tmp_path / "straight")
    whole = read_log(straight)

    class StopError(Exception):
        pass

    saved = PegeTrainer._save_checkpoint

    def stop_after_four(self, *a, **k):
        saved(self, *a, **k)
        if self.state.global_step == 4:
            raise StopError

    monkeypatch.setattr(PegeTrainer, "_save_checkpoint", stop_after_four)
    with pytest.raises(StopError):
        run_training(config, tmp_path / "stopped")
    monkeypatch.setattr(PegeTrainer, "_save_checkpoint", saved)
    assert not (tmp_path / "stopped" / "done").exists()
    resumed = read_log(run_training(config, tmp_path / "stopped"))
    assert [r["nll"] for r in resumed] == pytest.approx([r["nll"] for r in whole], rel=1e-6)
    assert len(whole) == 6


def test_a_run_folder_holds_all_that_it_depends_on_and_loads_as_a_model(config, tmp_path):
    folder = run_training(config, tmp_path / "run")
    assert {"config.yaml", "versions.json", "log.jsonl", "metrics.json", "done", "adapter_model.safetensors"} <= {
        p.name for p in folder.iterdir()
    }
    metrics = read_json(folder / "metrics.json")
    assert metrics["validation_perplexity"] > 1
    assert metrics["pege_is_guided"] is True
    model, _ = load_model(folder, dtype="float32")
    base, _ = load_model(config.model, dtype="float32")
    assert not torch.equal(model.model.layers[0].self_attn.q_proj.weight, base.model.layers[0].self_attn.q_proj.weight)
    before = (folder / "log.jsonl").stat().st_mtime_ns
    run_training(config, folder)  # done: left as it is
    assert (folder / "log.jsonl").stat().st_mtime_ns == before
    with pytest.raises(InputError, match="another seed"):
        run_training(config.model_copy(update={"seed": 7}), folder)


def test_a_checkpoint_cut_in_half_is_one_line(config, tmp_path):
    folder = run_training(config, tmp_path / "run")
    (folder / "done").unlink()
    weights = folder / "checkpoint-6" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(InputError, match="checkpoint-6"):
        run_training(config, folder)


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_a_cut_state_of_the_trainer_is_one_line(config, tmp_path, name):
    folder = run_training(config, tmp_path / "run")
    (folder / "done").unlink()
    path = folder / "checkpoint-6" / name
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match=f"{name}: is cut or broken"):
        run_training(config, folder)


@pytest.mark.parametrize(
    "typo",
    [
        {"data": ("no.jsonl",)},
        {"model": "./no-model"},
        {"lexicon": "no.tsv"},
        {"training": {"lr_scheduler_type": "no"}},
        {"generation": {"do_sample": False, "temperature": 0.5}},
        {"lora": {"target_modules": ["no"]}},
    ],
)
def test_a_typo_begins_no_run_so_that_the_corrected_command_goes_through(config, tmp_path, typo):
    with pytest.raises(InputError):
        run_training(TrainConfig.model_validate(config.resolved() | typo), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_made_is_one_line(config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be made"):
        run_training(config, tmp_path / "file" / "run")


@pytest.mark.parametrize("has_bar", [True, False])
def test_nothing_is_printed_where_results_stand(config, tmp_path, capsys, has_bar):
    settings = config.resolved()
    settings["training"] |= {"disable_tqdm": not has_bar}
    run_training(TrainConfig.model_validate(settings), tmp_path / "run")
    assert capsys.readouterr().out == ""


def test_a_temperature_alone_is_kept_for_the_agent_that_samples(config, tmp_path):
    settings = config.resolved() | {"generation": {"temperature": 0.8}}
    folder = run_training(TrainConfig.model_validate(settings), tmp_path / "run")
    assert read_json(folder / "generation_config.json")["temperature"] == 0.8


def test_sums_of_an_evaluation_are_where_the_loss_is(setting, tmp_path, monkeypatch):
    trainer = make_trainer(setting, tmp_path, LossSettings())
    away = torch.zeros((), device="meta")
    out = PegeOutput(loss=away, nll=away, peg=away, ner=away, ed=away, n_tokens=3)
    monkeypatch.setattr(trainer, "_guided_loss", lambda *_: out)
    loss, sums, _ = trainer.prediction_step(trainer.model, trainer.data_collator(setting[3]), False)
    assert loss.device == sums.device
    assert sums.shape == (1, 2)


@pytest.mark.parametrize("kind", ["pege", "target"])
def test_all_weights_may_be_trained(config, tmp_path, kind):
    settings = config.model_dump() | {"lora": None, "loss": {"kind": kind}}
    folder = run_training(TrainConfig.model_validate(settings), tmp_path / "full")
    assert (folder / "model.safetensors").is_file()


def test_rows_without_any_response_are_named(config, tmp_path):
    data = tmp_path / "silent.jsonl"
    emotion = {"negative": 1.0, "neutral": 0.0, "positive": 0.0}
    write_rows(
        data,
        [
            make_dialog(["alone"], id="x").model_copy(update={"emotion": None}).model_dump(exclude_none=True)
            | {"emotion": emotion}
        ],
    )
    with pytest.raises(InputError, match="no dialog has a response"):
        run_training(config.model_copy(update={"data": (str(data),)}), tmp_path / "r")
