"""Cascade: the fast classifier first, the encoder only where the fast one is unsure, or where it matters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from pege.emotion.calibration import Array
from pege.emotion.classifier import CONFIG_FILE, TextClassifier
from pege.emotion.evaluation import PAPER_THRESHOLDS, macro_f1, precision_above
from pege.emotion.labelled import LabelledTexts
from pege.errors import InputError
from pege.io import write_json

CASCADE_FORMAT = "pege-cascade"
_GRID = np.linspace(0, 1, 101)


class CascadeConfig(BaseModel):
    """What ``config.json`` of a cascade holds; its folder has the classifiers in ``fast`` and ``encoder``.

    Attributes:
        name: what signatures call it.
        threshold: the fast one's answer stands where its largest probability is at least this; with a label, where its
            p(label) is below this.
        label: the class that has to be right where it is likely; any class unless named.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: Literal["pege-cascade"] = "pege-cascade"
    name: str = Field(min_length=1, max_length=100)
    threshold: float = Field(ge=0, le=1)
    label: str | None = None


class Cascade(TextClassifier):
    """Two classifiers of the same classes.

    Args:
        fast: asked about every text.
        encoder: asked where ``fast`` is unsure.
        config: name and threshold.

    Raises:
        InputError: the two do not tell the same classes.
    """

    def __init__(self, fast: TextClassifier, encoder: TextClassifier, config: CascadeConfig) -> None:
        if fast.labels != encoder.labels:
            both = f"{', '.join(fast.labels)} and {', '.join(encoder.labels)}"
            raise InputError(f"a cascade needs two classifiers of the same classes, not {both}", where=config.name)
        if config.label is not None and config.label not in fast.labels:
            raise InputError(f"no class {config.label!r}", where=config.name, fix=f"one of {', '.join(fast.labels)}")
        self.fast, self.encoder, self.config = fast, encoder, config

    @property
    def name(self) -> str:
        """See ``TextClassifier``."""
        return self.config.name

    @property
    def labels(self) -> tuple[str, ...]:
        """See ``TextClassifier``."""
        return self.fast.labels

    def predict(self, texts: Sequence[str], *, batch_size: int = 256) -> NDArray[np.float64]:
        """See ``TextClassifier``."""
        probabilities = self.fast.predict(texts, batch_size=batch_size)
        unsure = np.flatnonzero(self._is_asked(probabilities)).tolist()
        if unsure:
            probabilities[unsure] = self.encoder.predict([texts[k] for k in unsure], batch_size=batch_size)
        return probabilities

    def share_unsure(self, texts: Sequence[str]) -> float:
        """Give the share of texts, one at least, that the encoder is asked about."""
        return float(self._is_asked(self.fast.predict(texts)).mean())

    def _is_asked(self, probabilities: Array) -> NDArray[np.bool_]:
        if self.config.label is None:
            return is_unsure(probabilities, self.config.threshold)
        asked: NDArray[np.bool_] = probabilities[:, self.labels.index(self.config.label)] >= self.config.threshold
        return asked

    def save(self, folder: Path | str) -> None:
        """See ``TextClassifier``; both classifiers are written too."""
        folder = Path(folder)
        self.fast.save(folder / "fast")
        self.encoder.save(folder / "encoder")
        write_json(folder / CONFIG_FILE, self.config.model_dump(mode="json"))


def train_cascade(
    fast: TextClassifier,
    encoder: TextClassifier,
    validation: LabelledTexts,
    *,
    name: str = "cascade",
    tolerance: float = 0.005,
    label: str | None = None,
) -> Cascade:
    """Join two classifiers at the threshold that ``choose_threshold`` or ``choose_floor`` finds on validation text.

    Args:
        fast: asked about every text.
        encoder: asked about some.
        validation: what chooses which.
        name: what signatures call the cascade.
        tolerance: what may be lost, in the sense of the function that chooses.
        label: the class whose p > 0.9 has to be the encoder's word (the corpus's end filter: positive); without one,
            every class counts.

    Raises:
        InputError: not all three have the same labels; another label than theirs.
    """
    cascade = Cascade(fast, encoder, CascadeConfig(name=name, threshold=1.0, label=label))
    if cascade.labels != validation.labels:
        raise InputError(f"the validation texts have other labels than {fast.name}", where="--validation")
    probabilities = fast.predict(validation.texts), encoder.predict(validation.texts)
    if label is None:
        threshold = choose_threshold(*probabilities, validation.classes, tolerance=tolerance)
    else:
        k = fast.labels.index(label)
        threshold = choose_floor(probabilities[0][:, k], probabilities[1][:, k], tolerance=tolerance)
    return Cascade(fast, encoder, CascadeConfig(name=name, threshold=threshold, label=label))


def is_unsure(probabilities: Array, threshold: float) -> NDArray[np.bool_]:
    """Give (N,) whether the largest of (N, K) probabilities is below the threshold."""
    unsure: NDArray[np.bool_] = probabilities.max(axis=1) < threshold
    return unsure


def choose_threshold(fast: Array, encoder: Array, classes: NDArray[np.int64], *, tolerance: float = 0.005) -> float:
    """Give the smallest threshold at which a cascade is as good as its encoder on validation text.

    As good: its macro-F1, and its precision above each of the paper's thresholds, are at most ``tolerance`` below
    those of the encoder alone.

    Args:
        fast: (N, K) probabilities of the fast classifier.
        encoder: (N, K) of the encoder.
        classes: (N,) what the texts are.
        tolerance: what may be lost, >= 0.

    Returns:
        A multiple of 0.01 in [0, 1]; at 1 the encoder is asked about nearly every text.
    """
    needed = _qualities(encoder, classes) - tolerance
    for threshold in _GRID:
        mixed = np.where(is_unsure(fast, threshold)[:, None], encoder, fast)
        if (_qualities(mixed, classes) >= needed).all():
            return float(round(threshold, 2))
    return 1.0


def choose_floor(fast: Array, encoder: Array, *, tolerance: float = 0.005) -> float:
    """Give the largest p(label) of the fast classifier below which the encoder need not be asked.

    Every text that a cascade takes (p(label) > 0.9, sec. 3.2's threshold of the last utterance) is then one that the
    encoder takes, so precision is the encoder's; what is lost is those that the fast one hides from it.

    Args:
        fast: (N,) p(label) by the fast classifier.
        encoder: (N,) by the encoder.
        tolerance: share of what the encoder takes that may be lost, in [0, 1).

    Returns:
        A multiple of 0.01 in [0, 0.9]; 0 where the encoder takes nothing, as nothing is known then.
    """
    taken = fast[encoder > PAPER_THRESHOLDS[1]]
    if not len(taken):
        return 0.0
    floors = [f for f in _GRID if f <= PAPER_THRESHOLDS[1] and (taken < f).mean() <= tolerance]
    return float(round(max(floors), 2))


def _qualities(probabilities: Array, classes: NDArray[np.int64]) -> Array:
    f1 = macro_f1(probabilities.argmax(axis=1).astype(np.int64), classes)
    return np.array([f1, *(precision_above(probabilities, classes, t)[0] for t in PAPER_THRESHOLDS)])
