"""Any OpenAI-compatible endpoint as an agent: vLLM, llama.cpp, a hosted model."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import logging
import re
from collections.abc import AsyncGenerator, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal, Self

from pege.agent.ask import Ask, End
from pege.agent.settings import Settings
from pege.dialog import Context, Role
from pege.errors import InputError
from pege.models.generation import check_generation
from pege.models.prompt import system_line

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAIError

log = logging.getLogger(__name__)
_AS_USER = "You play the person who started this chat. Write only that person's next message, short and natural."
_UP_S = 2.0  # for the question whether an engine is there
_CHARS_A_TOKEN, _MAX_TOKENS = 64, 4_096  # where an engine keeps no limit of tokens, its text is cut
#: how engines refuse what is too long: OpenAI and SGLang, llama.cpp, vLLM (two wordings), TGI
_TOO_LONG = re.compile(r"context[ _](?:length|size|window)|maximum model length|`inputs`", re.IGNORECASE)
#: the first mark of what tokenizers know as a control token, wherever it stands
_CONTROL = re.compile(
    r"[<＜](?=[|｜]"  # <|im_start|>, <|im_end, <｜User｜>
    r"|/?[\w:]+[|｜][>＞]"  # <turn|>
    r"|/?(?=\w*_)_?[^\W_]\w*[>＞]"  # <start_of_turn>, </tool_call>, <reserved_106>
    r"|/?(?:s|bos|eos|eod|eot|sop|eop|pad|unk|cls|sep|mask|think|image|video|audio|unused\d+|seed:\w+)[>＞]"
    r"|/?SYS>>)"  # <<SYS>>
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_\w+|THINK|ARGS|CALL_ID|IMG\w*|UNUSED_TOKEN_\d+"
    r"|[gs]?MASK|CLS|SEP|PAD|UNK|BOS|EOS)\])"
)


class TooLongError(InputError):
    """The last utterance alone is longer than the endpoint reads."""


def without_control(text: str) -> str:
    """Give a text that spells no control token of a known shape: a space follows the first mark of each.

    An engine reads a person's ``<|im_end|>`` as the end of their message, since it tokenizes the whole prompt at once.
    """
    return _CONTROL.sub(lambda found: f"{found.group()} ", text)


class EndpointAgent:
    """An agent behind ``/v1/chat/completions``. The client retries and times out by itself.

    Where a context is too long for it, the older half of the turns is left out, then of those that are left; the system
    line and the last utterance stay. No text that it is sent spells a control token.

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

    can_support = False  # what it learned is not known here: an owner says who supports

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
        self._counts = True  # whether it can be asked for the number of tokens of a stream

    @functools.cached_property
    def async_client(self) -> AsyncOpenAI:
        """The client of ``answer``; for one event loop."""
        from openai import AsyncOpenAI

        return AsyncOpenAI(**self._connection)

    def respond(self, contexts: Sequence[Context], *, seed: int | None = None) -> list[str]:
        """Give one response per context.

        Raises:
            InputError: the endpoint cannot be reached or refuses; a `TooLongError` where that is for length.
        """
        with ThreadPoolExecutor(self.n_parallel) as pool:
            return list(pool.map(lambda c: self._one(c, seed), contexts))

    def stream(self, context: Context, *, seed: int | None = None) -> Generator[str]:
        """Give the response to one context in pieces, as the endpoint sends them.

        Raises:
            InputError: the endpoint cannot be reached or refuses; a `TooLongError` where that is for length.
        """
        from openai import OpenAIError

        for shorter in _shorter(context):
            is_begun = False
            try:
                with self.client.chat.completions.create(**self._request(shorter, seed), stream=True) as chunks:
                    for chunk in chunks:
                        if text := _text_of(_choice_of(chunk), "delta"):
                            is_begun = True
                            yield text
                return
            except (OpenAIError, ValueError) as e:
                if is_begun or not _is_too_long(e):
                    raise self._no_answer(e) from e
        raise self._too_long()

    def with_settings(self, settings: Settings) -> Self:
        """Give the same agent, asking with a request's settings; the clients are shared."""
        changed = copy.copy(self)
        named = {"max_tokens": settings.max_tokens, "temperature": settings.temperature, "top_p": settings.top_p}
        changed.generation = self.generation | {k: v for k, v in named.items() if v is not None}
        return changed

    async def answer(self, ask: Ask) -> None:
        """Answer one request as the endpoint sends it: each piece, then the end, to ``ask.give``.

        Cancelling closes the connection, by which engines know that nobody waits. The end is an error, a `TooLongError`
        where it is one of length, if the endpoint cannot be reached, refuses or sends an error.

        Raises:
            Exception: it sends what is no answer, or breaks off.
        """
        from openai import OpenAIError

        agent = self.with_settings(ask.settings)
        n_chars = _CHARS_A_TOKEN * (agent.generation.get("max_tokens") or _MAX_TOKENS)
        for shorter in _shorter(ask.context):
            request, is_begun = agent._request(shorter, ask.settings.seed), False
            try:
                async with contextlib.aclosing(self._read(request, n_chars)) as pieces:
                    async for piece in pieces:
                        is_begun = True
                        ask.give(piece)
                return
            except OpenAIError as e:
                if is_begun or not _is_too_long(e):
                    log.error("%s gave no answer (%s)", self.name, type(e).__name__)
                    ask.give(End("error", error=e))
                    return
        ask.give(End("error", error=self._too_long()))

    async def is_up(self) -> bool:
        """Whether the endpoint answers within two seconds, asked for its models."""
        from openai import APIStatusError, OpenAIError

        client = self.async_client.with_options(max_retries=0)
        try:
            async with asyncio.timeout(_UP_S):
                await client.models.with_raw_response.list()
        except APIStatusError as e:
            return e.status_code < 500 and e.status_code != 401  # with a wrong key nothing is answered
        except (OpenAIError, TimeoutError):
            return False
        return True

    async def _read(self, request: dict[str, Any], n_chars: int) -> AsyncGenerator[str | End]:
        """The pieces of a response, at most so many characters, and its end."""
        finish, usage = None, None
        async with await self._open(request) as chunks:
            async for chunk in chunks:
                choice, usage = _choice_of(chunk), getattr(chunk, "usage", None) or usage
                finish = getattr(choice, "finish_reason", None) or finish
                if text := _text_of(choice, "delta")[:n_chars]:
                    n_chars -= len(text)
                    yield text
                if not n_chars:
                    finish = "length"
                    break
        if finish is None:
            raise ValueError("the endpoint broke off")
        ends: Literal["stop", "length"] = "length" if finish == "length" else "stop"
        yield End(ends, _count_of(usage, "prompt_tokens"), _count_of(usage, "completion_tokens"))

    async def _open(self, request: dict[str, Any]) -> Any:
        """Ask for a stream, and for its number of tokens unless that was found to be what the endpoint refuses."""
        from openai import BadRequestError, UnprocessableEntityError

        create = self.async_client.chat.completions.create
        if self._counts:
            try:
                return await create(**request, stream=True, stream_options={"include_usage": True})
            except (BadRequestError, UnprocessableEntityError) as e:
                if _is_too_long(e):
                    raise
        chunks = await create(**request, stream=True)
        self._counts = False
        return chunks

    def _one(self, context: Context, seed: int | None) -> str:
        from openai import OpenAIError

        for shorter in _shorter(context):
            try:
                choice = _choice_of(self.client.chat.completions.create(**self._request(shorter, seed)))
            except (OpenAIError, ValueError) as e:
                if not _is_too_long(e):
                    raise self._no_answer(e) from e
                continue
            if choice is None:
                raise InputError("answers in another form", where=self.name, fix="is it the /v1 of an OpenAI-like API?")
            return " ".join(_text_of(choice, "message").split()) or "..."
        raise self._too_long()

    def _no_answer(self, error: OpenAIError | ValueError) -> InputError:
        return InputError(f"no answer ({type(error).__name__})", where=self.name, fix="is the server up?")

    def _too_long(self) -> TooLongError:
        return TooLongError("the last utterance is longer than it reads", where=self.name, fix="shorten it")

    def _request(self, context: Context, seed: int | None) -> dict[str, Any]:
        messages = self._messages(context)
        return {"model": self.model, "messages": messages, "seed": seed, "extra_body": self.generation}

    def _messages(self, context: Context) -> Any:
        texts = [without_control(u.content) for u in context.utterances]
        if self.role == "user":
            swapped = {"user": "assistant", "assistant": "user"}
            lead, roles = _AS_USER, [swapped[u.role] for u in context.utterances]
        else:
            emotion = context.emotion if self.emotion_input else None
            lead = system_line(emotion, is_supportive=context.is_supportive)
            roles = [u.role for u in context.utterances]
        turns = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]
        return [{"role": "system", "content": lead}, *turns]


def _shorter(context: Context) -> Iterator[Context]:
    """A context, then with the newer half of its turns, a quarter, ..., down to what is never left out."""
    yield context
    n_turns = n_kept = (len(context.utterances) - 1) // 2
    while n_kept:
        n_kept //= 2
        yield context.model_copy(update={"utterances": context.utterances[2 * (n_turns - n_kept) :]})


def _is_too_long(error: Exception) -> bool:
    """Whether an endpoint refuses for length, with a status or as the first event of a stream."""
    from openai import APIError

    return isinstance(error, APIError) and bool(_TOO_LONG.search(f"{error} {error.body}"))


def _choice_of(answer: Any) -> Any:
    """The first choice of an answer or of a chunk, None where it has none; the client checks no forms."""
    choices = getattr(answer, "choices", None)
    return choices[0] if isinstance(choices, list) and choices else None


def _text_of(choice: Any, field: Literal["delta", "message"]) -> str:
    text = getattr(getattr(choice, field, None), "content", None)
    if not isinstance(text, str):
        return ""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # half a character is none


def _count_of(usage: Any, field: str) -> int | None:
    n = getattr(usage, field, None)
    return n if isinstance(n, int) and n >= 0 else None
