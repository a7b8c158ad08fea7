"""VAD lexicons: files of word, valence, arousal, dominance, checked and rescaled to [0, 1] (design sec. 3)."""

from __future__ import annotations

import functools
import gzip
import hashlib
import importlib.resources
import json
import logging
import math
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pege.errors import InputError, did_you_mean

log = logging.getLogger(__name__)

DIMENSIONS = ("valence", "arousal", "dominance")
KNOWN_RANGES = ((0.0, 1.0), (-1.0, 1.0), (1.0, 9.0))
SHIPPED = {"pege-en": ("en",), "pege-zh": ("zh",), "pege": ("en", "zh")}
Range = tuple[float, float]
Marks = Literal["rated", "inferred"]


@dataclass(frozen=True)
class Lexicon:
    """Words and their VAD.

    Attributes:
        name: as signatures print it.
        version: of the card for ours, the first 8 hex digits of the content's sha256 for a file.
        words: word (lower-case) -> row.
        values: (n, 3) float64 in [0, 1], columns valence, arousal, dominance.
        source_range: the scale of the source before it was rescaled.
        given_range: that scale where a person named it, so that name and version alone do not tell the values.
        dimensions: ``vad``, or ``va`` for a source without dominance; that column is then 0.5 throughout, so that it
            adds 0 to every score.
        marks: ``rated`` or ``inferred`` a row, or None where the source does not say.
    """

    name: str
    version: str
    words: dict[str, int]
    values: NDArray[np.float64]
    source_range: Range = (0.0, 1.0)
    dimensions: Literal["vad", "va"] = "vad"
    marks: NDArray[np.str_] | None = field(default=None, compare=False)
    given_range: Range | None = None

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self.words

    def vad(self, word: str) -> NDArray[np.float64] | None:
        """VAD of a word, (3,), or None where the lexicon lacks it."""
        row = self.words.get(word)
        return None if row is None else self.values[row]

    @functools.cached_property
    def mean(self) -> NDArray[np.float64]:
        """Mean VAD of all words, (3,): the neutral value of Eq. 1 and the reference value of Eq. 7."""
        return np.asarray(self.values.mean(axis=0), dtype=np.float64)

    @functools.cached_property
    def digest(self) -> str:
        """Sha256 of words and values: what caches are keyed by."""
        content = hashlib.sha256("\n".join(self.words).encode())
        content.update(np.ascontiguousarray(self.values).tobytes())
        return content.hexdigest()


def mean_vad(words: Iterable[str], lexicon: Lexicon) -> NDArray[np.float64] | None:
    """Mean VAD of the words the lexicon has, (3,); None where it has none of them."""
    rows = [lexicon.words[w] for w in words if w in lexicon.words]
    return np.asarray(lexicon.values[rows].mean(axis=0), dtype=np.float64) if rows else None


