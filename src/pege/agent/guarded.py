"""Safety around a model: a crisis is answered by fixed text and no model sees it; responses pass a filter."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import Protocol

from pege.agent.agent import StreamingAgent
from pege.agent.output_filter import fixed_response, refuse_response
from pege.dialog import Context
from pege.safety import Crisis, check_dialog, help_for

log = logging.getLogger(__name__)
_SENTENCE = re.compile(r".*?[.!?。！？\n]+\s*", re.DOTALL)

#: Told of each hit: its kind, or ``check-failed``. No text of the user's is passed.
Alert = Callable[[str], None]


class Guard(Protocol):
    """A further check beside ours, such as a guard model (Qwen3Guard, Llama Guard)."""

    def check(self, text: str) -> Crisis | None:
        """Give the crisis that a text speaks of, or None. What it raises counts as a hit."""


class GuardedAgent:
    """An agent behind the crisis check, whose responses pass the output filter.

    Once an utterance of the user's was a hit, all later responses of that dialog are the fixed text too: no guidance.
    It fails closed: where a check cannot be loaded or raises, the answer is the fixed text.

    Args:
        agent: whom the other contexts go to.
        guards: asked beside our own check; a hit of any is a hit.
        alert: told of each hit; what it raises is logged and changes nothing.
    """

    def __init__(self, agent: StreamingAgent, *, guards: Sequence[Guard] = (), alert: Alert | None = None) -> None:
        self.agent, self.guards, self.alert = agent, guards, alert
        self.name = agent.name

    def respond(self, contexts: Sequence[Context], *, seed: int | None = None) -> list[str]:
        """Give one response per context; only those without a crisis reach the agent."""
        fixed = [self.help(c) for c in contexts]
        open_contexts = [c for c, text in zip(contexts, fixed, strict=True) if text is None]
        answers = iter(self._filtered(open_contexts, seed) if open_contexts else ())
        return [next(answers) if text is None else text for text in fixed]

    def help(self, context: Context) -> str | None:
        """Give the fixed text where the context speaks of a crisis or a check fails, else None."""
        said = [u.content for u in context.utterances if u.role == "user"]
        try:
            crisis = check_dialog(said) or next((c for g in self.guards for t in said if (c := g.check(t))), None)
        except Exception as e:  # fails closed: no model answers where a check could not
            log.error("the crisis check failed (%s); the fixed text is given", type(e).__name__)
            self._tell("check-failed")
            return help_for(said[-1] if said else "")
        if crisis is None:
            return None
        self._tell(crisis.kind)
        return help_for(said[-1])

    def stream(self, context: Context, *, seed: int | None = None) -> Generator[str]:
        """Give the response to one context, a sentence at a time, each after the filter; the fixed text is one piece.

        Where the first sentence is refused, the response is drawn once more; after that, and where a later one is
        refused, the fixed response ends it.
        """
        text = self.help(context)
        if text is not None:
            yield text
            return
        said = ""
        for attempt in range(2):
            with closing(self.agent.stream(context, seed=None if seed is None else seed + attempt)) as pieces:
                for sentence in _sentences(pieces):
                    if refuse_response(said + sentence):
                        break
                    said += sentence
                    yield sentence
                else:
                    return
            if said:
                break
        yield fixed_response(context.utterances[-1].content)

    def _filtered(self, contexts: Sequence[Context], seed: int | None) -> list[str]:
        responses = self.agent.respond(contexts, seed=seed)
        refused = [k for k, r in enumerate(responses) if refuse_response(r)]
        if refused:
            again = self.agent.respond([contexts[k] for k in refused], seed=None if seed is None else seed + 1)
            for k, response in zip(refused, again, strict=True):
                is_refused = refuse_response(response) is not None
                responses[k] = fixed_response(contexts[k].utterances[-1].content) if is_refused else response
        return responses

    def _tell(self, kind: str) -> None:
        if self.alert is not None:
            try:
                self.alert(kind)
            except Exception as e:  # an owner's hook must not keep the fixed text from the person
                log.error("the alert failed (%s)", type(e).__name__)


def _sentences(pieces: Generator[str]) -> Generator[str]:
    """Pieces joined to whole sentences; what is left at the end is the last."""
    rest = ""
    for piece in pieces:
        rest += piece
        while found := _SENTENCE.match(rest):
            if found.end() == len(rest):
                break  # more marks may follow
            yield found.group()
            rest = rest[found.end() :]
    if rest:
        yield rest
