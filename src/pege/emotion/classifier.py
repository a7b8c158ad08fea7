"""Classifiers of texts: what they all can do, and the one that is a network with a tokenizer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from pege.dialog import Emotion
from pege.emotion.calibration import softmax
from pege.emotion.labelled import LABELS
from pege.errors import InputError
from pege.io import write_atomic, write_json, write_text

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from pege.emotion.encoder import EncoderTextCnn
    from pege.emotion.textcnn import TextCnn

MODEL_FILE, TOKENIZER_FILE, CONFIG_FILE = "model.safetensors", "tokenizer.json", "config.json"
MAX_CHARS = 4_000  # read of a text, half from its start and half from its end; no utterance needs more
Pieces = list[list[int]]
_Share = Annotated[float, Field(ge=0, le=1)]


class ClassifierConfig(BaseModel):
    """What ``config.json`` of a classifier holds.

    Attributes:
        format: ``pege-textcnn``, or ``pege-encoder-textcnn`` where an encoder gives the vectors.
        name: what signatures call it.
        labels: the classes.
        temperature: divides the logits (calibration).
        prior: shares of the classes in training, the answer to a text without any piece.
        max_pieces: pieces read of a text.
        shape: sizes of the network, see ``textcnn.TextCnnShape``.
        encoder: config of the encoder as Hugging Face writes it; empty without one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: Literal["pege-textcnn", "pege-encoder-textcnn"] = "pege-textcnn"
    name: str = Field(min_length=1, max_length=100)
    labels: tuple[str, ...] = Field(default=LABELS, min_length=2, max_length=100)
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    prior: tuple[_Share, ...] = (0.25, 0.5, 0.25)
    max_pieces: int = Field(default=256, ge=1, le=10_000)
    shape: dict[str, Any]
    encoder: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _has_one_of_each_for_a_label(self) -> ClassifierConfig:
        n_labels = len(set(self.labels))
        if not n_labels == len(self.labels) == len(self.prior) == self.shape.get("n_classes", len(LABELS)):
            raise ValueError("labels, prior and n_classes must be of one length, and the labels different")
        if not sum(self.prior):
            raise ValueError("the prior is 0 everywhere")
        return self


class TextClassifier(ABC):
    """Gives the probabilities of classes for texts, English and Chinese."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What signatures call it, e.g. ``pege-textcnn-1``."""

    @property
    @abstractmethod
    def labels(self) -> tuple[str, ...]:
        """The K classes, in the order of the columns."""

    @abstractmethod
    def predict(self, texts: Sequence[str], *, batch_size: int = 256) -> NDArray[np.float64]:
        """Give (N, K) probabilities; rows sum to 1.

        A text does not change with the batch it is in. A blank text gets the prior.
        """

    @abstractmethod
    def save(self, folder: Path | str) -> None:
        """Write the folder that ``load_classifier`` loads, each file whole or not at all.

        Raises:
            InputError: the folder cannot be written.
        """

    def emotions(self, texts: Sequence[str]) -> list[Emotion]:
        """Give an ``Emotion`` for each text, as rows of a dialog hold it.

        Raises:
            InputError: the classes are no emotions.
        """
        if self.labels != LABELS:
            raise InputError(f"{self.name} tells {', '.join(self.labels)}, not emotions", fix="name another classifier")
        return [Emotion(negative=n, neutral=z, positive=p) for n, z, p in self.predict(texts).tolist()]


#: The name that the type has where the classes are the emotions.
EmotionClassifier = TextClassifier


