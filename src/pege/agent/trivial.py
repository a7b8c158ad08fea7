"""Agents without a model that should lose, and show what a score can be fooled with (docs/reproduce.md)."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Generator, Sequence
from importlib import resources
from pathlib import Path

import numpy as np

from pege.dialog import Context, Dialog
from pege.errors import InputError, did_you_mean
from pege.io import read_rows
from pege.lexicon import Lexicon, load_lexicon
from pege.words import guess_language

PREFIX = "trivial:"
_N_HAPPIEST, _N_SAID = 50, 8
_Respond = Callable[[str, Context, np.random.Generator], str]


class TrivialAgent:
    """An agent that follows one rule.

    Args:
        name: what logs and rows call it.
        respond_to: language, context, random numbers -> a response.
    """

    def __init__(self, name: str, respond_to: _Respond) -> None:
        self.name, self._respond_to = name, respond_to

    def respond(self, contexts: Sequence[Context], *, seed: int | None = None) -> list[str]:
        """Give one response per context."""
        rng = np.random.default_rng(seed)
        return [self._respond_to(guess_language(c.utterances[0].content), c, rng) for c in contexts]

    def stream(self, context: Context, *, seed: int | None = None) -> Generator[str]:
        """Give the response to one context, in one piece."""
        yield self.respond([context], seed=seed)[0]


def load_trivial_agent(spec: str) -> TrivialAgent:
    """Load `trivial:cheerful`, `trivial:parrot`, `trivial:happy-words` or `trivial:random#FILE_OF_ROWS`.

    Raises:
        InputError: another name; no file of rows, or one without a response.
    """
    name, _, rows = spec.removeprefix(PREFIX).partition("#")
    if name == "cheerful":
        return TrivialAgent(spec, lambda language, _c, _r: _cheerful()[language])
    if name == "parrot":
        return TrivialAgent(spec, lambda _l, context, _r: context.utterances[-1].content)
    if name == "happy-words":
        return TrivialAgent(spec, _happy_words)
    if name == "random":
        if not rows:
            raise InputError("names no file of rows", where=spec, fix="write trivial:random#FILE")
        return TrivialAgent(spec, _random_response(rows))
    raise InputError(
        f"unknown agent {name!r}", where=spec, fix=did_you_mean(name, ["cheerful", "parrot", "happy-words", "random"])
    )


@functools.cache
def _cheerful() -> dict[str, str]:
    source = resources.files("pege") / "assets" / "selfchat" / "cheerful.json"
    lines: dict[str, str] = json.loads(source.read_text(encoding="utf-8"))
    return lines


def _happy_words(language: str, _: Context, rng: np.random.Generator) -> str:
    words = _happiest(language)
    return (" " if language == "en" else "，").join(rng.choice(words, _N_SAID, replace=False).tolist())


@functools.cache
def _happiest(language: str) -> list[str]:
    return happiest_words(load_lexicon(f"pege-{language}"), _N_HAPPIEST)


def happiest_words(lexicon: Lexicon, n: int) -> list[str]:
    """Give the n words with the largest valence + arousal + dominance, which is what Eq. 7 sums."""
    words = list(lexicon.words)
    order = np.argsort(-lexicon.values.sum(axis=1), kind="stable")
    return [words[k] for k in order[:n]]


def _random_response(path: str) -> _Respond:
    found: dict[str, list[str]] = {}
    for dialog in read_rows(Path(path), Dialog):
        found.setdefault(dialog.language, []).extend(dialog.agent_utterances)

    def respond(language: str, _: Context, rng: np.random.Generator) -> str:
        said = found.get(language)
        if not said:
            raise InputError(f"has no response in {language}", where=path, fix="name rows of that language")
        return said[int(rng.integers(len(said)))]  # a choice from the list would copy all of it

    return respond
