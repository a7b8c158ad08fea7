"""Folders to classifiers, without pickle and without the network."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from pege.emotion.cascade import CASCADE_FORMAT, Cascade, CascadeConfig
from pege.emotion.classifier import (
    CONFIG_FILE,
    MODEL_FILE,
    TOKENIZER_FILE,
    ClassifierConfig,
    NetworkClassifier,
    TextClassifier,
)
from pege.emotion.labelled import LABELS
from pege.errors import InputError
from pege.io import read_json, why_invalid

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from pege.emotion.encoder import EncoderTextCnn
    from pege.emotion.textcnn import TextCnn, TextCnnShape

_FIX = "name a folder that `pege emotion train` wrote, or `default`"


def load_emotion_classifier(path: Path | str | None = None) -> TextClassifier:
    """Load a classifier whose classes are the emotions.

    Args:
        path: a folder that ``pege emotion train`` or ``pege emotion cascade`` wrote; None or ``default`` for the
            one in the package.

    Raises:
        InputError: no such folder, a file that is missing, cut or of another model, other classes, or no torch.
    """
    classifier = load_classifier(path)
    if classifier.labels != LABELS:
        raise InputError(f"tells {', '.join(classifier.labels)}, not emotions", where=path, fix=_FIX)
    return classifier


def load_classifier(path: Path | str | None = None) -> TextClassifier:
    """Load a classifier of any classes; see ``load_emotion_classifier``."""
    if path is None or str(path) == "default":
        return load_shipped("emotion")
    return _load(Path(path))


def load_shipped(name: str) -> TextClassifier:
    """Load a classifier of the package: ``emotion`` or ``offensive``."""
    with resources.as_file(resources.files("pege") / "assets" / name) as folder:
        return _load(folder)


def _load(folder: Path) -> TextClassifier:
    values = read_json(folder / CONFIG_FILE) if (folder / CONFIG_FILE).is_file() else {}
    if not isinstance(values, dict):
        raise InputError("holds no object", where=folder / CONFIG_FILE, fix=_FIX)
    return _load_cascade(folder, values) if values.get("format") == CASCADE_FORMAT else _load_network(folder, values)


def _load_cascade(folder: Path, values: dict[str, object]) -> Cascade:
    try:
        config = CascadeConfig.model_validate(values)
    except ValidationError as e:
        raise InputError(why_invalid(e), where=folder / CONFIG_FILE, fix=_FIX) from e
    return Cascade(_load(folder / "fast"), _load(folder / "encoder"), config)


def _load_network(folder: Path, values: dict[str, object]) -> NetworkClassifier:
    try:
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as e:
        raise InputError(f"the classifier needs {e.name}", fix="pip install 'pege[train]'") from e
    from pege.emotion.textcnn import TextCnnShape

    for name in (CONFIG_FILE, TOKENIZER_FILE, MODEL_FILE):
        if not (folder / name).is_file():
            raise InputError(f"no {name} here, so no classifier", where=folder, fix=_FIX)
    try:
        config = ClassifierConfig.model_validate(values)
        shape = TextCnnShape.model_validate(config.shape)
    except ValidationError as e:
        raise InputError(why_invalid(e), where=folder / CONFIG_FILE, fix=_FIX) from e
    tokenizer = _load_tokenizer(folder / TOKENIZER_FILE)
    model = _build(config, shape, where=folder / CONFIG_FILE)
    try:
        tensors = load_file(folder / MODEL_FILE)
        model.load_state_dict({k: v.to(torch.float32) if v.is_floating_point() else v for k, v in tensors.items()})
    except (SafetensorError, RuntimeError, OSError) as e:
        reason = str(e).splitlines()[0]
        raise InputError(f"the model file is cut or of another model ({reason})", where=folder / MODEL_FILE) from e
    if tokenizer.get_vocab_size() > shape.vocabulary_size:
        raise InputError("the tokenizer has more pieces than the model", where=folder, fix=_FIX)
    return NetworkClassifier(model, tokenizer, config)


def _load_tokenizer(path: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    pieces = read_json(path)
    try:
        return Tokenizer.from_str(json.dumps(pieces))
    except Exception as e:  # the library raises plain Exception
        raise InputError(f"not a tokenizer ({e})", where=path, fix=_FIX) from e


def _build(config: ClassifierConfig, shape: TextCnnShape, *, where: Path) -> TextCnn | EncoderTextCnn:
    from pege.emotion.textcnn import TextCnn

    if config.format == "pege-textcnn":
        return TextCnn(shape)
    from pege.emotion.encoder import EncoderTextCnn, build_encoder

    return EncoderTextCnn(build_encoder(config.encoder, where=where), shape)
