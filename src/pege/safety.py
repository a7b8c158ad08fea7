"""The crisis check that runs before any model, and the fixed text it answers with. No model is imported here.

Phrases only, recall first; docs/safety.md says what it misses. A hit is never answered by a model.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
import re
import unicodedata
from dataclasses import dataclass
from typing import Any, Literal

from pege.words import guess_language

Kind = Literal["self-harm", "harm-to-others", "abuse"]
KINDS: tuple[Kind, ...] = ("self-harm", "harm-to-others", "abuse")
_QUOTES = str.maketrans({"’": "'", "‘": "'", "＇": "'"})


@dataclass(frozen=True)
class Crisis:
    """A hit: what kind, and the words that gave it."""

    kind: Kind
    phrase: str


def check_crisis(text: str) -> Crisis | None:
    """Look for words of self-harm, harm to others, or abuse, in English and Chinese; idioms are taken out first."""
    plain = " ".join(unicodedata.normalize("NFKC", text).translate(_QUOTES).casefold().split())
    idioms, rules = _rules()
    plain = idioms.sub(" ; ", plain)
    for kind, rule in rules:
        if found := rule.search(plain):
            return Crisis(kind, found.group())
    return None


@functools.cache
def _rules() -> tuple[re.Pattern[str], list[tuple[Kind, re.Pattern[str]]]]:
    phrases = _asset("phrases.json")
    return _pattern(phrases["idioms"]), [(kind, _pattern(phrases[kind])) for kind in KINDS]


def _pattern(by_language: dict[str, list[str]]) -> re.Pattern[str]:
    english = [rf"\b(?:{p})\b" for p in by_language["en"]]
    chinese = [f"(?:{p})" for p in by_language["zh"]]
    return re.compile("|".join(english + chinese))


def help_text(language: str) -> str:
    """Give the fixed answer to a crisis, with help lines, in a language (``en`` where there is no text for it)."""
    data = _asset("help_lines.json")
    lines = "\n".join(f"- {row['country']}: {row['name']}, {row['contact']}" for row in data["lines"])
    text: str = data["text"].get(language, data["text"]["en"])
    return text.format(lines=lines)


def help_for(text: str) -> str:
    """Give the fixed answer in the language of a text."""
    return help_text(guess_language(text))


def _asset(name: str) -> Any:
    return json.loads((importlib.resources.files("pege") / "assets" / "safety" / name).read_text(encoding="utf-8"))
