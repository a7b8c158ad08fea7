"""Safety before the model: a crisis is answered by fixed text, and no model sees it."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from pege.agent.agent import StreamingAgent
from pege.dialog import Context
from pege.safety import check_crisis, help_for


class GuardedAgent:
    """An agent behind the crisis check.

    Once an utterance of the user's was a hit, all later responses of that dialog are the fixed text too. Where the
    check itself fails, its error goes through and no model answers.

    Args:
        agent: whom the other contexts go to.
    """

    def __init__(self, agent: StreamingAgent) -> None:
        self.agent = agent
        self.name = agent.name

    def respond(self, contexts: Sequence[Context], *, seed: int | None = None) -> list[str]:
        """Give one response per context; only those without a crisis reach the agent."""
        fixed = [crisis_help(c) for c in contexts]
        open_contexts = [c for c, text in zip(contexts, fixed, strict=True) if text is None]
        answers = iter(self.agent.respond(open_contexts, seed=seed) if open_contexts else ())
        return [next(answers) if text is None else text for text in fixed]

    def stream(self, context: Context, *, seed: int | None = None) -> Generator[str]:
        """Give the response to one context in pieces; the fixed text is one piece."""
        text = crisis_help(context)
        if text is None:
            yield from self.agent.stream(context, seed=seed)
        else:
            yield text


def crisis_help(context: Context) -> str | None:
    """Give the fixed text where any utterance of the user's is a crisis, else None."""
    for utterance in context.utterances:
        if utterance.role == "user" and check_crisis(utterance.content):
            return help_for(utterance.content)
    return None
