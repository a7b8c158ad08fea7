"""The fixed answer to a crisis, with help lines by country."""

from __future__ import annotations

import importlib.resources
import json
from typing import Any

from pege.words import guess_language


def help_text(language: str) -> str:
    """Give the fixed answer to a crisis, with help lines, in a language (``en`` where there is no text for it)."""
    data = _data()
    lines = "\n".join(f"- {row['country']}: {row['name']}, {row['contact']}" for row in data["lines"])
    text: str = data["text"].get(language, data["text"]["en"])
    return text.format(lines=lines)


def help_lines() -> list[dict[str, Any]]:
    """Give the help lines: ``country``, ``name``, ``contact``, ``source``, ``checked`` (a date or None)."""
    lines: list[dict[str, Any]] = _data()["lines"]
    return lines


def help_for(text: str) -> str:
    """Give the fixed answer in the language of a text."""
    return help_text(guess_language(text))


def _data() -> Any:
    source = importlib.resources.files("pege") / "assets" / "safety" / "help_lines.json"
    return json.loads(source.read_text(encoding="utf-8"))
