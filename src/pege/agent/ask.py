"""One request to whoever generates, and how it ends; `continuous` and `endpoint` answer it, a server asks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pege.agent.settings import Settings
from pege.dialog import Context


@dataclass(frozen=True)
class End:
    """The end of a row.

    Attributes:
        finish: ``stop``, ``length`` at its limit of tokens, or ``error``.
        n_prompt: tokens read.
        n_new: tokens generated.
        error: what failed.
    """

    finish: Literal["stop", "length", "error"] = "stop"
    n_prompt: int | None = None
    n_new: int | None = None
    error: Exception | None = None


@dataclass(frozen=True)
class Ask:
    """A request for one response.

    Attributes:
        context: to respond to.
        settings: of sampling.
        give: told of each piece of text and then of the end, in the thread that generates.
        is_left_off: whether nobody waits for it any more; asked before each token.
    """

    context: Context
    settings: Settings
    give: Callable[[str | End], None]
    is_left_off: Callable[[], bool]
