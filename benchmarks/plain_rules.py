r"""The builder's rules in plain Python, one utterance at a time: what `corpus.py` gives the builder's peers.

Phrase lists, patterns and tables of characters are the builder's own, so that only the way of working differs: a loop
with `re` here, whole columns there. `re.ASCII` gives \b, \s and \w the meaning that RE2 has for them.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pege.corpus import offensive, personal, refusing, rewriting
from pege.corpus.codepoints import CJK, DIGIT, EMOJI, INVISIBLE, LETTER, LIGATURES, SPACE, classes, folds
from pege.corpus.config import CorpusConfig
from pege.corpus.topics import load_topics

Texts = list[str]  # a dialog's utterances
_CLASSES = classes()
_JOINER = "\u200d"
_MAX_PASSES = 10


def _compiled(pattern: str, flags: int = 0) -> re.Pattern[str]:
    r"""Compile one of the builder's RE2 patterns, which write characters as \x{4e00}."""
    return re.compile(re.sub(r"\\x\{([0-9a-f]+)\}", lambda m: chr(int(m[1], 16)), pattern), re.ASCII | flags)


def _members(is_member: np.ndarray) -> str:
    """Give the marked code points as the inside of a character class.

    Above the first plane a block of 4096 belongs or not as most of it does: `re` is slow with many ranges there.
    """
    is_member = is_member.copy()
    blocks = is_member[0x10000:].reshape(-1, 4096)
    blocks[:] = blocks.mean(axis=1, keepdims=True) > 0.5
    edges = np.flatnonzero(np.diff(np.concatenate(([0], is_member.astype(np.int8), [0]))))
    return "".join(rf"\U{a:08x}-\U{b - 1:08x}" for a, b in edges.reshape(-1, 2).tolist())


def _of_class(bits: int, *, but: int = 0) -> str:
    return _members(((_CLASSES & bits) != 0) & ((_CLASSES & but) == 0))


_CJK, _WORD = _of_class(CJK), LETTER | DIGIT
_SPACES, _DIGITS, _LETTERS = (
    frozenset(map(chr, np.flatnonzero(_CLASSES & bit).tolist())) for bit in (SPACE, DIGIT, LETTER)
)

# ---- rules that rewrite

_PLAIN: dict[int, int | str | None] = {
    **{int(k): int(folds()[k]) for k in np.flatnonzero(folds() != np.arange(len(folds())))},
    **{int(k): None for k in np.flatnonzero(_CLASSES & INVISIBLE) if chr(k) != _JOINER},
    **{ord(k): v for k, v in LIGATURES.items()},
}
_LOOSE_JOINER = re.compile(rf"(?<![{_of_class(EMOJI)}]){_JOINER}|{_JOINER}(?![{_of_class(EMOJI)}])")


def plain_characters(text: str) -> str:
    """`rewriting.normalise_unicode`."""
    if text.isascii() and text.isprintable():
        return text
    text = text.translate(_PLAIN)
    if _JOINER in text:
        text = _LOOSE_JOINER.sub("", text)
    return unicodedata.normalize("NFC", text)


_INLINE_TAG, _TAG = _compiled(rewriting._INLINE_TAG), _compiled(rewriting.TAG)
_MARKDOWN = [(_compiled(pattern), replacement) for pattern, replacement in rewriting._MARKDOWN]
_AMP, _MARKUP_LEFT = re.compile(r"&(?:amp;)+"), re.compile(r"[<>&*_~`]|(?m:^[ \t]*#+)")
_MARKUP_SIGN = re.compile(r"[<>&*_~`\[#]")


def without_markup(text: str) -> str:
    """`rewriting.strip_markup`."""
    return _settled(text, _without_markup_once, _MARKUP_LEFT) if _MARKUP_SIGN.search(text) else text


def _without_markup_once(text: str) -> str:
    text = _TAG.sub(" ", _INLINE_TAG.sub("", _AMP.sub("&", text)))
    for pattern, replacement in _MARKDOWN:
        text = pattern.sub(replacement, text)
    return rewriting._ENTITY.sub(rewriting._character, text)