class NetworkClassifier(TextClassifier):
    """A TextCNN, over embeddings of its own or over an encoder, with its tokenizer.

    Args:
        model: the network; it is put into evaluation mode, and must not change after the first answer.
        tokenizer: text to pieces; piece 0 is padding.
        config: name, labels, temperature and prior.
    """

    def __init__(self, model: TextCnn | EncoderTextCnn, tokenizer: Tokenizer, config: ClassifierConfig) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.config = config

    @property
    def name(self) -> str:
        """See ``TextClassifier``."""
        return self.config.name

    @property
    def labels(self) -> tuple[str, ...]:
        """See ``TextClassifier``."""
        return self.config.labels

    def predict(self, texts: Sequence[str], *, batch_size: int = 256) -> NDArray[np.float64]:
        """See ``TextClassifier``."""
        logits, is_known = self.logits(texts, batch_size=batch_size)
        probabilities = np.tile(np.array(self.config.prior) / sum(self.config.prior), (len(texts), 1))
        if is_known.any():
            probabilities[is_known] = softmax(logits[is_known], temperature=self.config.temperature)
        return probabilities

    def logits(self, texts: Sequence[str], *, batch_size: int = 256) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Give (N, K) logits before the temperature, and (N,) whether a text has any piece (else its row is 0)."""
        import torch

        ids = self.pieces(texts)
        lengths = np.array([len(pieces) for pieces in ids], dtype=np.int64)
        known = np.argsort(lengths, kind="stable")  # neighbours of one length: little padding
        known = known[lengths[known] > 0]
        found = np.zeros((len(texts), len(self.labels)))
        with torch.inference_mode():
            for start in range(0, len(known), batch_size):
                rows = known[start : start + batch_size]
                found[rows] = self._network(**pad([ids[k] for k in rows]))["logits"].double().numpy()
        return found, lengths > 0

    def pieces(self, texts: Sequence[str]) -> Pieces:
        """Give the piece numbers of each text with the special ones of an encoder; none for a blank text."""
        before, behind = self._special
        n_special = len(before) + len(behind)
        ids = encode(self.tokenizer, texts, max_pieces=max(1, self.config.max_pieces - n_special))
        return [[*before, *pieces, *behind] if pieces else [] for pieces in ids] if n_special else ids

    @cached_property
    def _network(self) -> Callable[..., dict[str, Any]]:
        from pege.emotion.tabulated import tabulate
        from pege.emotion.textcnn import TextCnn

        return tabulate(self.model) if isinstance(self.model, TextCnn) else self.model

    @cached_property
    def _special(self) -> tuple[list[int], list[int]]:
        if not self.config.encoder:
            return [], []
        from pege.emotion.encoder import special_pieces

        return special_pieces(self.tokenizer)

    def save(self, folder: Path | str) -> None:
        """Write model.safetensors (16 bit), tokenizer.json and config.json; see ``TextClassifier``."""
        import torch
        from safetensors.torch import save_file

        folder = Path(folder)
        tensors = {
            name: (v.detach().to(torch.float16) if v.is_floating_point() else v.detach().clone()).contiguous()
            for name, v in self.model.state_dict().items()
        }
        with write_atomic(folder / MODEL_FILE) as temporary:
            save_file(tensors, temporary, metadata={"format": "pt"})
        write_text(folder / TOKENIZER_FILE, self.tokenizer.to_str())
        exclude = None if self.config.encoder else {"encoder"}
        write_json(folder / CONFIG_FILE, self.config.model_dump(mode="json", exclude=exclude))


def encode(tokenizer: Tokenizer, texts: Sequence[str], *, max_pieces: int) -> Pieces:
    """Give the piece numbers of each text, at most ``max_pieces``: from both ends where it is longer."""
    # A lone surrogate, as a broken file may give, would stop the tokenizer: it becomes a question mark.
    clean = [_ends(t, MAX_CHARS).encode("utf-8", "replace").decode() for t in texts]
    found = [e.ids for e in tokenizer.encode_batch_fast(clean, add_special_tokens=False)]
    return [_ends(ids, max_pieces) for ids in found]


_S = TypeVar("_S", str, list[int])


def _ends(items: _S, limit: int) -> _S:
    return items if len(items) <= limit else items[: limit - limit // 2] + items[len(items) - limit // 2 :]


def pad(ids: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Give ``input_ids`` (B, S) and ``n_pieces`` (B,) as int64 tensors, padded with 0 on the right."""
    import torch

    lengths = np.array([len(pieces) for pieces in ids], dtype=np.int64)
    is_piece = np.arange(max(1, lengths.max(initial=1))) < lengths[:, None]  # (B, S)
    input_ids = np.zeros(is_piece.shape, dtype=np.int64)
    input_ids[is_piece] = [k for pieces in ids for k in pieces]
    return {"input_ids": torch.from_numpy(input_ids), "n_pieces": torch.from_numpy(lengths).clamp(min=1)}
