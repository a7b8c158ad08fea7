"""What an agent is."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Protocol

from pege.dialog import Context


class Agent(Protocol):
    """Anything that responds. It may speak for either side: it gives the utterance that follows each context."""

    @property
    def name(self) -> str:
        """What logs and rows call it."""

    def respond(self, contexts: Sequence[Context], *, seed: int | None = None) -> list[str]:
        """Give one response per context, never empty; the same seed gives the same responses where that is possible."""


def can_support(agent: Agent) -> bool:
    """Whether an agent heeds ``Context.is_supportive``: it has a ``can_support`` that is true."""
    return bool(getattr(agent, "can_support", False))


class StreamingAgent(Agent, Protocol):
    """An agent that also gives a response in pieces, as it comes."""

    def stream(self, context: Context, *, seed: int | None = None) -> Generator[str]:
        """Give the response to one context in pieces. Closing the generator ends the work on it."""
