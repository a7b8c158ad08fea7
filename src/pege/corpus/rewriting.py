"""Cleaning rules that rewrite utterances. Each gives back as many, and what it gave back it leaves alone."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from pege.corpus.codepoints import (
    CJK,
    DIGIT,
    EMOJI,
    FOLDED,
    INVISIBLE,
    LIGATURES,
    SPACE,
    UNCOMPOSED,
    CodePoints,
    as_texts,
    classes,
    decode,
    decode_batch,
    encode,
    folds,
    octets,
    replace_in_batch,
)

_ZERO_WIDTH_JOINER = 0x200D
_MAX_PASSES = 10

# A web address; what stands before it is group 1 and stays. No look-around in RE2.
_URL_TAIL = r"[A-Za-z0-9\-._~:/?#@!$&*+;=%()]*"
_ALPHANUMERIC = np.array([k < 0x80 and chr(k).isalnum() for k in range(256)])
_STEM = r"(?:[a-z0-9][a-z0-9\-]{0,62}\.)+"
_URL = (
    rf"(?i)(?:https?|ftp)://{_URL_TAIL}"
    rf"|(^|[^a-z0-9@._\-])(?:www\.[a-z0-9]{_URL_TAIL}|{_STEM}(?:me|be|ly|gl)/{_URL_TAIL}"
    rf"|{_STEM}(?:com|net|org|edu|gov|info|xyz|cn|cc|io|co\.uk)(?:[/?:]{_URL_TAIL}|\b))"
)

_TAGS = (
    "a|abbr|article|aside|audio|b|big|blockquote|body|br|button|caption|center|cite|code|col|dd|del|details|div|dl|dt|em"
    "|embed|figcaption|figure|font|footer|form|h[1-6]|head|header|hr|html|i|iframe|img|input|ins|kbd|label|li|link|main"
    "|mark|meta|nav|noscript|ol|option|p|param|pre|q|s|samp|script|section|select|small|source|span|strike|strong|style"
    "|sub|summary|sup|svg|table|tbody|td|textarea|tfoot|th|thead|time|title|tr|tt|u|ul|var|video|wbr"
)
TAG = rf"(?i)</?(?:{_TAGS})(?:\s[^<>]*)?/?>|<!--[^<>]*-->|<!doctype[^<>]*>"
_INLINE_TAG = (
    r"(?i)</?(?:a|abbr|b|big|cite|code|del|em|font|i|ins|kbd|mark|q|s|samp|small|span|strike|strong|sub|sup|tt|u"
    r"|var|wbr)(?:\s[^<>]*)?/?>"
)
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_MARKDOWN = (
    (r"!?\[([^\[\]\n]*)\]\((?:https?://|www\.|/)[^()\s]*\)", r"\1"),  # [text](address)
    (r"\B\*+([^\s*](?:[^*\n]*[^\s*])?)\*+\B", r"\1"),  # *emphasis*, **more**; 5*3*2 and 3 * 4 stay
    (r"(^|[\s(\"'])_+([^\s_](?:[^_\n]*[^\s_])?)_+($|[\s.,;:!?)\"'])", r"\1\2\3"),  # _emphasis_; snake_case stays
    (r"~~([^~\n]+)~~", r"\1"),
    (r"`+([^`\n]+)`+", r"\1"),
    (r"(?m)^[ \t]*(?:>[ \t]*)+([^\s<>_=.^)\-])", r"\1"),  # > quoted; >_< stays
    (r"(?m)^[ \t]*#{1,6}[ \t]+", ""),
)
_MARKUP = "|".join((TAG, _ENTITY.pattern, *(f"(?:{pattern})" for pattern, _ in _MARKDOWN)))
_HAN_NAME = r"[A-Za-z0-9_\-\x{3400}-\x{4dbf}\x{4e00}-\x{9fff}]+"  # \p{Han} takes long to compile
_MENTIONS = (
    (rf"(^|[^A-Za-z0-9_.\-])(?://\s*|回复\s*|转发\s*)?@{_HAN_NAME}\s*[:：]", r"\1 "),  # 回复@name: //@name:
    (rf"(^|[^A-Za-z0-9_.\-@])@{_HAN_NAME}(\s|$)", r"\1\2"),
    (r"(^|[^A-Za-z0-9_.\-@])@[A-Za-z0-9_]{2,30}", r"\1"),
    (r"(^|[\s(,])/?[ur]/[A-Za-z0-9_\-]{2,30}", r"\1"),
)


class NoOptions(BaseModel):
    """A rule without options."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RunOptions(BaseModel):
    """Options of `cut_runs`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    max_run: int = Field(default=3, ge=1)
    """Times that one character may stand in a row."""


def normalise_unicode(texts: pa.StringArray, options: NoOptions) -> pa.StringArray:
    """NFC, plain forms of full-width and decorative letters, no control and zero-width characters.

    Chinese punctuation stays full-width; a joiner stays between emoji.
    """
    points = decode_batch(texts)
    is_odd = (points.classes & (INVISIBLE | UNCOMPOSED | FOLDED)) != 0
    return _where(texts, points.owning(is_odd), _normalise)


def _normalise(texts: pa.StringArray) -> pa.StringArray:
    points = decode(texts)
    texts = encode(_without_invisible(CodePoints(folds()[points.points], points.starts)))
    for ligature, letters in LIGATURES.items():
        texts = pc.replace_substring(texts, ligature, letters)
    points = decode(texts)
    return _where(texts, points.owning((points.classes & UNCOMPOSED) != 0), _compose)


def _compose(texts: pa.StringArray) -> pa.StringArray:
    """By the standard library: Arrow's normalisation does not compose. A loop, but over few utterances."""
    return as_texts(unicodedata.normalize("NFC", t) for t in texts.to_pylist())


