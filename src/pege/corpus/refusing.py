"""Cleaning rules that refuse utterances: true where one is bad. Each looks at one utterance at a time."""

from __future__ import annotations

import functools
import importlib.resources
import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from pege.corpus.codepoints import CJK, DIGIT, LETTER, SPACE, CodePoints, decode, decode_batch
from pege.corpus.rewriting import NoOptions, markup_mask, matching, runs_over, url_mask

_FROZEN = ConfigDict(frozen=True, extra="forbid")
_PRIME, _OTHER_PRIME = np.uint32(0x9E3779B1), np.uint32(0x85EBCA77)  # spread the bits of a code point
_MAX_PERIOD = 8  # words of a loop
_NEAR = 3  # words
_BLOCK = 16

# UTF-8 that was read as Latin-1, Windows-1252 or GBK; bytes that were lost; the fill of unset memory.
MOJIBAKE = (
    r"\x{fffd}|锟斤拷|烫烫烫|屯屯屯|ï»¿|Ã[\x{80}-\x{bf}ƒ‚„…†‡ˆ‰Š‹ŒŽ]|Â[\x{80}-\x{bf}]|â€|ðŸ|鈥[檚淇渄滀濈檛]|銆傦紝|锛屾垜"
    r"|[äåæçèé][\x{80}-\x{bf}\x{152}-\x{178}\x{2013}-\x{2122}]{2}[äåæçèéï]"
)

# 求助者：, Therapist:, [User]: ; a plain "User:" counts at the start of an utterance or behind the end of a sentence.
SPEAKER_LABEL = (
    r"(?:求助者|支持者|咨询师|来访者|心理咨询师|用户|机器人|助手|答主|题主)[:：]"
    r"|(?:^|[.!?。！？\n]\s*|\[)(?:User|Assistant|Human|AI|Bot|Chatbot|Client|Therapist|Counsell?or|Seeker|Supporter"
    r"|Speaker [AB12])\]?: "
)


class ShortOptions(BaseModel):
    """Options of `is_too_short`."""

    model_config = _FROZEN
    min_chars: int = Field(default=2, ge=1)
    """Characters, spaces aside; a Han character or kana, which is a word, counts two."""


class LongOptions(BaseModel):
    """Options of `is_too_long`."""

    model_config = _FROZEN
    max_chars: int = Field(default=1024, ge=1)  # PLATO-2, app. A
    """Characters."""
    max_words: int = Field(default=256, ge=1)
    """Words between spaces."""


class RunOptions(BaseModel):
    """Options of `has_long_run`."""

    model_config = _FROZEN
    max_run: int = Field(default=9, ge=1)
    """Times that one character may stand in a row."""


class RepeatedWordsOptions(BaseModel):
    """Options of `repeats_words`."""

    model_config = _FROZEN
    min_words: int = Field(default=8, ge=2)
    """Shorter utterances pass. A Han character counts as a word."""
    max_share: float = Field(default=0.5, gt=0, le=1)
    """Of the most frequent word among the words."""
    max_loop: float = Field(default=0.6, gt=0, le=1)
    """Share of the words that are the one 1, 2, ... or 8 words back, for the worst of these."""


class LettersOptions(BaseModel):
    """Options of `has_few_letters`."""

    model_config = _FROZEN
    min_share: float = Field(default=0.5, ge=0, le=1)
    """Letters of any script, Han among them, in what is neither space nor digit; ``!!!`` is one sign."""


class LongWordOptions(BaseModel):
    """Options of `has_long_word`."""

    model_config = _FROZEN
    max_chars: int = Field(default=30, ge=1)  # PLATO-2, app. A
    """Of a run of letters and digits; Chinese and Japanese are not counted."""


def is_empty(texts: pa.StringArray, options: NoOptions) -> pa.BooleanArray:
    """Nothing but spaces."""
    return pc.equal(pc.binary_length(pc.utf8_trim_whitespace(texts)), 0)


def is_too_short(texts: pa.StringArray, options: ShortOptions) -> pa.BooleanArray:
    """Fewer than ``min_chars`` characters, spaces aside; a Han character counts two."""
    points = decode_batch(texts)
    kinds = points.classes
    n_words = points.sums((kinds & (CJK | LETTER)) == (CJK | LETTER))
    return pa.array(points.lengths() - points.sums((kinds & SPACE) != 0) + n_words < options.min_chars)


def is_too_long(texts: pa.StringArray, options: LongOptions) -> pa.BooleanArray:
    """More than ``max_chars`` characters or ``max_words`` words."""
    lengths = pc.utf8_length(texts).to_numpy(zero_copy_only=False)
    is_bad = lengths > options.max_chars
    maybe = np.flatnonzero(~is_bad & (lengths >= 2 * options.max_words + 1))  # so many words need so many characters
    if maybe.size:
        is_bad[maybe] = _n_words(decode(texts.take(pa.array(maybe)))) > options.max_words
    return pa.array(is_bad)


