"""What the pages of the web chat show: templates, words, help lines."""

from __future__ import annotations

import functools
import importlib.resources
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pege.safety import help_lines
from pege.server.chat.store import Kept
from pege.server.chat.talk import Said, Shown
from pege.web import page_templates, page_words

_ASSETS = Path(str(importlib.resources.files("pege"))) / "assets"
PAGES = _ASSETS / "pages" / "chat"
_NUMBER = re.compile(r"\+?[\d][\d -]{1,18}\d")


def words(language: str) -> dict[str, str]:
    """The pages' own words in a language."""
    return page_words(_ASSETS / "chat" / "words.yaml", language)


@functools.cache
def _templates() -> Any:
    return page_templates(PAGES)


def render(page: str, language: str, **values: Any) -> str:
    """Render a page; everything put in is escaped."""
    return str(_templates().get_template(f"{page}.html.j2").render(w=words(language), language=language, **values))


def view_said(said: tuple[Said, ...]) -> list[dict[str, Any]]:
    """Utterances for the template."""
    return [_view("agent" if k % 2 else "user", s.content, s.shown) for k, s in enumerate(said)]


def blanks() -> list[dict[str, Any]]:
    """An utterance of each side without text, from which the page makes new ones."""
    return [_view(role, "", Shown()) for role in ("user", "agent")]


def _view(role: str, text: str, shown: Shown) -> dict[str, Any]:
    return {"role": role, "text": text, "kind": shown.kind, "shown": shown.model_dump_json(exclude_defaults=True)}


def view_kept(found: list[Kept], current: str | None) -> list[dict[str, Any]]:
    """Kept dialogs for the list."""
    return [{"key": k.key, "name": k.name, "is_current": k.key == current} for k in found]


def view_help() -> list[dict[str, Any]]:
    """Help lines for their page: each with an address to call or to open, and the site that is its source."""
    rows = []
    for row in help_lines():
        number = _NUMBER.search(row["contact"])
        link = f"tel:{re.sub(r'[ -]', '', number.group())}" if number else row["source"]
        rows.append({**row, "link": link, "site": urlsplit(row["source"]).hostname or row["source"]})
    return rows
