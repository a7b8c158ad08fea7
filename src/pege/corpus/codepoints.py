"""Utterances as one array of code points, so that rules run over all of them at once."""

from __future__ import annotations

import functools
import sys
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

# Classes of a code point, bits of `classes()`.
SPACE = 1  # what str.isspace says
LETTER = 2  # letters of any script, Han among them
CJK = 4  # Han, kana, and the punctuation written without spaces
DIGIT = 8
INVISIBLE = 16  # control and format characters that print nothing
UNCOMPOSED = 32  # may change under NFC
EMOJI = 64
FOLDED = 128  # has a plain form in `folds()`, or is a Latin ligature
_HAN = ((0x3400, 0x4DC0), (0x4E00, 0xA000), (0xF900, 0xFB00), (0x20000, 0x323B0))
_KANA = ((0x3040, 0x3100), (0x31F0, 0x3200))
_CJK_PUNCTUATION = ((0x3001, 0x3040), (0xFF00, 0xFF66))
_EMOJI = ((0x2190, 0x2C00), (0xFE0F, 0xFE10), (0x1F000, 0x1FB00))
_INVISIBLE = ((0xAD, 0xAE), (0x180E, 0x180F), (0x200B, 0x2010), (0x202A, 0x202F), (0x2060, 0x2070), (0xFEFF, 0xFF00),
              (0xFFF9, 0xFFFC), (0xFFFE, 0x10000), (0xE0000, 0xE0080))  # fmt: skip
_JAMO = ((0x1161, 0x1176), (0x11A8, 0x11C3))  # Hangul vowels and finals, which NFC joins to what is before
LIGATURES = {"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"}
_NO_TEXT_FROM = 0x323B0  # planes above hold tags and private use only


@dataclass(frozen=True)
class CodePoints:
    """N utterances.

    Attributes:
        points: uint32, all utterances one after the other.
        starts: int64, (N + 1,): utterance k is ``points[starts[k] : starts[k + 1]]``.
    """

    points: NDArray[np.uint32]
    starts: NDArray[np.int64]

    @functools.cached_property
    def classes(self) -> NDArray[np.uint8]:
        """The class bits of each code point."""
        return classes()[self.points]

    def owners(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Give the utterance of each position."""
        return np.searchsorted(self.starts, positions, side="right") - 1

    def keep(self, mask: NDArray[np.bool_]) -> CodePoints:
        """Leave out the code points where ``mask`` is false."""
        counts = np.concatenate(([0], np.cumsum(mask, dtype=np.int64)))
        return CodePoints(self.points[mask], counts[self.starts])

    def replaced(self, places: NDArray[np.int64], others: CodePoints) -> CodePoints:
        """Put other utterances at some places; fast where they are few."""
        lengths = self.lengths()
        lengths[places] = others.lengths()
        before = np.split(self.points, np.ravel((self.starts[places], self.starts[places + 1]), order="F"))
        before[1::2] = np.split(others.points, others.starts[1:-1])
        return CodePoints(np.concatenate(before), np.concatenate(([0], np.cumsum(lengths))))

    def sums(self, values: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Count the true values of each utterance; fast where they are few."""
        return np.diff(np.searchsorted(np.flatnonzero(values), self.starts))

    def lengths(self) -> NDArray[np.int64]:
        """Count the code points of each utterance."""
        return np.diff(self.starts)

    def owning(self, values: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Give for each utterance whether one of the values is true."""
        mask = np.zeros(len(self.starts) - 1, np.bool_)
        mask[self.owners(np.flatnonzero(values))] = True
        return mask

    def firsts(self) -> NDArray[np.int64]:
        """Give the position of the first code point of each utterance that has one."""
        return self.starts[:-1][self.starts[1:] > self.starts[:-1]]

    def lasts(self) -> NDArray[np.int64]:
        """Give the position of the last code point of each utterance that has one."""
        return self.starts[1:][self.starts[1:] > self.starts[:-1]] - 1


def as_texts(texts: Iterable[str]) -> pa.StringArray:
    """Give strings as an Arrow array; a lone surrogate, which UTF-8 cannot hold, becomes U+FFFD."""
    values = list(texts)
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:
        return pa.array([t.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for t in values], pa.string())


def octets(texts: pa.StringArray) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Give the UTF-8 of utterances (no nulls) as one array, and where each starts in it, (N + 1,)."""
    offsets = np.frombuffer(texts.buffers()[1] or b"\0\0\0\0", np.int32)[texts.offset : texts.offset + len(texts) + 1]
    data = np.frombuffer(texts.buffers()[2] or b"", np.uint8)[offsets[0] : offsets[-1]]
    return data, offsets.astype(np.int64) - offsets[0]


def decode(texts: pa.StringArray) -> CodePoints:
    """Give utterances (no nulls) as code points."""
    data, starts = octets(texts)
    if not data.size or data.max() < 0x80:  # ASCII: an octet is a code point
        return CodePoints(data.astype(np.uint32), starts)
    points = np.frombuffer(data.tobytes().decode("utf-8").encode("utf-32-le"), np.uint32)
    lengths = pc.utf8_length(texts).to_numpy(zero_copy_only=False)
    return CodePoints(points, np.concatenate(([0], np.cumsum(lengths, dtype=np.int64))))


_last: tuple[pa.StringArray, CodePoints] | None = None


def decode_batch(texts: pa.StringArray) -> CodePoints:
    """Do `decode`, and remember the result until another batch comes: rule after rule asks for the same one."""
    global _last
    known = _last
    if known is None or known[0] is not texts:
        known = _last = (texts, decode(texts))
    return known[1]


def replace_in_batch(texts: pa.StringArray, mask: NDArray[np.bool_], some: pa.StringArray) -> pa.StringArray:
    """Put other utterances where ``mask`` is true; what `decode_batch` remembers is brought up to date."""
    global _last
    if not len(some):
        return texts
    result = pc.replace_with_mask(texts, pa.array(mask), some)
    if _last is not None and _last[0] is texts and 8 * len(some) < len(texts):
        _last = (result, _last[1].replaced(np.flatnonzero(mask), decode(some)))
    return result


def encode(points: CodePoints) -> pa.StringArray:
    """Give code points as utterances again."""
    values = points.points
    widths = 1 + (values >= 0x80).astype(np.int64) + (values >= 0x800) + (values >= 0x10000)
    ends = np.concatenate(([0], np.cumsum(widths)))
    offsets = ends[points.starts].astype(np.int32)
    data = values.astype("<u4").tobytes().decode("utf-32-le").encode("utf-8")
    return pa.StringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets.tobytes()), pa.py_buffer(data))


