"""A training run: config in, run folder out; stopped at any moment, it goes on (docs/training.md)."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    PrinterCallback,
    ProgressCallback,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)
from transformers.training_args import ParallelMode

from pege.dialog import Dialog
from pege.errors import InputError
from pege.io import is_begun, make_folder, start_run, write_json, write_rows, write_text
from pege.lexicon import Lexicon, cached_token_vad, load_lexicon, positive_anchor
from pege.models.causal import GUIDED_FIELD, default_cache_dir, is_guided, keep_map, learns_guidance
from pege.models.generation import check_generation
from pege.models.head import head_of
from pege.training.config import TrainConfig
from pege.training.kinds import collator_for, load_for_training, samples_for
from pege.training.resume import train_on
from pege.training.samples import ready_dialogs
from pege.training.trainer import PegeTrainer, perplexity

log = logging.getLogger(__name__)

_PACKAGES = ("torch", "transformers", "peft", "accelerate")
_DEFAULTS = {  # ours where the Trainer's own would surprise; the config's win
    "train_sampling_strategy": "group_by_length",
    "report_to": "none",
    "save_total_limit": 2,
    "logging_steps": 10,
    "logging_nan_inf_filter": False,
}


def run_training(config: TrainConfig, output_dir: Path | str) -> Path:
    """Train as a config says, into a run folder.

    The folder holds ``config.yaml``, ``versions.json``, ``log.jsonl`` (a row a logged step), checkpoints while it
    lasts, then the model (or its LoRA adapter) with its tokenizer, ``metrics.json``, and ``done`` last. A folder that a
    stopped run left is gone on with from its last checkpoint; one that is done is left as it is.

    Raises:
        InputError: bad data, model or names; a folder of another config; a checkpoint that is cut.
    """
    folder = Path(output_dir)
    if is_begun(folder, config.resolved(), kind="run", flag="--output_dir") and (folder / "done").is_file():
        log.info("%s is done; name another --output_dir to train again", folder)
        return folder
    arguments, generation = _arguments(config, folder), _generation(config)
    rng = random.Random(config.seed)
    dialogs = ready_dialogs(config.data, config.n_dialogs, rng)
    held_out = ready_dialogs(config.validation, config.n_validation, rng) if config.validation else []
    set_seed(config.seed)
    lexicon = load_lexicon(config.lexicon, value_range=config.lexicon_range)
    model, tokenizer = load_for_training(config)
    guided = learns_guidance(config.resolved()) or is_guided(config.model, model)
    data = _samples(dialogs, config.data, config, model, tokenizer, lexicon)
    validation = _samples(held_out, config.validation, config, model, tokenizer, lexicon)
    n_rows = head_of(model).weight.shape[0]
    table = cached_token_vad(
        lexicon, tokenizer, cache_dir=default_cache_dir(), shrinkage=config.shrinkage, n_rows=n_rows
    )
    model = _with_lora(model, config)
    make_folder(folder)
    trainer = PegeTrainer(
        model=model,
        args=arguments,
        train_dataset=data,
        eval_dataset=validation or None,
        data_collator=collator_for(model, tokenizer),
        processing_class=tokenizer,
        compute_metrics=perplexity,
        callbacks=[_LogFile(folder / "log.jsonl")],
        token_vad=table.values,
        loss=config.loss,
        positive_vad=positive_anchor(lexicon),
    )
    start_run(folder, config.resolved(), packages=_PACKAGES)  # not before all that a person may have misspelt was read
    _show_progress(trainer)
    start = time.perf_counter()
    train_on(trainer, folder)
    metrics = {
        GUIDED_FIELD: guided,
        "n_dialogs": len(data),
        "n_steps": trainer.state.global_step,
        "seconds_last_start": round(time.perf_counter() - start, 1),
        "token_vad_shares": table.shares(),
    }
    if validation:
        found = trainer.evaluate()
        metrics |= {f"validation_{k}": found[f"eval_{k}"] for k in ("nll", "perplexity")}
    model.config.update({GUIDED_FIELD: guided})
    trainer.save_model(str(folder))
    if generation is not None:
        generation.save_pretrained(folder)
    if trainer.is_world_process_zero():
        keep_map(config.model, folder)
        write_json(folder / "metrics.json", metrics)
        write_text(folder / "done", "")
    return folder


def _samples(
    dialogs: list[Dialog], paths: Sequence[str], config: TrainConfig, model: Any, tokenizer: Any, lexicon: Lexicon
) -> list[Any]:
    samples = samples_for(model, tokenizer, dialogs, lexicon, config)
    if dialogs and not samples:
        raise InputError("no dialog has a response", where=", ".join(paths), fix="see docs/rows.md")
    return samples


def _with_lora(model: Any, config: TrainConfig) -> Any:
    if config.lora is None:
        return model
    from peft import LoraConfig, get_peft_model

    names = config.names_of("lora")
    if names.get("target_modules") == ["all-linear"]:
        names["target_modules"] = "all-linear"
    try:
        return get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **names))
    except ValueError as e:
        raise InputError(str(e), where="lora", fix="see peft.LoraConfig") from e


def _arguments(config: TrainConfig, folder: Path) -> TrainingArguments:
    names = _DEFAULTS | {"use_cpu": not torch.cuda.is_available()} | config.names_of("training")
    try:
        found = TrainingArguments(
            output_dir=str(folder), seed=config.seed, remove_unused_columns=False, label_names=["labels"], **names
        )
    except (ValueError, TypeError) as e:
        raise InputError(str(e), where="training", fix="see transformers.TrainingArguments") from e
    if found.fsdp and found.parallel_mode != ParallelMode.DISTRIBUTED:
        raise InputError(
            "there is one process, so nobody to share with", where="training.fsdp", fix="start with torchrun"
        )
    return found


def _generation(config: TrainConfig) -> GenerationConfig | None:
    """Settings for the run's agent, which samples unless they say otherwise."""
    names = config.names_of("generation")
    if not names:
        return None
    check_generation(names)
    try:
        found = GenerationConfig(**{"do_sample": True} | names)
        found.validate(strict=True)  # as it is when saved, after the training
    except (ValueError, TypeError) as e:
        raise InputError(str(e), where="generation", fix="see transformers.GenerationConfig") from e
    return found


def _show_progress(trainer: PegeTrainer) -> None:
    """Show it on standard error; the Trainer's own callbacks print what is logged to standard output."""
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(_Lines() if trainer.args.disable_tqdm else _Bar())


class _LogFile(TrainerCallback):  # type: ignore[misc]
    """Keeps ``log.jsonl`` equal to the trainer's history, also over a resume."""

    def __init__(self, path: Path, every_s: float = 5.0) -> None:
        self.path, self.every_s, self.last = path, every_s, 0.0

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero and time.monotonic() - self.last > self.every_s:
            self._write(state)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self._write(state)

    def _write(self, state: Any) -> None:
        write_rows(self.path, state.log_history)
        self.last = time.monotonic()


class _Bar(ProgressCallback):  # type: ignore[misc]
    """The Trainer's bar, with the loss at its end in place of the rows that it prints."""

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if self.training_bar is not None and logs and "loss" in logs:
            self.training_bar.set_postfix(loss=f"{float(logs['loss']):.4f}")


class _Lines(TrainerCallback):  # type: ignore[misc]
    """A line a logged step, where there is no bar."""

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if state.is_world_process_zero and logs and "loss" in logs:
            log.info("step %d of %d: loss %.4f", state.global_step, state.max_steps, float(logs["loss"]))
