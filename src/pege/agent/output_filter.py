"""The filter on an agent's own responses: offensive, dismissive, medical claims, encouragement of harm."""

from __future__ import annotations

import functools
import importlib.resources
import json
import re
from typing import Any

from pege.safety import check_phrases
from pege.safety.normalize import forms
from pege.words import guess_language

REASONS = ("harm", "dismissive", "medical")
_APOSTROPHE = re.compile(r"(?<=\w)'(?=\w)")


def refuse_response(text: str) -> str | None:
    """Give why a response must not be said, ``harm``, ``dismissive``, ``medical`` or ``offensive``, or None.

    Phrases only: what is worded otherwise gets through (docs/safety.md). A response that itself speaks of a crisis
    (an agent that says it wants to die) counts as ``harm``.
    """
    import pyarrow as pa

    from pege.corpus.offensive import offensive_words

    plain = [_APOSTROPHE.sub("", form) for form in forms(text)]
    for reason, pattern in _patterns():
        if any(pattern.search(form) for form in plain):
            return reason
    if check_phrases(text) is not None:
        return "harm"
    return "offensive" if offensive_words(pa.array([text]))[0].as_py() else None


def fixed_response(language_of: str) -> str:
    """Give what is said in place of a response that was refused twice, in the language of a text."""
    texts: dict[str, str] = _lists()["text"]
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
