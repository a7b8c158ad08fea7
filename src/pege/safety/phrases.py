"""The list of phrases under the classifier: what is always a crisis, and the idioms that are taken out first."""

from __future__ import annotations

import functools
import importlib.resources
import json
import re
from dataclasses import dataclass
from typing import Literal

from pege.safety.normalize import HAN

Kind = Literal["self-harm", "harm-to-others", "abuse"]
KINDS: tuple[Kind, ...] = ("self-harm", "harm-to-others", "abuse")
_HAN = re.compile(f"[{HAN}]")
_APOSTROPHE = re.compile(r"(?<=\w)'(?=\w)")
_APART = re.compile(r"[^\w',.!?;，。！？；/-]+")
_MACRO = re.compile(r"\{([a-z_]{3,})\}")


@dataclass(frozen=True)
class Patterns:
    """The patterns of one list, in one expression a language; the Chinese ones are for a form with Chinese."""

    english: re.Pattern[str]
    chinese: re.Pattern[str]

    def search(self, form: str) -> re.Match[str] | None:
        """Find the first phrase."""
        return self.english.search(form) or (self.chinese.search(form) if _HAN.search(form) else None)


@dataclass(frozen=True)
class Phrases:
    """The patterns, compiled: those of each kind, the idioms, and what no idiom takes out."""

    kinds: tuple[tuple[Kind, Patterns], ...]
    idioms: Patterns
    unmistakable: Patterns


def without_idioms(form: str) -> str:
    """Give a plain form (see `pege.safety.normalize`) without apostrophes, each idiom replaced by `` ; ``.

    An idiom that reaches over words of an intent of one's own ("in the show I felt nothing and I want to ...") stays.
    """
    lists = _phrases()

    def replaced(idiom: re.Match[str]) -> str:
        return idiom.group() if lists.unmistakable.search(idiom.group()) else " ; "

    stripped = lists.idioms.english.sub(replaced, _APART.sub(" ", _APOSTROPHE.sub("", form)))
    return lists.idioms.chinese.sub(replaced, stripped) if _HAN.search(stripped) else stripped


def find_phrase(stripped: str) -> tuple[Kind, str] | None:
    """Give the first kind that a text without idioms has a phrase of, and the phrase."""
    for kind, patterns in _phrases().kinds:
        if found := patterns.search(stripped):
            return kind, found.group()
    return None


@functools.cache
def _phrases() -> Phrases:
    source = importlib.resources.files("pege") / "assets" / "safety" / "phrases.json"
    lists = json.loads(source.read_text(encoding="utf-8"))
    macros: dict[str, str] = lists["macros"]

    def compiled(by_language: dict[str, list[str]]) -> Patterns:
        english, chinese = (
            "|".join(_MACRO.sub(lambda m: macros[m.group(1)], p) for p in by_language[language])
            for language in ("en", "zh")
        )
        # One \b before all, not one a pattern: sre then skips a pattern by its first letter. In ASCII a Chinese
        # character ends a word.
        return Patterns(re.compile(rf"\b(?:{english})\b", re.ASCII), re.compile(chinese))

    return Phrases(
        tuple((kind, compiled(lists[kind])) for kind in KINDS),
        *(compiled(lists[k]) for k in ("idioms", "unmistakable")),
    )
