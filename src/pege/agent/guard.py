"""Guard models beside our own crisis check: Qwen3Guard, Llama Guard and the like, local or behind an endpoint."""

from __future__ import annotations

import asyncio
import functools
import re
import threading
from collections.abc import Callable
from typing import Any

from pege.agent.endpoint import without_control
from pege.errors import InputError
from pege.models.prompt import encode_message
from pege.safety import Crisis, Kind
from pege.safety.remember import Remembered

_MAX_TOKENS = 48
_DEADLINE_S = 10.0  # of one question to an endpoint, a second try and all waiting included
_SEVERITY = re.compile(r"^\s*(?:safety:\s*)?(safe|unsafe|controversial)\b", re.IGNORECASE)
#: what guards call it -> our kind; other categories (sexual content, unethical acts, hate, copyright) are no crisis
_KINDS: list[tuple[re.Pattern[str], Kind]] = [
    (re.compile(r"suicide|self-?harm|\bS11\b", re.IGNORECASE), "self-harm"),
    (re.compile(r"abuse|harass|exploitation|sex-related crimes|sexual assault|\bS[34]\b", re.IGNORECASE), "abuse"),
    (re.compile(r"(?<!non-)violent|violence|weapons|\bS[19]\b", re.IGNORECASE), "harm-to-others"),
]
_SCORES = {"unsafe": 0.9, "controversial": 0.4}  # below 0.5 it does not hold for the rest of the dialog


def read_verdict(text: str) -> Crisis | None:
    """Give the crisis that a guard's words speak of: ``Safety: Unsafe / Categories: Violent``, ``unsafe / S11``.

    Raises:
        ValueError: words that say neither safe nor unsafe; whoever asks then gives the fixed text.
    """
    found = _SEVERITY.match(text)
    if found is None:
        raise ValueError("the guard's words are no verdict")
    severity = found.group(1).lower()
    if severity == "safe":
        return None
    kind = next((kind for pattern, kind in _KINDS if pattern.search(text[found.end() :])), None)
    return None if kind is None else Crisis(kind, _SCORES[severity])


class ModelGuard:
    """A guard model as a guard of `GuardedAgent`. A text is asked once; only its hash is remembered.

    Args:
        ask: a text -> the guard's words. What it raises counts as a hit.
    """

    def __init__(self, ask: Callable[[str], str]) -> None:
        self._verdict = Remembered(lambda text: read_verdict(ask(text)))

    def check(self, text: str) -> Crisis | None:
        """Give the crisis that a text speaks of, or None."""
        return self._verdict(text)


def load_guard(spec: str, *, api_key: str | None = None) -> ModelGuard:
    """Load a guard: ``http://HOST:PORT/v1#MODEL``, or a folder or name of the hub.

    Raises:
        InputError: an endpoint without a model's name; no such model; a template that changes texts.
    """
    if spec.startswith(("http://", "https://")):
        url, _, model = spec.partition("#")
        if not model:
            raise InputError("names no model", where=spec, fix="write http://HOST:PORT/v1#MODEL")
        return ModelGuard(functools.partial(_ask_endpoint, url, api_key, model))
    from pege.models.causal import fast_device, fast_dtype, load_model

    model, tokenizer = load_model(spec, dtype=fast_dtype())
    encode_message(tokenizer, "")  # a guard that cannot be asked is refused now, not at each text
    return ModelGuard(functools.partial(_ask_local, threading.Lock(), model.to(fast_device()), tokenizer))


def _ask_endpoint(url: str, api_key: str | None, model: str, text: str) -> str:
    """Ask an endpoint; whatever it does, sending a byte a second too, there is an answer or a TimeoutError in time."""
    from openai import AsyncOpenAI

    messages: Any = [{"role": "user", "content": without_control(text)}]

    async def ask() -> str:
        async with asyncio.timeout(_DEADLINE_S), AsyncOpenAI(base_url=url, api_key=api_key or "none") as client:
            answer = await client.chat.completions.create(
                model=model, messages=messages, temperature=0, max_tokens=_MAX_TOKENS
            )
        return answer.choices[0].message.content or ""

    return asyncio.run(ask())  # a connection of its own: at the deadline it is closed, and nothing of it stays


def _ask_local(one: threading.Lock, model: Any, tokenizer: Any, text: str) -> str:
    """Ask a model of our own, which answers one text at a time; who waits too long gets a TimeoutError."""
    import torch

    if not one.acquire(timeout=_DEADLINE_S):
        raise TimeoutError("the guard has too much to read")
    try:
        ids = torch.tensor([encode_message(tokenizer, text)], device=model.device)  # (1, S)
        with torch.inference_mode():
            out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=_MAX_TOKENS)
        words: str = tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
    finally:
        one.release()
    return words