def positive_anchor(lexicon: Lexicon) -> NDArray[np.float64]:
    """Anchor of PEGE-target, (3,): mean over the most positive decile, arousal at its neutral value (design sec. 4)."""
    order = np.argsort(lexicon.values[:, 0], kind="stable")
    anchor = lexicon.values[order[-max(1, len(order) // 10) :]].mean(axis=0)
    anchor[1] = lexicon.mean[1]
    return np.asarray(anchor, dtype=np.float64)


def load_lexicon(name: str | Path = "pege-en", *, value_range: Range | None = None) -> Lexicon:
    """Load a lexicon of ours by name (``pege-en``, ``pege-zh``, ``pege`` for both) or any from a file.

    A file has lines ``word<TAB>valence<TAB>arousal[<TAB>dominance]``, with or without a header; with a header the
    columns are found by name (NRC-VAD's ``term`` is the word) and more may follow. ``.gz`` is read too.

    Args:
        name: one of our names, or a path.
        value_range: the file's scale, e.g. ``(1, 5)``; without it one of [0, 1], [-1, 1], [1, 9] is recognised.

    Raises:
        InputError: no such lexicon; a line that cannot be read; NaN; a value off the scale; a scale not recognised, or
            named for one of ours, or with bounds that are not finite or not in order.
    """
    if value_range is not None and not -math.inf < value_range[0] < value_range[1] < math.inf:
        low, high = value_range
        raise InputError(
            f"the range {low:g} {high:g} is no scale", fix="name its lowest and its highest value, e.g. 1 5"
        )
    if str(name) in SHIPPED:
        if value_range:
            raise InputError("its scale is known", where=name, fix="take --lexicon_range away")
        return _load_shipped(str(name))
    path = Path(name)
    if not path.is_file():
        near = did_you_mean(str(name), SHIPPED)
        raise InputError("no such lexicon", where=name, fix=f"name a file, or one of ours: {near}")
    return _load_file(path, value_range)


@functools.cache
def _load_shipped(name: str) -> Lexicon:
    folder = importlib.resources.files("pege") / "assets" / "lexicon"
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    parts = []
    for lang in SHIPPED[name]:
        with importlib.resources.as_file(folder / f"pege-{lang}.tsv.gz") as path:
            parts.append(_load_file(path, (0.0, 1.0)))
    words = {w: i for i, w in enumerate(dict.fromkeys(w for p in parts for w in p.words))}
    values, marks = np.empty((len(words), 3)), np.empty(len(words), dtype="U8")
    for part in reversed(parts):  # the first part wins where both have a word
        rows = [words[w] for w in part.words]
        values[rows] = part.values
        marks[rows] = part.marks
    return Lexicon(name=name, version=str(card["version"]), words=words, values=values, marks=marks)


def _load_file(path: Path, value_range: Range | None) -> Lexicon:
    content = _read_content(path)
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as e:
        raise InputError("is not UTF-8 text", where=path, fix="a lexicon is a text file of tab-separated lines") from e
    columns, first = _read_header(lines, path)
    sums: dict[str, list[NDArray[np.float64]]] = {}
    marks: dict[str, str] = {}
    for number, line in enumerate(lines[first:], start=first + 1):
        if not line.strip():
            continue
        word, vad, mark = _read_line(line, columns, f"{path}:{number}")
        sums.setdefault(word, []).append(vad)
        marks.setdefault(word, mark)
    if not sums:
        raise InputError("holds no words", where=path, fix="give lines of word<TAB>valence<TAB>arousal<TAB>dominance")
    n_double = sum(len(v) > 1 for v in sums.values())
    if n_double:
        log.info("%s: %d words occur more than once (case aside); their mean is taken", path, n_double)
    values = np.array([np.mean(v, axis=0) for v in sums.values()])
    low, high = value_range or _guess_range(values, path)
    outside = (values < low) | (values > high)
    if outside.any():
        word = list(sums)[int(np.argwhere(outside)[0, 0])]
        raise InputError(
            f"the value of {word!r} lies outside {low:g}..{high:g}", where=path, fix="name the right --lexicon_range"
        )
    values = (values - low) / (high - low)
    has_dominance = "dominance" in columns
    if not has_dominance:
        values = np.column_stack((values, np.full(len(values), 0.5)))
    return Lexicon(
        name=path.name.removesuffix(".gz").removesuffix(".tsv").removesuffix(".txt"),
        version=hashlib.sha256(content).hexdigest()[:8],
        words={w: i for i, w in enumerate(sums)},
        values=values,
        source_range=(low, high),
        dimensions="vad" if has_dominance else "va",
        marks=np.array([marks[w] for w in sums]) if "mark" in columns else None,
        given_range=value_range,
    )


def _read_content(path: Path) -> bytes:
    raw = path.read_bytes()
    if path.suffix != ".gz":
        return raw
    try:
        return gzip.decompress(raw)
    except (EOFError, OSError, zlib.error) as e:
        raise InputError(f"the archive is cut or broken ({e})", where=path, fix="fetch it again") from e


def _read_header(lines: list[str], path: Path) -> tuple[dict[str, int], int]:
    """Give column name -> index, and the number of header lines (0 or 1)."""
    cells = [c.strip().lower() for c in lines[0].split("\t")] if lines else []
    if len(cells) > 1 and not _is_number(cells[1]):
        columns = {c: i for i, c in enumerate(cells)}
        if "term" in columns:  # as NRC-VAD has it
            columns.setdefault("word", columns["term"])
        missing = [name for name in ("word", *DIMENSIONS[:2]) if name not in columns]
        if missing:
            raise InputError(
                f"lacks the column {' and '.join(missing)}",
                where=f"{path}:1",
                fix="the header is word, valence, arousal[, dominance]",
            )
        return columns, 1
    if len(cells) not in (3, 4):
        raise InputError(
            f"has {len(cells)} tab-separated columns",
            where=f"{path}:1",
            fix="give word<TAB>valence<TAB>arousal[<TAB>dominance]",
        )
    return dict(zip(("word", *DIMENSIONS)[: len(cells)], range(len(cells)), strict=True)), 0


def _read_line(line: str, columns: dict[str, int], where: str) -> tuple[str, NDArray[np.float64], str]:
    cells = line.split("\t")
    n_columns = max(columns.values()) + 1
    if len(cells) < n_columns:
        raise InputError(f"has {len(cells)} columns, not {n_columns}", where=where, fix="separate them by tabs")
    word = cells[columns["word"]].strip().lower()
    values = []
    for d in DIMENSIONS:
        if d in columns:
            cell = cells[columns[d]].strip()
            if not _is_number(cell) or not math.isfinite(float(cell)):
                raise InputError(f"the {d} of {word!r} is {cell!r}", where=where, fix="give a finite number")
            values.append(float(cell))
    if not word:
        raise InputError("has no word", where=where, fix="take the line out")
    return word, np.array(values), cells[columns["mark"]].strip() if "mark" in columns else ""


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _guess_range(values: NDArray[np.float64], path: Path) -> Range:
    low, high = values.min(), values.max()
    if low >= 1 and high <= 5 and high > 1:
        raise InputError(
            f"its values run from {low:g} to {high:g}: a scale of 1..5 or of 1..9?",
            where=path,
            fix="name it: --lexicon_range 1 5",
        )
    for known in KNOWN_RANGES:
        if known[0] <= low and high <= known[1]:
            return known
    raise InputError(
        f"its values run from {low:g} to {high:g}, on no scale known (0..1, -1..1, 1..9)",
        where=path,
        fix="name it, e.g. --lexicon_range 0 100",
    )
