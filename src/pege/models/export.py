"""A run as one plain folder of safetensors, for engines such as vLLM or llama.cpp's converter."""

from __future__ import annotations

from pathlib import Path

from pege.errors import InputError
from pege.models.causal import GUIDED_FIELD, OUR_KINDS, is_guided, load_model
from pege.models.folder import whole_folder


def export_model(name: str | Path, output: Path) -> Path:
    """Write a causal LM with its tokenizer and chat template to a new folder; LoRA adapters are merged in.

    The folder appears whole or not at all.

    Args:
        name: a run, ``base``, or a model of the hub.
        output: the folder to make.

    Raises:
        InputError: no such model; one of the paper's own kinds, which no engine knows; a folder that is there.
    """
    if output.exists():
        raise InputError("is there already", where=output, fix="name a new folder")
    model, tokenizer = load_model(name)
    kind = model.config.model_type
    if kind in OUR_KINDS:
        raise InputError(f"is a {kind}, which engines do not know", where=name, fix="serve it with `pege serve`")
    setattr(model.config, GUIDED_FIELD, is_guided(name, model))
    with whole_folder(output) as temporary:
        model.save_pretrained(temporary, safe_serialization=True)
        tokenizer.save_pretrained(temporary)
    return output
