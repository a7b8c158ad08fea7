"""The classifier: a folder with model.safetensors, tokenizer.json and config.json, loaded without pickle."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pege.dialog import Emotion
from pege.emotion.calibration import softmax
from pege.emotion.labelled import LABELS
from pege.errors import InputError
from pege.io import read_json, why_invalid, write_atomic, write_json, write_text

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from pege.emotion.textcnn import TextCnn

MODEL_FILE, TOKENIZER_FILE, CONFIG_FILE = "model.safetensors", "tokenizer.json", "config.json"
MAX_CHARS = 4_000  # read of a text, half from its start and half from its end; no utterance needs more
_FIX = "name a folder that `pege emotion train` wrote, or `default`"
_Share = Annotated[float, Field(ge=0, le=1)]


class ClassifierConfig(BaseModel):
    """What ``config.json`` of a classifier holds.

    Attributes:
        name: what signatures call it.
        temperature: divides the logits (calibration).
        prior: shares of the classes in training, the answer to a text without any piece.
        max_pieces: pieces read of a text.
        shape: sizes of the network, see ``textcnn.TextCnnShape``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: str = Field(default="pege-textcnn", pattern="^pege-textcnn$")
    name: str = Field(min_length=1, max_length=100)
    labels: tuple[str, str, str] = LABELS
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    prior: tuple[_Share, _Share, _Share] = (0.25, 0.5, 0.25)
    max_pieces: int = Field(default=256, ge=1, le=10_000)
    shape: dict[str, Any]


