"""Perplexity of any agent's model on held-out rows, by the trainer's own evaluation: one forward pass, batched."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from typing import Any

import torch
from transformers import TrainingArguments

from pege import __version__
from pege.lexicon import cached_token_vad, load_lexicon
from pege.models.causal import default_cache_dir, run_settings
from pege.models.head import head_of
from pege.training.config import LossSettings, TrainConfig
from pege.training.kinds import collator_for, load_for_training, samples_for
from pege.training.samples import ready_dialogs
from pege.training.trainer import PegeTrainer, perplexity


def measure_perplexity(
    model: str, data: Sequence[str], *, n_dialogs: int | None = None, seed: int = 0, batch_size: int = 16
) -> dict[str, Any]:
    """Measure a run's, or any model's, perplexity of the agent's utterances, with the prompt of its training.

    Args:
        model: a run, or what `pege train --model` takes.
        data: files of rows.
        n_dialogs: at most so many, drawn by the seed.
        seed: of the draw.
        batch_size: samples at once.

    Returns:
        ``nll`` (mean per token, nats), ``perplexity``, ``n_dialogs``, ``n_samples``, ``signature``. Two perplexities
        compare only where the tokens are the same.

    Raises:
        InputError: no such model or rows; no response in them.
    """
    run = run_settings(model)
    known = {k: run[k] for k in ("emotion_input", "max_length") if k in run}
    config = TrainConfig(model=model, data=tuple(data), **known)
    dialogs = ready_dialogs(config.data, n_dialogs, random.Random(seed))
    loaded, tokenizer = load_for_training(config)
    lexicon = load_lexicon(config.lexicon)
    samples = samples_for(loaded, tokenizer, dialogs, lexicon, config)
    n_rows = head_of(loaded).weight.shape[0]
    table = cached_token_vad(lexicon, tokenizer, cache_dir=default_cache_dir(), n_rows=n_rows)
    with tempfile.TemporaryDirectory() as folder:
        trainer = PegeTrainer(
            model=loaded,
            args=TrainingArguments(
                output_dir=folder,
                per_device_eval_batch_size=batch_size,
                remove_unused_columns=False,
                label_names=["labels"],
                report_to="none",
                use_cpu=not torch.cuda.is_available(),
            ),
            eval_dataset=samples,
            data_collator=collator_for(loaded, tokenizer),
            processing_class=tokenizer,
            compute_metrics=perplexity,
            token_vad=table.values,
            loss=LossSettings(alpha=0, beta=0, period=7),
        )
        found = trainer.evaluate()
    return {
        "signature": f"perplexity|per:token|side:agent|max-length:{config.max_length}|v:{__version__}",
        "n_dialogs": len(dialogs),
        "n_samples": len(samples),
        **{k: found[f"eval_{k}"] for k in ("nll", "perplexity")},
    }
