"""Direct preference optimisation of a causal LM on pairs of responses, by TRL's trainer (docs/training.md)."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import set_seed

from pege.dialog import Emotion, Utterance
from pege.errors import InputError, need_package
from pege.io import is_begun, make_folder, start_run, write_json, write_text
from pege.models.causal import (
    GUIDED_FIELD,
    OUR_KINDS,
    base_of,
    keep_map,
    kind_of,
    load_model,
    resolve_model,
    run_settings,
)
from pege.models.prompt import encode_dialog
from pege.training.resume import train_on

log = logging.getLogger(__name__)
_DEFAULTS = {
    "report_to": "none", "logging_steps": 10, "save_steps": 10, "save_total_limit": 2, "bf16": False, "seed": 0,
}  # fmt: skip


def run_preference(
    model: str,
    pairs: Sequence[Any],
    output_dir: Path | str,
    *,
    lora: dict[str, Any],
    training: dict[str, Any],
    dtype: str = "auto",
    max_length: int = 512,
) -> Path:
    """Train a run, or a causal LM, on pairs; the model as it is stands for the reference.

    A folder that a stopped run left is gone on with from its last checkpoint.

    Args:
        model: as `pege train --model` takes it.
        pairs: with ``messages``, ``emotion``, ``chosen`` and ``rejected`` (`pege.selfchat.pairs.Pair`).
        output_dir: the run folder.
        lora: fields of peft.LoraConfig: only an adapter is trained.
        training: fields of trl.DPOConfig.
        dtype: of the loaded weights.
        max_length: tokens of a context; older turns are dropped.

    Raises:
        InputError: no such model, or one that is no causal LM; no pairs; TRL is not installed; a folder of another run;
            a checkpoint that is cut.
    """
    folder = Path(output_dir)
    run = run_settings(model)
    config = {
        "model": model, "n_pairs": len(pairs), "lora": lora, "training": training, "dtype": dtype,
        "max_length": max_length, "emotion_input": run.get("emotion_input", False),
        "generation": run.get("generation", {}),
    }  # fmt: skip
    if is_begun(folder, config, kind="run", flag="--output") and (folder / "done").is_file():
        log.info("%s is done; name another --output to train again", folder)
        return folder
    if not pairs:
        raise InputError("no pairs to learn from", fix="more starters, or more turns")
    check_preferable(model)
    loaded, tokenizer = load_model(model, dtype=dtype)
    set_seed((_DEFAULTS | training)["seed"])  # the adapter's first weights are drawn
    data = [_encoded(tokenizer, p, config["emotion_input"], max_length) for p in pairs]
    trainer = _trainer(loaded, tokenizer, data, folder, lora=lora, training=training)
    make_folder(folder)
    start_run(folder, config, packages=("torch", "transformers", "peft", "trl"))
    train_on(trainer, folder)
    trainer.save_model(str(folder))
    keep_map(model, folder)
    write_json(
        folder / "metrics.json", {GUIDED_FIELD: True, "n_pairs": len(pairs), "n_steps": trainer.state.global_step}
    )
    write_text(folder / "done", "")
    return folder


def check_preferable(model: str) -> None:
    """See that a model can be trained on pairs, before they are made.

    Raises:
        InputError: TRL is not installed; no such model, or one of the paper's, which are no causal LMs.
    """
    need_package("trl", "TRL", extra="prefer")
    folder = resolve_model(model)
    while (Path(folder) / "adapter_config.json").is_file():
        folder = resolve_model(base_of(Path(folder)))
    if (kind := kind_of(folder)) in OUR_KINDS:
        raise InputError(f"is a {kind}", where=model, fix="preferences are for causal LMs")


def _encoded(tokenizer: Any, pair: Any, emotion_input: bool, max_length: int) -> dict[str, list[int]]:
    """Tokens of a context and of both responses, as the agent reads and writes them."""
    emotion: Emotion | None = pair.emotion if emotion_input else None
    prompt = encode_dialog(tokenizer, pair.messages, emotion, next_role="assistant", max_length=max_length)
    found = {"prompt_ids": prompt.ids}
    for name in ("chosen", "rejected"):
        whole = [*pair.messages, Utterance(role="assistant", content=getattr(pair, name))]
        encoded = encode_dialog(tokenizer, whole, emotion)
        start, stop = encoded.spans[-1]
        found[f"{name}_ids"] = encoded.ids[start:stop]
    return found


def _trainer(
    model: Any, tokenizer: Any, data: list[dict[str, list[int]]], folder: Path, *, lora: dict[str, Any],
    training: dict[str, Any],
) -> Any:  # fmt: skip
    from datasets import Dataset
    from peft import LoraConfig

    trl: Any = importlib.import_module("trl")  # its types are not exported

    class PairTrainer(trl.DPOTrainer):  # type: ignore[misc]
        """TRL's, for pairs that are tokens already: no text is tokenized a second time, or otherwise."""

        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

    names: dict[str, Any] = _DEFAULTS | {"use_cpu": not torch.cuda.is_available(), "max_length": None} | training
    try:
        arguments = trl.DPOConfig(output_dir=str(folder), **names)
        adapter = LoraConfig(task_type="CAUSAL_LM", **lora)
    except (ValueError, TypeError) as e:
        raise InputError(str(e), where="training", fix="see trl.DPOConfig and peft.LoraConfig") from e
    return PairTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list(data),
        processing_class=tokenizer,
        peft_config=adapter,
    )