class EmotionClassifier:
    """Gives p(negative), p(neutral), p(positive) of utterances, English and Chinese.

    Args:
        model: the network; it is put into evaluation mode.
        tokenizer: text to pieces; piece 0 is padding.
        config: name, temperature and prior.
    """

    def __init__(self, model: TextCnn, tokenizer: Tokenizer, config: ClassifierConfig) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.config = config

    @property
    def name(self) -> str:
        """What signatures call it, e.g. ``pege-textcnn-1``."""
        return self.config.name

    def predict(self, texts: Sequence[str], *, batch_size: int = 256) -> NDArray[np.float64]:
        """Give (N, 3) probabilities, columns negative, neutral, positive; rows sum to 1.

        A text does not change with the batch it is in. A blank text gets the prior.
        """
        logits, is_known = self.logits(texts, batch_size=batch_size)
        probabilities = np.tile(np.array(self.config.prior) / sum(self.config.prior), (len(texts), 1))
        if is_known.any():
            probabilities[is_known] = softmax(logits[is_known], temperature=self.config.temperature)
        return probabilities

    def emotions(self, texts: Sequence[str]) -> list[Emotion]:
        """Give an ``Emotion`` for each text, as rows of a dialog hold it."""
        return [Emotion(negative=n, neutral=z, positive=p) for n, z, p in self.predict(texts).tolist()]

    def logits(self, texts: Sequence[str], *, batch_size: int = 256) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Give (N, 3) logits before the temperature, and (N,) whether a text has any piece (else its row is 0)."""
        import torch

        ids = encode(self.tokenizer, texts, max_pieces=self.config.max_pieces)
        known = [k for k, pieces in enumerate(ids) if pieces]
        known.sort(key=lambda k: len(ids[k]))  # neighbours of one length: little padding
        found = np.zeros((len(texts), len(LABELS)))
        with torch.inference_mode():
            for start in range(0, len(known), batch_size):
                rows = known[start : start + batch_size]
                batch = pad([ids[k] for k in rows])
                found[rows] = self.model(**batch)["logits"].double().numpy()
        return found, np.array([bool(pieces) for pieces in ids], dtype=np.bool_)

    def save(self, folder: Path | str) -> None:
        """Write model.safetensors (16 bit), tokenizer.json and config.json into a folder, each whole or not at all.

        Raises:
            InputError: the folder cannot be written.
        """
        import torch
        from safetensors.torch import save_file

        folder = Path(folder)
        tensors = {k: v.detach().to(torch.float16).contiguous() for k, v in self.model.state_dict().items()}
        with write_atomic(folder / MODEL_FILE) as temporary:
            save_file(tensors, temporary, metadata={"format": "pt"})
        write_text(folder / TOKENIZER_FILE, self.tokenizer.to_str())
        write_json(folder / CONFIG_FILE, self.config.model_dump(mode="json"))


def load_emotion_classifier(path: Path | str | None = None) -> EmotionClassifier:
    """Load a classifier.

    Args:
        path: a folder that ``pege emotion train`` wrote; None or ``default`` for the one in the package.

    Raises:
        InputError: no such folder, a file that is missing, cut or of another model, or no torch.
    """
    if path is None or str(path) == "default":
        with resources.as_file(resources.files("pege") / "assets" / "emotion") as folder:
            return _load(folder)
    return _load(Path(path))


def _load(folder: Path) -> EmotionClassifier:
    try:
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load_file
        from tokenizers import Tokenizer
    except ImportError as e:
        raise InputError(f"the emotion classifier needs {e.name}", fix="pip install 'pege[train]'") from e
    from pege.emotion.textcnn import TextCnn, TextCnnShape

    for name in (CONFIG_FILE, TOKENIZER_FILE, MODEL_FILE):
        if not (folder / name).is_file():
            raise InputError(f"no {name} here, so no emotion classifier", where=folder, fix=_FIX)
    try:
        config = ClassifierConfig.model_validate(read_json(folder / CONFIG_FILE))
        shape = TextCnnShape.model_validate(config.shape)
    except ValidationError as e:
        raise InputError(why_invalid(e), where=folder / CONFIG_FILE, fix=_FIX) from e
    pieces = read_json(folder / TOKENIZER_FILE)
    try:
        tokenizer = Tokenizer.from_str(json.dumps(pieces))
    except Exception as e:  # the library raises plain Exception
        raise InputError(f"not a tokenizer ({e})", where=folder / TOKENIZER_FILE, fix=_FIX) from e
    model = TextCnn(shape)
    try:
        tensors = {k: v.to(torch.float32) for k, v in load_file(folder / MODEL_FILE).items()}
        model.load_state_dict(tensors)
    except (SafetensorError, RuntimeError, OSError) as e:
        reason = str(e).splitlines()[0]
        raise InputError(f"the model file is cut or of another model ({reason})", where=folder / MODEL_FILE) from e
    if tokenizer.get_vocab_size() > shape.vocabulary_size:
        raise InputError("the tokenizer has more pieces than the model", where=folder, fix=_FIX)
    return EmotionClassifier(model, tokenizer, config)


def encode(tokenizer: Tokenizer, texts: Sequence[str], *, max_pieces: int) -> list[list[int]]:
    """Give the piece numbers of each text, at most ``max_pieces``: from both ends where it is longer."""
    # A lone surrogate, as a broken file may give, would stop the tokenizer: it becomes a question mark.
    clean = [_ends(t, MAX_CHARS).encode("utf-8", "replace").decode() for t in texts]
    found = [e.ids for e in tokenizer.encode_batch(clean, add_special_tokens=False)]
    return [_ends(ids, max_pieces) for ids in found]


_S = TypeVar("_S", str, list[int])


def _ends(items: _S, limit: int) -> _S:
    return items if len(items) <= limit else items[: limit - limit // 2] + items[len(items) - limit // 2 :]


def pad(ids: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Give ``input_ids`` (B, S) and ``n_pieces`` (B,) as int64 tensors, padded with 0 on the right."""
    import torch

    lengths = [len(pieces) for pieces in ids]
    input_ids = torch.zeros((len(ids), max(1, *lengths) if lengths else 1), dtype=torch.int64)
    for k, pieces in enumerate(ids):
        input_ids[k, : len(pieces)] = torch.tensor(pieces, dtype=torch.int64)
    return {"input_ids": input_ids, "n_pieces": torch.tensor(lengths, dtype=torch.int64).clamp(min=1)}
