"""Guard models beside our own crisis check: Qwen3Guard, Llama Guard and the like, local or behind an endpoint."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

from pege.errors import InputError
from pege.safety import Crisis, Kind
from pege.safety.remember import Remembered

_MAX_TOKENS = 48
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
        InputError: an endpoint without a model's name; no such model.
    """
    if spec.startswith(("http://", "https://")):
        url, _, model = spec.partition("#")
        if not model:
            raise InputError("names no model", where=spec, fix="write http://HOST:PORT/v1#MODEL")
        return ModelGuard(functools.partial(_ask_endpoint, _client(url, api_key), model))
    from pege.models.causal import fast_device, fast_dtype, load_model

    model, tokenizer = load_model(spec, dtype=fast_dtype())
    return ModelGuard(functools.partial(_ask_local, model.to(fast_device()), tokenizer))


def _client(url: str, api_key: str | None) -> object:
    from openai import OpenAI

    return OpenAI(base_url=url, api_key=api_key or "none", timeout=20.0, max_retries=1)


def _ask_endpoint(client: object, model: str, text: str) -> str:
    from openai import OpenAI

    assert isinstance(client, OpenAI)
    answer = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": text}], temperature=0, max_tokens=_MAX_TOKENS
    )
    return answer.choices[0].message.content or ""


def _ask_local(model: object, tokenizer: object, text: str) -> str:
    import torch

    frame: str = tokenizer.apply_chat_template(  # type: ignore[attr-defined]
        [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
    )
    inputs = tokenizer(frame, return_tensors="pt", add_special_tokens=False).to(model.device)  # type: ignore
    with torch.inference_mode():
        out = model.generate(**inputs, do_sample=False, max_new_tokens=_MAX_TOKENS)  # type: ignore[attr-defined]
    words: str = tokenizer.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)  # type: ignore
    return words