def _settled(text: str, rewrite: Callable[[str], str], left: re.Pattern[str]) -> str:
    for _ in range(_MAX_PASSES):
        before, text = text, rewrite(text)
        if text == before:
            return text
    return left.sub("", text)


_MENTIONS = [(_compiled(pattern), replacement) for pattern, replacement in rewriting._MENTIONS]
_MENTION_LEFT = re.compile("[@/]")


def without_mentions(text: str) -> str:
    """`rewriting.strip_mentions`."""
    return _settled(text, _without_mentions_once, _MENTION_LEFT) if "@" in text or "/" in text else text


def _without_mentions_once(text: str) -> str:
    for pattern, replacement in _MENTIONS:
        text = pattern.sub(replacement, text)
    return text


_CJK_SPACE = re.compile(rf"(?<=[{_CJK}]) (?=[{_CJK}])")


def tidy(text: str) -> str:
    """`rewriting.tidy_whitespace`."""
    return _CJK_SPACE.sub("", " ".join(text.split()))


_RUN = re.compile(r"(.)\1{3,}", re.DOTALL)


def cut_runs(text: str) -> str:
    """`rewriting.cut_runs` with its default of 3."""
    return _RUN.sub(lambda m: m[0] if m[1] in _DIGITS or m[1] in _SPACES else m[1] * 3, text)


REWRITES = (plain_characters, without_markup, without_mentions, tidy, cut_runs)

# ---- rules that refuse

_URL = _compiled(rewriting._URL)
_LONG_WORD = re.compile(rf"[{_of_class(_WORD, but=CJK)}]{{31}}")
_WORDS = re.compile(
    rf"[{_members(((_CLASSES & _WORD) != 0) & ((_CLASSES & CJK) != 0))}]|[{_of_class(_WORD, but=CJK)}]+"
)
_CJK_WORD = re.compile(rf"[{_members(((_CLASSES & LETTER) != 0) & ((_CLASSES & CJK) != 0))}]")
_MOJIBAKE, _AD, _SPEAKER = map(_compiled, (refusing.MOJIBAKE, refusing._ads(), refusing.SPEAKER_LABEL))


def _is_too_short(text: str) -> bool:
    return sum(c not in _SPACES for c in text) + len(_CJK_WORD.findall(text)) < 2


def _has_few_letters(text: str) -> bool:
    n_letters = n_signs = 0
    before = ""
    for c in text:
        if c in _LETTERS:
            n_letters += 1
        elif c != before and c not in _SPACES and c not in _DIGITS:
            n_signs += 1
        before = c
    return n_letters < 0.5 * (n_letters + n_signs) or not n_letters


def _repeats_words(text: str) -> bool:
    words = _WORDS.findall(text.lower())
    n = len(words)
    if n < 8 or len(set(words)) > 0.5 * n + 8:
        return False
    if Counter(words).most_common(1)[0][1] > 0.5 * n:
        return True
    return any(sum(a == b for a, b in zip(words, words[k:], strict=False)) > 0.6 * n for k in range(1, 9))


def refusals(max_chars: int) -> dict[str, Callable[[str], Any]]:
    """Reason -> whether an utterance is refused for it, in the order of the default list."""
    return {
        "empty": lambda t: not t.strip(),
        "too-short": _is_too_short,
        "too-long": lambda t: len(t) > max_chars or len(t.split()) > 256,
        "url": lambda t: ("." in t or "/" in t) and _URL.search(t),
        "few-letters": _has_few_letters,
        "long-word": lambda t: any(len(word) > 30 for word in t.split()) and _LONG_WORD.search(t),
        "repeated-words": _repeats_words,
        "mojibake": lambda t: not t.isascii() and _MOJIBAKE.search(t),
        "speaker-label": _SPEAKER.search,
        "ad": _AD.search,
    }


