"""What goes in and comes out: the request of the OpenAI API to a context, and the ``pege`` field of the answer."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pege.agent.settings import MAX_STOPS, Settings, Stop
from pege.dialog import MAX_UTTERANCE_CHARS, Context, Emotion, Role, Utterance
from pege.errors import InputError


class Part(BaseModel):
    """A part of a message; what is not text (a picture, a sound) is not read."""

    model_config = ConfigDict(extra="ignore")
    type: str = Field(max_length=50)
    text: str = Field(default="", max_length=MAX_UTTERANCE_CHARS)


class Message(BaseModel):
    """A message of the OpenAI API. Only what the user and the assistant say is read, no tool's and no system message.

    An assistant's message that calls a tool has no content.
    """

    model_config = ConfigDict(extra="ignore")
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Annotated[str | list[Part], Field(max_length=MAX_UTTERANCE_CHARS)] | None = None

    @property
    def text(self) -> str:
        """The content as one text."""
        if self.content is None or isinstance(self.content, str):
            return self.content or ""
        return "\n".join(part.text for part in self.content if part.type in ("text", "input_text"))


class StreamOptions(BaseModel):
    """What a stream also gives."""

    model_config = ConfigDict(extra="ignore")
    include_usage: bool = False


class ChatRequest(BaseModel):
    """A request for a response. What is not named here (tools, logprobs, penalties) is not heeded."""

    model_config = ConfigDict(extra="ignore")
    model: str = Field(max_length=200)
    messages: list[Message] = Field(min_length=1)
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=1, le=100_000)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=100_000)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    seed: int | None = Field(default=None, ge=0, lt=2**32)
    stop: Stop | Annotated[list[Stop], Field(max_length=MAX_STOPS)] | None = None
    n: Literal[1] | None = None

    @property
    def settings(self) -> Settings:
        """What of it changes how the agent decodes."""
        stops = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return Settings(
            max_tokens=self.max_completion_tokens or self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.seed,
            stop=tuple(s for s in stops if s),
        )

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with the counts of tokens."""
        return self.stream_options is not None and self.stream_options.include_usage


def context_of(messages: list[Message]) -> Context:
    """Give the context that messages make; those of one side in a row are joined.

    Raises:
        InputError: no message of the user's, or not the user's first and last.
    """
    said: list[Utterance] = []
    for message in messages:
        if message.role not in ("user", "assistant") or not message.text.strip():
            continue
        role: Role = "user" if message.role == "user" else "assistant"
        is_more = bool(said) and said[-1].role == role
        text = f"{said.pop().content}\n{message.text}" if is_more else message.text
        if len(text) > MAX_UTTERANCE_CHARS:
            raise InputError("an utterance is too long", where="messages", fix=f"{MAX_UTTERANCE_CHARS} characters")
        said.append(Utterance(role=role, content=text))
    if not said or said[0].role != "user" or said[-1].role != "user":
        raise InputError("must start and end with a message of the user that is not blank", where="messages")
    return Context(utterances=tuple(said))


def guidance_of(n_utterances: int, emotion: Emotion | None, *, is_off: bool) -> dict[str, Any]:
    """Give the stage of guidance and the weight w = p + (1 - p) cos(pi min(n, M) / M) of Eq. 2 and 3.

    ``empathy`` where w is above 0, ``elicitation`` below; ``off`` after a crisis.
    """
    if is_off:
        return {"stage": "off", "weight": None}
    import torch

    from pege.loss import context_weight

    p = torch.tensor(emotion.positive if emotion else 0.0, dtype=torch.float64)
    weight = float(context_weight(n_utterances, p))
    return {"stage": "empathy" if weight > 0 else "elicitation", "weight": round(weight, 4)}


def vad_of(texts: list[str]) -> list[dict[str, float] | None]:
    """Give valence, arousal and dominance of each utterance by our lexicon; None without a word of it."""
    from pege.lexicon import load_lexicon
    from pege.metrics import utterance_vad
    from pege.words import guess_language, segmenter

    language = guess_language(" ".join(texts))
    lexicon, cut = load_lexicon(f"pege-{language}"), segmenter(language)
    found = [utterance_vad(t, lexicon, cut) for t in texts]
    names = ("valence", "arousal", "dominance")
    return [None if v is None else dict(zip(names, (round(float(x), 4) for x in v), strict=True)) for v in found]
