"""The row model: dialogs of alternating utterances, the user first (design sec. 1, 2, 7)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from pege.words import guess_language

Role = Literal["user", "assistant"]
MAX_UTTERANCE_CHARS = 50_000  # above the longest post of the large forums (40,000)
MAX_UTTERANCES = 10_000

Content = Annotated[str, StringConstraints(max_length=MAX_UTTERANCE_CHARS, pattern=r"\S")]
Share = Annotated[float, Field(ge=0, le=1)]


class Utterance(BaseModel):
    """One message of one side. Further fields of a source (its own labels) are kept as they are."""

    model_config = ConfigDict(frozen=True, extra="allow")
    role: Role
    content: Content


class Emotion(BaseModel):
    """p(negative), p(neutral), p(positive) of an utterance; they sum to 1 within 0.02."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    negative: Share
    neutral: Share
    positive: Share

    @model_validator(mode="after")
    def _sums_to_one(self) -> Emotion:
        total = self.negative + self.neutral + self.positive
        if abs(total - 1) > 0.02:
            raise ValueError(f"the three probabilities sum to {total:.3f}, not 1")
        return self


class Dialog(BaseModel):
    """One dialog, a row on disk (docs/rows.md).

    ``messages`` alternate and start with the user. ``emotion`` is that of the first utterance; raw rows lack it.
    ``id`` may be empty in memory; readers fill it from file and line. Further fields are kept.
    """

    model_config = ConfigDict(frozen=True, extra="allow")
    id: str = Field("", coerce_numbers_to_str=True)
    lang: Literal["en", "zh"] | None = None
    source: str | None = None
    messages: tuple[Utterance, ...] = Field(min_length=1, max_length=MAX_UTTERANCES)
    emotion: Emotion | None = None

    @model_validator(mode="after")
    def _alternates(self) -> Dialog:
        if self.messages[0].role != "user":
            raise ValueError('starts with "assistant"; a dialog starts with "user"')
        for k in range(1, len(self.messages)):
            if self.messages[k].role == self.messages[k - 1].role:
                raise ValueError(f'two "{self.messages[k].role}" messages in a row at {k}; roles alternate')
        return self

    @property
    def texts(self) -> list[str]:
        """The utterances as plain strings, the user's first."""
        return [m.content for m in self.messages]

    @property
    def language(self) -> str:
        """``lang`` where the row has it, else a guess from the share of Han characters."""
        return self.lang or guess_language(" ".join(self.texts))

    @property
    def user_utterances(self) -> list[str]:
        """u_1, u_3, u_5, ..."""
        return self.texts[0::2]

    @property
    def agent_utterances(self) -> list[str]:
        """u_2, u_4, ..."""
        return self.texts[1::2]

    @property
    def n_half(self) -> int:
        """Utterances of one side in the paper's half: floor(n / 4), at least 1; odd n counts as n + 1."""
        n = len(self.messages)
        return max(1, (n + n % 2) // 4)

    @property
    def user_last_half(self) -> list[str]:
        """u_{-2}, u_{-4}, ... of Eq. 7, in the order they were said."""
        return self.user_utterances[-self.n_half :]

    @property
    def agent_first_half(self) -> list[str]:
        """u_2, u_4, ... of Eq. 8; empty where the agent never spoke."""
        return self.agent_utterances[: self.n_half]

    def contexts(self) -> Iterator[Context]:
        """A context per response of the agent."""
        for k in range(1, len(self.messages), 2):
            yield Context(utterances=self.messages[:k], emotion=self.emotion, response=self.messages[k].content)


class Context(BaseModel):
    """All utterances before a response, and the response where it is known.

    ``is_supportive``: the dialog had a crisis; whoever responds only supports, without guidance (docs/safety.md).
    """

    model_config = ConfigDict(frozen=True)
    utterances: tuple[Utterance, ...]
    emotion: Emotion | None = None
    response: str | None = None
    is_supportive: bool = False


def make_dialog(texts: list[str], **fields: Any) -> Dialog:
    """Make a dialog from plain strings, the user's first."""
    roles: tuple[Role, Role] = ("user", "assistant")
    messages = tuple(Utterance(role=roles[k % 2], content=t) for k, t in enumerate(texts))
    return Dialog(messages=messages, **fields)
