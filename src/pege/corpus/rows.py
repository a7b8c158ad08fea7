"""What the readers of raw dialogs share: the shape of what they yield, and utterances to messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

RawRow = tuple[str, int, Any]  # file, line or item number from 1, a row as a dict or an InputError


def alternate(utterances: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    """Give messages of (speaker, text): neighbours of one speaker joined, whoever speaks first is the user."""
    messages: list[dict[str, str]] = []
    block: list[str] = []
    last: str | None = None
    for speaker, text in utterances:
        text = " ".join(text.split())
        if not text:
            continue
        if speaker != last:
            _close(messages, block)
            block = []
            last = speaker
        block.append(text)
    _close(messages, block)
    return messages


def _close(messages: list[dict[str, str]], block: list[str]) -> None:
    if block:
        messages.append({"role": "assistant" if len(messages) % 2 else "user", "content": " ".join(block)})
