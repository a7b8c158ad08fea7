"""The filter on an agent's own responses: offensive, dismissive, medical claims, encouragement of harm."""

from __future__ import annotations

import functools
import importlib.resources
import json
import re
from typing import TYPE_CHECKING, Any

from pege.safety import check_phrases
from pege.safety.normalize import forms
from pege.words import guess_language

if TYPE_CHECKING:
    from pege.emotion import TextClassifier

REASONS = ("harm", "dismissive", "medical", "cheering")
END_MARKS = ".!?。！？…"  #: of a sentence, within ``[]`` of a pattern
CLOSING_MARKS = r"\"'”’)\]）」』"  #: quotes and brackets that belong to the sentence before them, likewise
_SENTENCES = re.compile(rf"[^{END_MARKS}]+[{END_MARKS}]*[{CLOSING_MARKS}]*")
_APOSTROPHE = re.compile(r"(?<=\w)'(?=\w)")


def refuse_response(text: str, *, is_supportive: bool = False) -> str | None:
    """Give why a response must not be said, ``harm``, ``dismissive``, ``medical`` or ``offensive``, or None.

    In supportive mode, after a crisis, what cheers up is refused too, as ``cheering``.
    Phrases, and a classifier of offensive language: what is worded otherwise gets through (docs/safety.md). A response
    that itself speaks of a crisis (an agent that says it wants to die) counts as ``harm``.
    """
    import pyarrow as pa

    from pege.corpus.offensive import OFFENSIVE_THRESHOLD, offensive_words

    plain = [_APOSTROPHE.sub("", form) for form in forms(text)]
    for reason, pattern in _patterns():
        if (is_supportive or reason != "cheering") and any(pattern.search(form) for form in plain):
            return reason
    if check_phrases(text) is not None:
        return "harm"
    if offensive_words(pa.array([text]))[0].as_py():
        return "offensive"
    sentences = [s for s in _SENTENCES.findall(text) if s.strip()]
    last = sentences[-1:]  # those before it were read when they were last
    return "offensive" if last and _p_offensive(last[0]) > OFFENSIVE_THRESHOLD else None


def _p_offensive(text: str) -> float:
    """By the corpus' classifier; what it raises fails the response, which is then not said."""
    return float(_offensive_classifier().predict([text])[0, 1])


@functools.cache
def _offensive_classifier() -> TextClassifier:
    from pege.corpus.offensive import load_offensive_classifier

    return load_offensive_classifier()


def fixed_response(language_of: str) -> str:
    """Give what is said in place of a response that was refused twice, in the language of a text."""
    texts: dict[str, str] = _lists()["text"]
    return texts[guess_language(language_of)]


def support_text(language_of: str) -> str:
    """Give what ends each response of a model after a crisis, in the language of a text."""
    texts: dict[str, str] = _lists()["support"]
    return texts[guess_language(language_of)]


@functools.cache
def _lists() -> dict[str, Any]:
    source = importlib.resources.files("pege") / "assets" / "safety" / "responses.json"
    lists: dict[str, Any] = json.loads(source.read_text(encoding="utf-8"))
    return lists


@functools.cache
def _patterns() -> list[tuple[str, re.Pattern[str]]]:
    found = []
    for reason in REASONS:
        by_language = _lists()[reason]
        found.append((reason, re.compile("|".join([rf"\b(?:{p})" for p in by_language["en"]] + by_language["zh"]))))
    return found