def _n_words(points: CodePoints) -> NDArray[np.int64]:
    return points.sums(_word_starts(points, (points.classes & SPACE) == 0))


def _word_starts(points: CodePoints, is_word: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mark the first character of each run of marked ones; a run ends with its utterance."""
    is_first = is_word.copy()
    is_first[1:] &= ~is_word[:-1]
    is_first[points.firsts()] = is_word[points.firsts()]
    return is_first


def has_url(texts: pa.StringArray, options: NoOptions) -> pa.BooleanArray:
    """A web address, with or without ``http``."""
    return pa.array(url_mask(texts))


def has_markup(texts: pa.StringArray, options: NoOptions) -> pa.BooleanArray:
    """HTML tags or entities, Markdown marks."""
    return pa.array(markup_mask(texts))


def has_long_run(texts: pa.StringArray, options: RunOptions) -> pa.BooleanArray:
    """One character, digits and spaces aside, more than ``max_run`` times in a row."""
    points = decode_batch(texts)
    return pa.array(points.sums(runs_over(points, options.max_run)) > 0)


def repeats_words(texts: pa.StringArray, options: RepeatedWordsOptions) -> pa.BooleanArray:
    """One word makes up too much of the utterance, or a phrase of up to 8 words goes round and round."""
    maybe = _may_repeat(*_word_hashes(decode_batch(texts), whole=False), options)
    is_bad = np.zeros(len(texts), np.bool_)
    if maybe.any():
        is_bad[maybe] = _repeats(*_word_hashes(decode(texts.filter(pa.array(maybe))), whole=True), options)
    return pa.array(is_bad)


def _may_repeat(
    hashes: NDArray[np.uint32], starts: NDArray[np.int64], options: RepeatedWordsOptions
) -> NDArray[np.bool_]:
    """Find what may repeat words, whatever else: equal words have equal hashes, others seldom."""
    n_words = np.diff(starts)
    totals = []
    n_back = np.zeros(len(hashes), np.uint8)  # for each word: how many of the few before it are the same
    for back in range(1, _MAX_PERIOD + 1):
        n_back[back:] += hashes[back:] == hashes[:-back]
        if back in (_NEAR, _MAX_PERIOD):
            totals.append(np.diff(np.concatenate(([0], np.cumsum(n_back, dtype=np.int32)))[starts]))
    # Of the gaps between more than s n occurrences of a word among n, at most n (1 - s) / 3 are over 3 words wide.
    often = totals[0] > (options.max_share - (1 - options.max_share) / _NEAR) * n_words - 1
    return (n_words >= options.min_words) & (often | (totals[1] > options.max_loop * n_words))


def _repeats(hashes: NDArray[np.uint32], starts: NDArray[np.int64], options: RepeatedWordsOptions) -> NDArray[np.bool_]:
    n_words = np.diff(starts)
    is_bad = _n_in_worst_loop(hashes, starts) > options.max_loop * n_words
    for k in np.flatnonzero(~is_bad):  # few
        counts = np.unique(hashes[starts[k] : starts[k + 1]], return_counts=True)[1]
        is_bad[k] = counts.max() > options.max_share * n_words[k]
    return is_bad


def _n_in_worst_loop(hashes: NDArray[np.uint32], starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count for each utterance the words that are the one k words back, for the k from 1 to 8 with the most."""
    worst = np.zeros(len(starts) - 1, np.int64)
    for back in range(1, _MAX_PERIOD + 1):
        hits = np.flatnonzero(hashes[back:] == hashes[:-back]) + back
        owners = np.searchsorted(starts, hits, side="right") - 1
        counts = np.bincount(owners[hits - back >= starts[owners]], minlength=len(worst))
        np.maximum(worst, counts, out=worst)
    return worst


def _word_hashes(points: CodePoints, *, whole: bool) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Hash each word, upper and lower case of ASCII alike: by all its pairs of characters, or by its first two.

    A word is a run of letters and digits, or one Han character or kana.

    Returns:
        uint32 hashes (words,), and (N + 1,) where the words of each utterance start.
    """
    kinds = points.classes
    is_word = (kinds & (LETTER | DIGIT)) != 0
    is_first = _word_starts(points, is_word)
    is_cjk = (kinds & CJK) != 0
    is_first |= is_word & is_cjk
    is_first[1:] |= is_word[1:] & is_cjk[:-1]
    firsts = np.flatnonzero(is_first)
    starts = np.searchsorted(firsts, points.starts)
    if not whole:
        seconds = np.minimum(firsts + 1, len(kinds) - 1)
        inside = is_word[seconds] & ~is_first[seconds]
        return _lower(points.points[firsts]) + _lower(points.points[seconds]) * inside * _PRIME, starts
    values = _lower(points.points)
    mixed = values * _PRIME
    mixed[1:] += np.where(is_first[1:], np.uint32(0), values[:-1]) * _OTHER_PRIME
    mixed ^= mixed >> np.uint32(15)
    mixed *= _OTHER_PRIME * is_word  # what parts words counts nothing
    return np.add.reduceat(mixed, firsts) if len(firsts) else np.zeros(0, np.uint32), starts


def _lower(points: NDArray[np.uint32]) -> NDArray[np.uint32]:
    is_upper = points - np.uint32(0x41) < 26
    return points | (is_upper.astype(np.uint32) << np.uint32(5))


def has_few_letters(texts: pa.StringArray, options: LettersOptions) -> pa.BooleanArray:
    """Too small a share of letters; an utterance of digits alone has none. A sign that is repeated counts once."""
    points = decode_batch(texts)
    kinds = points.classes
    n_letters = points.sums((kinds & LETTER) != 0)
    is_repeated = np.zeros(len(kinds), np.bool_)
    is_repeated[1:] = points.points[1:] == points.points[:-1]
    is_repeated[points.firsts()] = False
    n_signs = points.sums(((kinds & (SPACE | DIGIT | LETTER)) == 0) & ~is_repeated)
    return pa.array((n_letters < options.min_share * (n_letters + n_signs)) | (n_letters == 0))


def has_long_word(texts: pa.StringArray, options: LongWordOptions) -> pa.BooleanArray:
    """A run of more than ``max_chars`` letters and digits, Chinese and Japanese aside."""
    points = decode_batch(texts)
    is_gap = _parts_words(points)
    maybe = _may_lack_gaps(is_gap, points, options.max_chars)
    is_bad = np.zeros(len(texts), np.bool_)
    if maybe.any():
        is_bad[maybe] = _lacks_gaps(decode(texts.filter(pa.array(maybe))), options.max_chars + 1)
    return pa.array(is_bad)


def _parts_words(points: CodePoints) -> NDArray[np.bool_]:
    """Mark what is no letter or digit, and Chinese and Japanese."""
    kinds = points.classes
    parts: NDArray[np.bool_] = ((kinds & (LETTER | DIGIT)) == 0) | ((kinds & CJK) != 0)
    return parts


def _may_lack_gaps(is_gap: NDArray[np.bool_], points: CodePoints, max_chars: int) -> NDArray[np.bool_]:
    """Find candidates by blocks: a run of 2 n - 1 characters or more fills one of every n wholly."""
    if max_chars + 1 < 2 * _BLOCK - 1:
        return np.ones(len(points.starts) - 1, np.bool_)
    halves = np.concatenate((is_gap, np.ones(-len(is_gap) % _BLOCK, np.bool_))).view(np.uint64)  # 8 booleans each
    blocks = np.flatnonzero((halves[::2] | halves[1::2]) == 0)
    maybe = np.zeros(len(points.starts) - 1, np.bool_)
    for edge in (0, _BLOCK - 1):  # the run's utterance owns the whole block
        maybe[points.owners(blocks * _BLOCK + edge)] = True
    return maybe


def _lacks_gaps(points: CodePoints, width: int) -> NDArray[np.bool_]:
    n_gaps = np.concatenate(([0], np.cumsum(_parts_words(points))))
    firsts = np.flatnonzero(n_gaps[width:] == n_gaps[:-width])  # so many characters without a gap start here
    owners = points.owners(firsts)
    is_bad = np.zeros(len(points.starts) - 1, np.bool_)
    is_bad[owners[firsts + width <= points.starts[owners + 1]]] = True
    return is_bad


def is_ad(texts: pa.StringArray, options: NoOptions) -> pa.BooleanArray:
    """A phrase of advertising, English or Chinese (``assets/corpus/ads.json``)."""
    return pc.match_substring_regex(texts, _ads())


@functools.cache
def _ads() -> str:
    source = importlib.resources.files("pege") / "assets" / "corpus" / "ads.json"
    phrases: dict[str, list[str]] = json.loads(source.read_text(encoding="utf-8"))
    english = "|".join(p.replace(" ", r"\s+") for p in phrases["en"])
    return rf"(?i)\b(?:{english})\b|{'|'.join(phrases['zh'])}"


def has_speaker_label(texts: pa.StringArray, options: NoOptions) -> pa.BooleanArray:
    """A label of a speaker within the utterance: a second utterance hangs on to it, or a transcript was not cut."""
    return pc.match_substring_regex(texts, SPEAKER_LABEL)


def is_mojibake(texts: pa.StringArray, options: NoOptions) -> pa.BooleanArray:
    """Text that was decoded with the wrong table, or lost bytes on its way."""
    points = decode_batch(texts)
    values = points.points
    is_sign = values - np.uint32(0x80) < 0x80
    for sign in "\ufffd锟烫屯鈥銆锛":
        is_sign |= values == ord(sign)
    return pa.array(matching(texts, MOJIBAKE, among=points.owning(is_sign)))
