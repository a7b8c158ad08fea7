"""Topics without emotion, found by phrases (filter 4 of sec. 3.2; docs/cleaning.md)."""

from __future__ import annotations

import functools
import importlib.resources
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from pege.errors import InputError, did_you_mean
from pege.io import read_json, read_yaml

_LANGUAGES = ("en", "zh")
_UNLESS = "unless"  # the entry beside the topics
_COUNTED = re.compile(r"(?:\.|\[\^[^\]]*\])\{\d+,\d+\}")  # .{0,30}
_MAX_PATTERN = 3_000  # characters; RE2 runs a few moderate patterns faster than one that outgrows its memory


@dataclass(frozen=True)
class Topics:
    """Phrases by topic, as patterns.

    Attributes:
        patterns: topic -> a regular expression (RE2) that finds any of its phrases.
        unless: a text in which this one finds anything has no topic: it says a feeling; None for none.
    """

    patterns: dict[str, str]
    unless: str | None = None

    @functools.cached_property
    def screens(self) -> list[str]:
        """A few patterns that find whatever any topic's pattern finds."""
        screens: list[str] = []
        for pattern in self.patterns.values():
            pattern = _COUNTED.sub(".*", pattern)  # a wider net, which RE2 casts many times faster
            if screens and len(screens[-1]) + len(pattern) < _MAX_PATTERN:
                screens[-1] += f"|{pattern}"
            else:
                screens.append(pattern)
        return screens


def topic_of(texts: pa.StringArray, topics: Topics | None = None) -> pa.StringArray:
    """Give the topic of each utterance, or of each dialog where a text is a whole one.

    Args:
        texts: (N,); a null has no topic.
        topics: `load_topics`; ours unless given.

    Returns:
        (N,): the name of the first topic of the list with a phrase in the text, null where there is none.
    """
    topics = topics or load_topics()
    texts = pc.fill_null(texts, "")
    is_hit = np.zeros(len(texts), np.bool_)
    for screen in topics.screens:
        is_hit |= pc.match_substring_regex(texts, screen).to_numpy(zero_copy_only=False)
    places = np.flatnonzero(is_hit)
    some = texts.take(pa.array(places))
    names = pa.array([*topics.patterns, None], pa.string())
    found = np.full(len(texts), len(topics.patterns))
    for k, pattern in enumerate(topics.patterns.values()):
        hits = places[pc.match_substring_regex(some, pattern).to_numpy(zero_copy_only=False)]
        found[hits] = np.minimum(found[hits], k)
    if topics.unless and len(some):
        spares = pc.match_substring_regex(some, topics.unless).to_numpy(zero_copy_only=False)
        found[places[spares]] = len(topics.patterns)
    return names.take(pa.array(found))


def load_topics(path: Path | str | None = None) -> Topics:
    """Give our topics, with those of a file added.

    Args:
        path: YAML or JSON, ``{topic: {en: [phrase, ...], zh: [...]}}``. Phrases of a topic of ours are added to it; an
            empty topic (``renting: {}``) takes ours away. ``unless`` is no topic: a text with one of its phrases has
            none.

    Raises:
        InputError: no such file, another shape, a phrase that is no regular expression.
    """
    ours = _our_phrases()
    if path is None:
        return _our_topics()
    path = Path(path)
    theirs = read_json(path) if path.suffix == ".json" else read_yaml(path)
    phrases = dict(ours)
    for topic, entry in _checked(theirs, path).items():
        if entry:
            known = ours.get(topic, {})
            phrases[topic] = {lang: [*known.get(lang, ()), *entry.get(lang, ())] for lang in _LANGUAGES}
        else:
            phrases.pop(topic, None)
    return _compile(phrases, path)


Phrases = dict[str, dict[str, list[str]]]


@functools.cache
def _our_phrases() -> Phrases:
    source = importlib.resources.files("pege") / "assets" / "corpus" / "topic_phrases.yaml"
    phrases: Phrases = yaml.safe_load(source.read_text(encoding="utf-8"))
    return phrases


@functools.cache
def _our_topics() -> Topics:
    return _compile(_our_phrases(), "topic_phrases.yaml")


def _checked(value: Any, where: Path) -> Phrases:
    if not isinstance(value, Mapping):
        raise InputError("is no table of topics", where=where, fix="write topic: {en: [phrase], zh: [phrase]}")
    for topic, entry in value.items():
        if not isinstance(topic, str) or not isinstance(entry, Mapping):
            raise InputError(f"topic {topic!r} has no phrases by language", where=where, fix="write {en: [...]}")
        for lang, phrases in entry.items():
            if lang not in _LANGUAGES:
                raise InputError(f"{topic}: no language {lang!r}", where=where, fix=did_you_mean(str(lang), _LANGUAGES))
            if not isinstance(phrases, list) or not all(isinstance(p, str) and p.strip() for p in phrases):
                raise InputError(f"{topic}.{lang} is no list of phrases", where=where)
    return dict(value)


def _compile(phrases: Phrases, where: object) -> Topics:
    patterns = {}
    for topic, entry in phrases.items():
        english = [_checked_phrase(_spaced(p), topic, where) for p in entry.get("en", ())]
        chinese = [_checked_phrase(p, topic, where) for p in entry.get("zh", ())]
        parts = [rf"(?:^|\b|\W)(?:{'|'.join(english)})(?:\b|\W|$)"] * bool(english) + chinese
        patterns[topic] = f"(?i:{'|'.join(parts)})"
    unless = patterns.pop(_UNLESS, None)
    return Topics(patterns, unless)


def _spaced(phrase: str) -> str:
    """A space is any white space, one or more; `` ?`` none or more."""
    return phrase.replace(" ?", r"\s*").replace(" ", r"\s+")


def _checked_phrase(phrase: str, topic: str, where: object) -> str:
    try:
        pc.match_substring_regex(pa.array([""]), phrase)
    except pa.ArrowInvalid as e:
        raise InputError(f"{topic}: {phrase!r} is no regular expression ({e})", where=where) from e
    return phrase
