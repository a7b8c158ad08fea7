"""Safety around a model: a crisis is answered by fixed text and no model sees it; responses pass a filter."""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

from pege.agent.agent import StreamingAgent, can_support
from pege.agent.output_filter import refuse_response, support_text
from pege.agent.turn import Turn
from pege.dialog import Context, Emotion
from pege.safety import Crisis, help_for, judge_dialog

log = logging.getLogger(__name__)
CHECK_FAILED = "check-failed"  #: the kind where the check could not be made: the dialog need not have had a crisis

#: Told of each hit: its kind, or ``check-failed``. No text of the user's is passed.
Alert = Callable[[str], None]


class Guard(Protocol):
    """A further check beside ours, such as a guard model (Qwen3Guard, Llama Guard)."""

    def check(self, text: str) -> Crisis | None:
        """Give the crisis that a text speaks of, or None. What it raises counts as a hit."""


@dataclass(frozen=True)
class Look:
    """What the crisis check makes of a context.

    Attributes:
        context: what the model may read, where it is asked.
        fixed: the fixed text that is the whole answer, or None: the model is asked.
        kind: of the hit, ``earlier`` for one of an earlier utterance, or ``check-failed``; None without one.
        emotion: of u1, to be shown; after a crisis the model does not read it.
    """

    context: Context
    fixed: str | None = None
    kind: str | None = None
    emotion: Emotion | None = None

    def turn(self, *, stops: Sequence[str] = ()) -> Turn:
        """Start the response of the model's; after a crisis the filter is stricter and fixed words end it."""
        asked = self.context.utterances[-1].content
        if not self.context.is_supportive:
            return Turn(asked, stops=stops)
        refuse = functools.partial(refuse_response, is_supportive=True)
        return Turn(asked, stops=stops, refuse=refuse, closing=support_text(asked))


class GuardedAgent:
    """An agent behind the crisis check, whose responses pass the output filter.

    Once an utterance of the user's was a hit, or the context says so, guidance is off for the rest of that dialog.
    Where the hit was sure, all later responses are the fixed text too; else an agent that can may answer in a
    supportive mode (docs/safety.md). Where a check cannot be loaded or raises, the answer is the fixed text.

    Args:
        agent: whom the other contexts go to.
        guards: asked beside our own check; a hit of any is a hit.
        alert: told of each new hit; what it raises is logged and changes nothing.
        support: who answers after a crisis; the agent itself where it can. Where neither is, the fixed text goes on.
        emotions: texts to their emotions, for contexts without that of u1; asked after the check.
    """

    def __init__(
        self,
        agent: StreamingAgent,
        *,
        guards: Sequence[Guard] = (),
        alert: Alert | None = None,
        support: StreamingAgent | None = None,
        emotions: Callable[[list[str]], list[Emotion]] | None = None,
    ) -> None:
        self.agent, self.guards, self.alert, self.name = agent, guards, alert, agent.name
        self.support = support or (agent if can_support(agent) else None)
        self._emotions = emotions

    def respond(self, contexts: Sequence[Context], *, seed: int | None = None) -> list[str]:
        """Give one response per context; only those without a crisis reach the agent."""
        return ["".join(self.stream(c, seed=seed)) for c in contexts]

    def look(self, context: Context) -> Look:
        """Check what the user said so far; the model is only asked where the answer has no fixed text."""
        said = [u.content for u in context.utterances if u.role == "user"]
        try:
            found = judge_dialog(said, guards=[guard.check for guard in self.guards])
        except Exception as e:  # fails closed: no model answers where a check could not
            log.error("the crisis check failed (%s); the fixed text is given", type(e).__name__)
            self._tell(CHECK_FAILED)
            return Look(context, help_for(said[-1] if said else ""), CHECK_FAILED)
        if found.crisis:
            if found.is_new:
                self._tell(found.crisis.kind)
            return Look(context, help_for(said[-1]), found.crisis.kind)
        had_crisis = found.had_crisis or context.is_supportive
        if had_crisis and self.support is None:
            return Look(context, help_for(said[-1]), "earlier")
        emotion = context.emotion or self._emotion_of(said[0])
        read = {"is_supportive": True, "emotion": None} if had_crisis else {"emotion": emotion}
        return Look(context.model_copy(update=read), emotion=emotion)

    def speaker(self, look: Look) -> StreamingAgent:
        """Whom the model's response to a context comes from."""
        return self.support if look.context.is_supportive and self.support else self.agent

    def stream(self, context: Context, *, seed: int | None = None) -> Generator[str]:
        """Give the response to one context, a sentence at a time, each after the filter; the fixed text is one piece.

        Where the first sentence is refused, the response is drawn once more; after that, and where a later one is
        refused, the fixed response ends it.
        """
        look = self.look(context)
        if look.fixed is not None:
            yield look.fixed
            return
        turn = look.turn()
        for attempt in itertools.count():
            if not turn.is_open:
                break
            with closing(
                self.speaker(look).stream(look.context, seed=None if seed is None else seed + attempt)
            ) as pieces:
                for piece in pieces:
                    if shown := turn.feed(piece):
                        yield shown
                    if not turn.wants_more:
                        break
            if shown := turn.end():
                yield shown

    def _emotion_of(self, text: str) -> Emotion | None:
        try:
            return self._emotions([text])[0] if self._emotions else None
        except Exception as e:  # the response is worth more than the emotion
            log.error("the emotion of an utterance failed (%s)", type(e).__name__)
            return None

    def _tell(self, kind: str) -> None:
        if self.alert is not None:
            try:
                self.alert(kind)
            except Exception as e:  # an owner's hook must not keep the fixed text from the person
                log.error("the alert failed (%s)", type(e).__name__)