def _without_invisible(points: CodePoints) -> CodePoints:
    kinds = points.classes
    points = points.keep(((kinds & INVISIBLE) == 0) | (points.points == _ZERO_WIDTH_JOINER))
    joiners = np.flatnonzero(points.points == _ZERO_WIDTH_JOINER)
    if not joiners.size:
        return points
    is_emoji = np.concatenate((points.classes & EMOJI, [0])) != 0
    inside = np.ones(len(points.points) + 1, np.bool_)
    inside[points.starts] = False  # the first of an utterance has nothing before it
    keep = np.ones(len(points.points), np.bool_)
    keep[joiners] = is_emoji[joiners - 1] & inside[joiners] & is_emoji[joiners + 1] & inside[joiners + 1]
    return points.keep(keep)


def tidy_whitespace(texts: pa.StringArray, options: NoOptions) -> pa.StringArray:
    """One space between words, none at the ends and none between Chinese characters or their punctuation."""
    points = decode_batch(texts)
    kinds = points.classes
    is_space = (kinds & SPACE) != 0
    is_bad = is_space & (points.points != 0x20)
    is_bad[1:] |= is_space[1:] & is_space[:-1]
    is_bad[1:-1] |= is_space[1:-1] & ((kinds[:-2] & kinds[2:] & CJK) != 0)
    edges = np.concatenate((points.firsts(), points.lasts()))
    is_bad[edges] |= is_space[edges]
    return _where(texts, points.owning(is_bad), _tidy)


def _tidy(texts: pa.StringArray) -> pa.StringArray:
    single = pc.replace_substring_regex(pc.utf8_trim_whitespace(_plain_spaces(texts)), " {2,}", " ")
    points = decode(single)
    spaces = np.flatnonzero(points.points == 0x20)
    kinds = points.classes
    keep = np.ones(len(kinds), np.bool_)
    keep[spaces] = (kinds[spaces - 1] & kinds[spaces + 1] & CJK) == 0 if spaces.size else True
    return encode(points.keep(keep))


def _plain_spaces(texts: pa.StringArray) -> pa.StringArray:
    points = decode(texts)
    is_space = (points.classes & SPACE) != 0
    return encode(CodePoints(np.where(is_space, np.uint32(0x20), points.points), points.starts))


def strip_markup(texts: pa.StringArray, options: NoOptions) -> pa.StringArray:
    """Take HTML tags and Markdown marks away, their text stays; HTML entities become what they stand for."""
    return _until_stable(texts, markup_mask(texts), _strip_markup_once, "[<>&*_~`]|(?m:^[ \t]*#+)")


def markup_mask(texts: pa.StringArray) -> NDArray[np.bool_]:
    """Give for each utterance whether it holds tags, entities or Markdown marks."""
    return matching(texts, _MARKUP, among=holding(texts, "<>&*_~`[#"))


def _strip_markup_once(texts: pa.StringArray) -> pa.StringArray:
    texts = pc.replace_substring_regex(texts, r"&(?:amp;)+", "&")
    texts = pc.replace_substring_regex(texts, _INLINE_TAG, "")
    texts = pc.replace_substring_regex(texts, TAG, " ")
    for pattern, replacement in _MARKDOWN:
        texts = pc.replace_substring_regex(texts, pattern, replacement)
    has_entity = pc.match_substring_regex(texts, _ENTITY.pattern).to_numpy(zero_copy_only=False)
    return _where(texts, has_entity, _without_entities)


def _without_entities(texts: pa.StringArray) -> pa.StringArray:
    """By the standard library's table: a loop, but only over the few utterances that hold one."""
    return as_texts(_ENTITY.sub(_character, t) for t in texts.to_pylist())


def _character(entity: re.Match[str]) -> str:
    found = html.unescape(entity.group())
    return "" if found == entity.group() else found.replace("\x00", "")


