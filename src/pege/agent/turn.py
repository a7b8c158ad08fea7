"""A response on its way out: nothing is shown that the output filter has not read."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence

from pege.agent.model import FALLBACK
from pege.agent.output_filter import CLOSING_MARKS, END_MARKS, fixed_response, refuse_response
from pege.words import guess_language

log = logging.getLogger(__name__)
_SENTENCE = re.compile(rf".*?[{END_MARKS}\n]+[{CLOSING_MARKS}]*\s*", re.DOTALL)
_SPACE = re.compile(r"[\s\ufffd\x00-\x1f\x7f-\x9f]+")
_N_TRIES = 2


class Turn:
    """One response, let out sentence by sentence; it knows nothing of threads or of asyncio.

    A sentence is let out when the filter has read the whole text up to its end. Where the first one is refused, or
    nothing comes, the response is drawn once more; after that, and where a later one is refused, fixed text ends it.

        turn = Turn(asked)
        while turn.is_open:
            for piece in model(...):
                show(turn.feed(piece))
                if not turn.wants_more: break
            show(turn.end())

    Args:
        asked: the user's last utterance; fixed text is in its language.
        stops: texts before which the response ends.
        closing: fixed words after a response of the model's.
        refuse: gives why a text must not be said, or None.

    Attributes:
        text: what was let out.
        is_open: whether the model is to be asked (again).
        is_fixed: whether all of the text is fixed.
        reason: why there is fixed text in it: what the filter said, ``check-failed`` where it
            raised, ``empty``, ``failed``; None where there is none.
    """

    def __init__(
        self,
        asked: str,
        *,
        stops: Sequence[str] = (),
        closing: str = "",
        refuse: Callable[[str], str | None] = refuse_response,
    ) -> None:
        self.text, self.is_open, self.is_fixed = "", True, False
        self.reason: str | None = None
        self._asked, self._stops, self._refuse = asked, stops, refuse
        self._closing = closing
        self._rest, self._has_gap, self._n_tries = "", False, 0
        self._is_refused = self._is_ended = False

    @property
    def wants_more(self) -> bool:
        """Whether the model has to go on with this try."""
        return not (self._is_refused or self._is_ended)

    def feed(self, piece: str) -> str:
        """Take a piece of the model's text; give what may be shown, often nothing yet."""
        return self.let_out() if self.take(piece) else ""

    def take(self, piece: str) -> bool:
        """Take a piece of the model's text without asking the filter; whether a sentence is whole now."""
        self._rest += piece
        places = [self._rest.index(stop) for stop in self._stops if stop in self._rest]
        if places:
            self._rest, self._is_ended = self._rest[: min(places)], True
        return self._whole() is not None

    def let_out(self) -> str:
        """Give what may be shown of the sentences that are whole: the filter reads them."""
        shown = ""
        while not self._is_refused and (sentence := self._whole()):
            self._rest = self._rest[len(sentence) :]
            shown += self._let_out(sentence)
        return shown

    def _whole(self) -> str | None:
        """The next sentence, where no more marks of it may follow."""
        found = _SENTENCE.match(self._rest)
        return found.group() if found and found.end() < len(self._rest) - self._n_held() else None

    def _n_held(self) -> int:
        """Characters at the end that may be the start of a text to stop before."""
        return max((k for stop in self._stops for k in range(len(stop)) if self._rest.endswith(stop[:k])), default=0)

    def end(self) -> str:
        """Say that the model has ended, or was stopped; give what may be shown of the rest, or fixed text."""
        shown = "" if self._is_refused else self._let_out(self._rest)
        self._rest, self._has_gap, self._is_ended = "", False, False
        self._n_tries += 1
        if self.text and not self._is_refused:
            self.is_open, self.reason = False, None
            return shown + self._append(self._closing)
        if not self.text and self._n_tries < _N_TRIES:
            self._is_refused = False
            return ""
        return shown + self.give_up("failed" if self._is_refused else "empty")

    def give_up(self, reason: str) -> str:
        """End the response with fixed text, for a reason unless there is one already, and give that text."""
        self.is_open, self._is_refused, self.reason = False, True, self.reason or reason
        fixed = FALLBACK[guess_language(self._asked)] if self.reason == "empty" else fixed_response(self._asked)
        self.is_fixed = not self.text
        return self._append(fixed)

    def _append(self, fixed: str) -> str:
        gap = " " if self.text and fixed and self.text[-1].isascii() else ""
        self.text += gap + fixed
        return gap + fixed

    def _let_out(self, sentence: str) -> str:
        """Give a sentence as it is shown, spaces single; nothing where it is refused."""
        clean = _SPACE.sub(" ", sentence)
        if not clean.strip():
            self._has_gap |= bool(clean)
            return ""
        gap = " " if self.text and (self._has_gap or clean[0] == " ") else ""
        shown = gap + clean.strip()
        if reason := self._why_not(self.text + shown):
            self.reason, self._is_refused = reason, True
            return ""
        self.text += shown
        self._has_gap = clean[-1] == " "
        return shown

    def _why_not(self, text: str) -> str | None:
        try:
            return self._refuse(text)
        except Exception as e:  # what could not be read is not said
            log.error("the output filter failed (%s)", type(e).__name__)
            return "check-failed"
