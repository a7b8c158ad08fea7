"""The fixed answer to a crisis, with help lines by country: ours, or those of a file of the owner's.

The environment variable ``PEGE_HELP_LINES`` names that file, in the form of ``assets/safety/help_lines.json``:
``lines`` (each with ``country``, ``name``, ``contact``, ``source``, ``checked``), ``written``, and ``text`` by language
where ours is not wanted (docs/web-chat.md).
"""

from __future__ import annotations

import datetime
import functools
import importlib.resources
import logging
import os
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from pege.errors import InputError
from pege.io import why_invalid
from pege.words import guess_language

log = logging.getLogger(__name__)
VARIABLE = "PEGE_HELP_LINES"
_OURS = Path(str(importlib.resources.files("pege"))) / "assets" / "safety" / "help_lines.json"
_Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]


def _like(pattern: str, what: str) -> AfterValidator:
    def check(text: str) -> str:
        if not re.search(pattern, text):
            raise ValueError(what)
        return text

    return AfterValidator(check)


_Address = Annotated[str, _like(r"^https?://[^\s/]+\S*$", "is no address; one begins with https://")]
_When = Annotated[str, _like(r"^\d{4}-\d\d(-\d\d)?$", "is no YYYY-MM or YYYY-MM-DD")]
_Text = Annotated[str, _like(r"\{lines\}", "has no {lines}, where the help lines belong")]


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    country: _Words
    name: _Words
    contact: _Words
    source: _Address
    checked: datetime.date | None


class _Help(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    note: str = ""
    written: _When
    lines: tuple[_Line, ...] = Field(min_length=1)
    text: dict[str, _Text] = {}


def help_text(language: str) -> str:
    """Give the fixed answer to a crisis, with help lines, in a language (``en`` where there is no text for it)."""
    found = _help()
    lines = "\n".join(f"- {row.country}: {row.name}, {row.contact}" for row in found.lines)
    texts = {**_read(_OURS).text, **found.text}
    return texts.get(language, texts["en"]).replace("{lines}", lines)


def help_lines() -> list[dict[str, Any]]:
    """Give the help lines: ``country``, ``name``, ``contact``, ``source``, ``checked`` (YYYY-MM-DD or None)."""
    return [row.model_dump(mode="json") for row in _help().lines]


def help_written() -> str:
    """Give when the help lines were written down, YYYY-MM or YYYY-MM-DD."""
    return _help().written


def help_for(text: str) -> str:
    """Give the fixed answer in the language of a text."""
    return help_text(guess_language(text))


def check_help() -> None:
    """Check the owner's file, where there is one: a server does not start with a wrong one.

    Raises:
        InputError: it cannot be read, or is no file of help lines.
    """
    if path := os.environ.get(VARIABLE):
        _read(Path(path))


def _help() -> _Help:
    """The owner's help lines; ours where there are none, or none that can be read: a crisis is always answered."""
    try:
        return _read(Path(os.environ.get(VARIABLE) or _OURS))
    except InputError as e:
        log.error("%s; the shipped help lines are given", e)
        return _read(_OURS)


@functools.cache
def _read(path: Path) -> _Help:
    try:
        return _Help.model_validate_json(path.read_bytes())
    except OSError as e:
        raise InputError(f"cannot be read ({e.strerror})", where=path, fix=f"mend {VARIABLE}") from e
    except ValidationError as e:
        raise InputError(why_invalid(e), where=path, fix="docs/web-chat.md has the form") from e