def strip_urls(texts: pa.StringArray, options: NoOptions) -> pa.StringArray:
    """Take web addresses away."""
    return _until_stable(texts, url_mask(texts), lambda some: pc.replace_substring_regex(some, _URL, r"\1 "), r"[:/.]")


def url_mask(texts: pa.StringArray) -> NDArray[np.bool_]:
    """Give for each utterance whether it holds a web address, with or without ``http``."""
    data, starts = octets(texts)
    dots, slashes = (np.flatnonzero(data[:-1] == ord(sign)) for sign in "./")
    signs = np.concatenate((dots[_ALPHANUMERIC[data[dots + 1]]], slashes[data[slashes + 1] == ord("/")]))
    return matching(texts, _URL, among=_marked(signs, starts))


def strip_mentions(texts: pa.StringArray, options: NoOptions) -> pa.StringArray:
    """Take ``@name``, ``回复@name:``, ``//@name:``, ``u/name`` and ``r/name`` away; e-mail addresses stay."""
    return _until_stable(texts, holding(texts, "@/"), _strip_mentions_once, "[@/]")


def _strip_mentions_once(texts: pa.StringArray) -> pa.StringArray:
    for pattern, replacement in _MENTIONS:
        texts = pc.replace_substring_regex(texts, pattern, replacement)
    return texts


def cut_runs(texts: pa.StringArray, options: RunOptions) -> pa.StringArray:
    """Cut a longer run of one character to ``max_run``; digits and spaces are left alone."""
    points = decode_batch(texts)
    is_over = runs_over(points, options.max_run)
    if not is_over.any():
        return texts

    def rewrite(some: pa.StringArray) -> pa.StringArray:
        chosen = decode(some)
        return encode(chosen.keep(~runs_over(chosen, options.max_run)))

    return _where(texts, points.owning(is_over), rewrite)


def runs_over(points: CodePoints, max_run: int) -> NDArray[np.bool_]:
    """Mark each character, digits and spaces aside, with ``max_run`` of its kind right before it in its utterance."""
    values = points.points
    is_over = np.zeros(len(values), np.bool_)
    if len(values) <= max_run:
        return is_over
    same = values[1:] == values[:-1]
    long = same[max_run - 1 :].copy()
    for back in range(1, max_run):
        long &= same[max_run - 1 - back : len(same) - back]
    hits = np.flatnonzero(long) + max_run
    hits = hits[hits - max_run >= points.starts[points.owners(hits)]]
    is_over[hits[(classes()[values[hits]] & (DIGIT | SPACE)) == 0]] = True
    return is_over


# ---- only where there is something to do


def holding(texts: pa.StringArray, signs: str) -> NDArray[np.bool_]:
    """Give for each utterance whether it holds one of some ASCII signs: far cheaper than a regular expression."""
    data, starts = octets(texts)
    is_sign = np.zeros(len(data), np.bool_)
    for sign in signs:
        is_sign |= data == ord(sign)
    return _marked(np.flatnonzero(is_sign), starts)


def _marked(positions: NDArray[np.int64], starts: NDArray[np.int64]) -> NDArray[np.bool_]:
    mask = np.zeros(len(starts) - 1, np.bool_)
    mask[np.searchsorted(starts, positions, side="right") - 1] = True
    return mask


def matching(texts: pa.StringArray, pattern: str, *, among: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Give for each utterance whether a pattern is found in it; only those under the mask are searched."""
    found = np.zeros(len(texts), np.bool_)
    if among.any():
        found[among] = pc.match_substring_regex(texts.filter(pa.array(among)), pattern).to_numpy(zero_copy_only=False)
    return found


def _where(
    texts: pa.StringArray, mask: NDArray[np.bool_], rewrite: Callable[[pa.StringArray], pa.StringArray]
) -> pa.StringArray:
    """Rewrite the utterances under a mask."""
    if not mask.any():
        return texts
    before = texts.filter(pa.array(mask))
    after = rewrite(before)
    return texts if after.equals(before) else replace_in_batch(texts, mask, after)


def _until_stable(
    texts: pa.StringArray, mask: NDArray[np.bool_], rewrite: Callable[[pa.StringArray], pa.StringArray], signs: str
) -> pa.StringArray:
    """Rewrite what is under the mask until it no longer changes; what is nested too deep loses the signs themselves."""

    def settle(some: pa.StringArray) -> pa.StringArray:
        for _ in range(_MAX_PASSES):
            new = rewrite(some)
            changes = pc.not_equal(new, some).to_numpy(zero_copy_only=False)
            some = new
            if not changes.any():
                return some
        return _where(some, changes, lambda deep: pc.replace_substring_regex(deep, signs, ""))

    return _where(texts, mask, settle)
