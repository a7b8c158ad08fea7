"""Labelled text on disk: one label, or a probability for each, and a text a line."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pege.errors import InputError, did_you_mean

#: The classes of emotion, in the order of every array's last axis.
LABELS = ("negative", "neutral", "positive")
Target = tuple[float, ...]


@dataclass(frozen=True)
class LabelledTexts:
    """Texts and what is known of their emotion, or of whatever the labels name.

    Attributes:
        texts: N texts, none of them blank.
        targets: (N, K) float64, rows sum to 1; a label is a row with one 1.
        labels: K names, in the order of the columns.
    """

    texts: list[str]
    targets: NDArray[np.float64]
    labels: tuple[str, ...] = LABELS

    @property
    def classes(self) -> NDArray[np.int64]:
        """(N,) the most probable class of each text, an index into ``labels``."""
        best: NDArray[np.int64] = self.targets.argmax(axis=1).astype(np.int64)
        return best


def read_labelled(
    paths: Path | str | Sequence[Path | str],
    *,
    aliases: Mapping[str, str] | None = None,
    labels: Sequence[str] = LABELS,
) -> LabelledTexts:
    """Read labelled text from one file or several.

    Args:
        paths: ``.tsv`` or ``.tsv.gz``, UTF-8, with the header ``label<TAB>text`` or, for probabilities, the labels and
            ``text``, e.g. ``negative<TAB>neutral<TAB>positive<TAB>text``. Lines with a blank text are left out.
        aliases: other labels and what they mean, e.g. ``{"joy": "positive"}``; to ``""`` to leave them out.
        labels: the classes, two or more.

    Raises:
        InputError: no such file, a cut archive, another header, an unknown label, a row that is no distribution,
            no text at all, or labels that are blank, twice the same or fewer than two.
    """
    known = tuple(labels)
    if len(set(known)) != len(known) or len(known) < 2 or not all(c == c.strip() and c for c in known):
        raise InputError(f"labels {' '.join(known)!r}: two or more different names are needed", where="--labels")
    for old, new in (aliases or {}).items():
        if new and new not in known:
            raise InputError(f"label {old!r} cannot mean {new!r}", fix=did_you_mean(new, known))
    texts: list[str] = []
    targets: list[Target] = []
    files = [paths] if isinstance(paths, Path | str) else list(paths)
    for path in files:
        for text, target in _read_file(Path(path), dict(aliases or {}), known):
            texts.append(text)
            targets.append(target)
    if not texts:
        raise InputError("no labelled text", where=", ".join(str(p) for p in files), fix=_headers(known))
    return LabelledTexts(texts, np.array(targets, dtype=np.float64), known)


def _headers(labels: tuple[str, ...]) -> str:
    return f"the header is label<TAB>text, or {'<TAB>'.join(labels)}<TAB>text for probabilities"


def _read_file(path: Path, aliases: Mapping[str, str], labels: tuple[str, ...]) -> Iterator[tuple[str, Target]]:
    if not path.is_file():
        raise InputError("no such file", where=path)
    headers = (("label", "text"), (*(c.lower() for c in labels), "text"))
    line = 0
    header: tuple[str, ...] | None = None
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as source:
            for line, raw in enumerate(source, start=1):
                cells = tuple(raw.decode("utf-8").rstrip("\r\n").split("\t"))
                if header is None:
                    header = tuple(c.strip().lower() for c in cells)
                    if header not in headers:
                        raise InputError(f"unknown header {'|'.join(cells)[:80]!r}", where=path, fix=_headers(labels))
                    continue
                if len(cells) < len(header):
                    raise InputError("a column is missing", where=f"{path}:{line}", fix=_headers(labels))
                text = " ".join(cells[len(header) - 1 :]).strip()
                target = _target(cells[: len(header) - 1], aliases, labels, where=f"{path}:{line}")
                if text and target is not None:
                    yield text, target
    except UnicodeDecodeError as e:
        raise InputError("is not UTF-8", where=f"{path}:{line + 1}", fix="save the file as UTF-8") from e
    except (EOFError, gzip.BadGzipFile, zlib.error) as e:
        raise InputError(f"the archive is cut or broken after line {line}", where=path, fix="fetch it again") from e


def _target(cells: Sequence[str], aliases: Mapping[str, str], labels: tuple[str, ...], *, where: str) -> Target | None:
    if len(cells) == 1:
        label = aliases.get(cells[0].strip(), cells[0].strip())
        if not label:
            return None
        if label not in labels:
            raise InputError(
                f"unknown label {label[:40]!r}", where=where, fix=f"use {', '.join(labels)}, or map it with --alias"
            )
        return tuple(float(label == known) for known in labels)
    try:
        values = np.array([float(c) for c in cells])
    except ValueError as e:
        raise InputError("a probability is no number", where=where) from e
    if not (np.isfinite(values).all() and (values >= 0).all() and abs(values.sum() - 1) <= 0.02):
        raise InputError("the probabilities do not sum to 1", where=where)
    return tuple((values / values.sum()).tolist())
