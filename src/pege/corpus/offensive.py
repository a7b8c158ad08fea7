"""Offensive language (filter 6, sec. 3.2): a word list as the cheap first pass, and a TextCNN, English and Chinese."""

from __future__ import annotations

import functools
import importlib.resources
import re
from typing import TYPE_CHECKING

from pege.emotion import TextClassifier, load_shipped

if TYPE_CHECKING:
    import pyarrow as pa

LABELS = ("clean", "offensive")
#: An utterance is offensive where p(offensive) is above it; see assets/offensive/card.md for what it costs.
OFFENSIVE_THRESHOLD = 0.8

# What stands for a letter inside a word; the first letter of a word is never disguised, so that 455 is a number.
_DISGUISES = {"a": "a@4*", "e": "e3*", "i": "i1!*", "o": "o0*", "u": "uv*", "s": "s$5", "c": "c*", "t": "t7"}


def offensive_words(texts: pa.StringArray) -> pa.BooleanArray:
    """Say of each text whether it has a word or phrase of the lists.

    English is found between characters that are no letter or digit, in any case, with letters repeated (``idiooot``)
    or disguised (``sh1t``, ``f*ck``); Chinese anywhere.

    Args:
        texts: N texts, a text or null each.

    Returns:
        N booleans; null for null.
    """
    import pyarrow.compute as pc

    found: pa.BooleanArray = pc.match_substring_regex(texts, _pattern())
    return found


def load_offensive_classifier() -> TextClassifier:
    """Load the classifier in the package: ``predict(texts)`` gives (N, 2), columns ``LABELS``.

    Raises:
        InputError: torch is not installed.
    """
    return load_shipped("offensive")


@functools.cache
def _pattern() -> str:
    """One RE2 pattern for both lists."""
    english = "|".join(_english(entry) for entry in _entries("en"))
    chinese = "|".join(re.escape(entry) for entry in _entries("zh"))
    return f"(?i)(?:^|[^a-z0-9])(?:{english})(?:$|[^a-z0-9])|{chinese}"


def _entries(lang: str) -> list[str]:
    source = importlib.resources.files("pege") / "assets" / "offensive" / f"words.{lang}.txt"
    lines = (line.strip() for line in source.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _english(entry: str) -> str:
    stem = entry.removesuffix("*")
    words = (_word(word) for word in stem.split())
    return r"\s+".join(words) + ("[a-z]*" if entry.endswith("*") else "")


def _word(word: str) -> str:
    """A word of letters as a pattern; an apostrophe may be curly or left out."""
    found = ""
    for k, c in enumerate(word):
        if c == "'":
            found += "['’]?"
        else:
            found += f"[{_DISGUISES.get(c, c) if k else c}]+"
    return found