@functools.cache
def classes() -> NDArray[np.uint8]:
    """Give the class bits of every code point of Unicode, uint8 (0x110000,)."""
    table = np.zeros(sys.maxunicode + 1, np.uint8)
    for point in range(_NO_TEXT_FROM):
        table[point] = _class(point)
    for ranges, bit in ((_HAN, CJK), (_KANA, CJK), (_CJK_PUNCTUATION, CJK), (_EMOJI, EMOJI), (_INVISIBLE, INVISIBLE)):
        for start, stop in ranges:
            table[start:stop] |= bit
    table[0xFE00:0xFE10] &= ~np.uint8(UNCOMPOSED)  # variation selectors, which join nothing
    for start, stop in _JAMO:
        table[start:stop] |= UNCOMPOSED
    table[folds() != np.arange(len(table))] |= FOLDED
    table[[ord(c) for c in LIGATURES]] |= FOLDED
    table.flags.writeable = False
    return table


def _class(point: int) -> int:
    character = chr(point)
    category = unicodedata.category(character)
    is_space = character.isspace()
    bits = SPACE if is_space else 0
    bits |= LETTER if category[0] == "L" else 0
    bits |= DIGIT if category[0] == "N" else 0
    bits |= INVISIBLE if category == "Cc" and not is_space else 0
    if point >= 0xC0 and category != "Cs":
        is_mark = category[0] == "M" or unicodedata.combining(character) != 0
        bits |= UNCOMPOSED if is_mark or not unicodedata.is_normalized("NFC", character) else 0
    return bits


@functools.cache
def folds() -> NDArray[np.uint32]:
    """Give for every code point the plain one that NFKC has for it, where that changes no meaning, uint32 (0x110000,).

    These are full-width letters, digits and signs, half-width kana, and letters of decorative alphabets. Chinese
    punctuation, circled numbers, fractions and trade marks stay as they are.
    """
    table = np.arange(sys.maxunicode + 1, dtype=np.uint32)
    punctuation = {ord(c) for c in "！（），：；？～｡"}
    for start, stop in ((0xFF01, 0xFF5F), (0xFF65, 0xFFA0), (0x1D400, 0x1D800)):
        for point in range(start, stop):
            plain = unicodedata.normalize("NFKC", chr(point))
            if point not in punctuation and len(plain) == 1:
                table[point] = ord(plain)
    table.flags.writeable = False
    return table
