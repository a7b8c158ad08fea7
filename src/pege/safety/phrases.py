"""The list of phrases under the classifier: what is always a crisis, and the idioms that are taken out first."""

from __future__ import annotations

import functools
import importlib.resources
import json
import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["self-harm", "harm-to-others", "abuse"]
KINDS: tuple[Kind, ...] = ("self-harm", "harm-to-others", "abuse")
_APOSTROPHE = re.compile(r"(?<=\w)'(?=\w)")
_APART = re.compile(r"[^\w' ,.!?;，。！？；/-]+")
_MACRO = re.compile(r"\{([a-z_]{3,})\}")


@dataclass(frozen=True)
class Phrases:
    """The patterns, compiled: those of each kind, the idioms, and what no idiom takes out."""

    kinds: tuple[tuple[Kind, re.Pattern[str]], ...]
    idioms: re.Pattern[str]
    unmistakable: re.Pattern[str]


def without_idioms(form: str) -> str:
    """Give a plain form (see `pege.safety.normalize`) without apostrophes, each idiom replaced by `` ; ``.

    An idiom that reaches over words of an intent of one's own ("in the show I felt nothing and I want to ...") stays.
    """
    lists = _phrases()

    def replaced(idiom: re.Match[str]) -> str:
        return idiom.group() if lists.unmistakable.search(idiom.group()) else " ; "

    return lists.idioms.sub(replaced, _APART.sub(" ", _APOSTROPHE.sub("", form)))


def find_phrase(stripped: str) -> tuple[Kind, str] | None:
    """Give the first kind that a text without idioms has a phrase of, and the phrase."""
    for kind, pattern in _phrases().kinds:
        if found := pattern.search(stripped):
            return kind, found.group()
    return None


@functools.cache
def _phrases() -> Phrases:
    source = importlib.resources.files("pege") / "assets" / "safety" / "phrases.json"
    lists = json.loads(source.read_text(encoding="utf-8"))
    macros: dict[str, str] = lists["macros"]

    def compiled(by_language: dict[str, list[str]]) -> re.Pattern[str]:
        english = [rf"\b(?:{p})\b" for p in by_language["en"]]
        patterns = [_MACRO.sub(lambda m: macros[m.group(1)], p) for p in english + by_language["zh"]]
        return re.compile("|".join(patterns))

    return Phrases(
        tuple((kind, compiled(lists[kind])) for kind in KINDS),
        *(compiled(lists[k]) for k in ("idioms", "unmistakable")),
    )
