"""Any OpenAI-compatible endpoint as an agent: vLLM, llama.cpp, a hosted model."""

from __future__ import annotations

import copy
import functools
import logging
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal, Self

from pege.agent.ask import Ask, End
from pege.agent.settings import Settings
from pege.dialog import Context, Role
from pege.errors import InputError
from pege.models.generation import check_generation
from pege.models.prompt import system_line

if TYPE_CHECKING:
    from openai import AsyncOpenAI

log = logging.getLogger(__name__)
_AS_USER = "You play the person who started this chat. Write only that person's next message, short and natural."


class EndpointAgent:
    """An agent behind ``/v1/chat/completions``. The client retries and times out by itself.

    Args:
        url: e.g. ``http://127.0.0.1:8000/v1``.
        model: the model's name there.
        role: whose utterances it gives; as ``user`` the roles are swapped, as such servers speak as the assistant.
        api_key: sent as a bearer token, never logged.
        emotion_input: whether the probabilities of u1 stand in the system message.
        generation: fields of the request, e.g. ``temperature``, ``max_tokens``, which ``max_new_tokens`` becomes; what
            the server does not know is its own to refuse.
        timeout_s: of one request, in seconds.
        n_parallel: requests at once.

    Raises:
        InputError: a setting of generation out of its range.
    """

    can_support = True

    def __init__(
        self,
        url: str,
        model: str,
        *,
        role: Role = "assistant",
        api_key: str | None = None,
        emotion_input: bool = False,
        generation: dict[str, Any] | None = None,
        timeout_s: float = 60.0,
        n_parallel: int = 8,
    ) -> None:
        from openai import OpenAI

        self.name = f"{model}@{url}"
        self.model, self.emotion_input = model, emotion_input
        self.role: Role = role
        check_generation(generation or {})
        named = {"max_tokens" if k == "max_new_tokens" else k: v for k, v in (generation or {}).items()}
        self.generation = {"max_tokens": 80, "temperature": 0.9} | named
        self.n_parallel = n_parallel
        self._connection: dict[str, Any] = {"base_url": url, "api_key": api_key or "none", "timeout": timeout_s}
        self.client = OpenAI(**self._connection)

    @functools.cached_property
    def async_client(self) -> AsyncOpenAI:
        """The client of ``answer``; for one event loop."""
        from openai import AsyncOpenAI

        return AsyncOpenAI(**self._connection)

    def respond(self, contexts: Sequence[Context], *, seed: int | None = None) -> list[str]:
        """Give one response per context.

        Raises:
            InputError: the endpoint cannot be reached or refuses.
        """
        with ThreadPoolExecutor(self.n_parallel) as pool:
            return list(pool.map(lambda c: self._one(c, seed), contexts))

    def stream(self, context: Context, *, seed: int | None = None) -> Generator[str]:
        """Give the response to one context in pieces, as the endpoint sends them.

        Raises:
            InputError: the endpoint cannot be reached or refuses.
        """
        from openai import OpenAIError

        try:
            with self.client.chat.completions.create(**self._request(context, seed), stream=True) as chunks:
                for chunk in chunks:
                    if chunk.choices and chunk.choices[0].delta.content:
                        yield chunk.choices[0].delta.content
        except OpenAIError as e:
            raise InputError(f"no answer ({type(e).__name__})", where=self.name, fix="is the server up?") from e

    def with_settings(self, settings: Settings) -> Self:
        """Give the same agent, asking with a request's settings; the clients are shared."""
        changed = copy.copy(self)
        named = {"max_tokens": settings.max_tokens, "temperature": settings.temperature, "top_p": settings.top_p}
        changed.generation = self.generation | {k: v for k, v in named.items() if v is not None}
        return changed

    async def answer(self, ask: Ask) -> None:
        """Answer one request as the endpoint sends it: each piece, then the end, to ``ask.give``.

        Cancelling closes the connection, by which engines know that nobody waits.
        """
        from openai import OpenAIError

        request = self.with_settings(ask.settings)._request(ask.context, ask.settings.seed)
        finish: Literal["stop", "length"] = "stop"
        usage = None
        try:
            async with await self.async_client.chat.completions.create(**request, stream=True) as chunks:
                async for chunk in chunks:
                    usage = chunk.usage or usage
                    if not chunk.choices:
                        continue
                    if text := chunk.choices[0].delta.content:
                        ask.give(text)
                    if chunk.choices[0].finish_reason == "length":
                        finish = "length"
        except OpenAIError as e:
            log.error("%s gave no answer (%s)", self.name, type(e).__name__)
            ask.give(End("error", error=e))
            return
        ask.give(End(finish, usage and usage.prompt_tokens, usage and usage.completion_tokens))

    def _one(self, context: Context, seed: int | None) -> str:
        from openai import OpenAIError

        try:
            answer = self.client.chat.completions.create(**self._request(context, seed))
        except OpenAIError as e:
            raise InputError(f"no answer ({type(e).__name__})", where=self.name, fix="is the server up?") from e
        return " ".join((answer.choices[0].message.content or "").split()) or "..."

    def _request(self, context: Context, seed: int | None) -> dict[str, Any]:
        messages = self._messages(context)
        return {"model": self.model, "messages": messages, "seed": seed, "extra_body": self.generation}

    def _messages(self, context: Context) -> Any:
        if self.role == "user":
            swapped = {"user": "assistant", "assistant": "user"}
            turns = [{"role": swapped[u.role], "content": u.content} for u in context.utterances]
            return [{"role": "system", "content": _AS_USER}, *turns]
        emotion = context.emotion if self.emotion_input else None
        lead = system_line(emotion, is_supportive=context.is_supportive)
        return [
            {"role": "system", "content": lead},
            *({"role": u.role, "content": u.content} for u in context.utterances),
        ]