class PlainRules:
    """The rules of a config, dialog by dialog.

    Args:
        config: with the cleaning of ``configs/corpus.yaml``: the default list.
    """

    def __init__(self, config: CorpusConfig) -> None:
        limits = {k: v for step in config.cleaning for k, v in step.items() if step["rule"] == "too-long"}
        self.config, self.refusals = config, refusals(limits.get("max_chars", 1024))
        if [step["rule"] for step in config.cleaning][len(REWRITES) :] != list(self.refusals):
            raise ValueError("the peers know the default list of cleaning only")
        self.topics = {name: _compiled(pattern) for name, pattern in load_topics(config.topics).patterns.items()}

    def clean(self, dialogs: Sequence[Texts]) -> list[tuple[Texts, str | None]]:
        """Give each dialog's utterances rewritten, and why it is dropped, if it is."""
        found = []
        for texts in dialogs:
            texts = [self._rewritten(t) for t in texts]
            flaws = (r for t in texts for r, is_bad in self.refusals.items() if is_bad(t))
            found.append((texts, self.misshapen(len(texts)) or next(flaws, None)))
        return found

    def _rewritten(self, text: str) -> str:
        for rewrite in REWRITES:
            text = rewrite(text)
        return text

    def misshapen(self, n: int) -> str | None:
        """Why a dialog of so many utterances is dropped, if it is."""
        if n < self.config.min_utterances:
            return "too-few"
        if n > self.config.max_utterances:
            return "too-many"
        return "ends-with-agent" if n % 2 == 0 and self.config.same_speaker else None

    def cheap(self, dialogs: Sequence[Texts]) -> list[str | None]:
        """Why the filters without a model drop each dialog, if they do."""
        return [self._cheap(texts) for texts in dialogs]

    def _cheap(self, texts: Texts) -> str | None:
        if any(p.search(t) for t in texts for p in self.topics.values()):
            return "topic"
        if reason := next((r for t in texts if (r := contact_of(t))), None):
            return reason
        return "offensive-word" if any(_OFFENSIVE.search(t) for t in texts) else None

    def long_responses(self, texts: Texts) -> set[str]:
        """Give the responses that are long enough to be a template, lower-cased."""
        return {t.lower() for t in texts[1::2] if _n_words(t) >= self.config.frequent_words}

    @staticmethod
    def words_of(texts: Texts) -> str:
        """Give the words of a dialog, lower-cased, a Han character being one: what tells a copy."""
        return " ".join(_SHINGLED.findall(" ".join(texts).lower()))


_HAN = "\u3005\u3007\u3021-\u3029\u3038-\u303b\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
_SHINGLED = re.compile(rf"[{_HAN}]|[{_of_class(_WORD)}]+")
_COUNTED = re.compile(rf"[{_HAN}]|[{_of_class(_WORD)}']+")


def _n_words(text: str) -> int:
    return sum(1 for _ in _COUNTED.finditer(text))


# ---- filters without a model

_OFFENSIVE = _compiled(offensive._pattern())
_FULL_WIDTH = _compiled(personal._FULL_WIDTH)
_EMAIL = _compiled(f"(?i){personal._EMAIL}")
_HANDLE = _compiled(f"{personal._HANDLE_EN}|{personal._HANDLE_ZH}")
_ID_NUMBER = _compiled(rf"\d{{6}}|\d{{3,4}}[ \-]\d{{2,4}}[ \-]\d{{4}}|(?i:{personal._IP})|{personal._PLATE}")
_PHONE = _compiled(r"\d(?:[ .()/\-–]{0,3}\d){6}|[零〇一二三四五六七八九幺]{11}")


def contact_of(text: str) -> str | None:
    """Which contact data an utterance holds, if any: `personal.CONTACT_RULES`."""
    if _FULL_WIDTH.search(text):
        text = unicodedata.normalize("NFKC", text)
    if _EMAIL.search(text):
        return "email"
    if _HANDLE.search(text) or ("@" in text and personal._has_mention(text)):
        return "handle"
    if _ID_NUMBER.search(text) and personal._is_id_number(text):
        return "id-number"
    return "phone" if _PHONE.search(text) and personal._is_phone(text) else None
