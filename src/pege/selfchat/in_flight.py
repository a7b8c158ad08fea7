"""Two agents talk, every dialog at its own pace: an utterance that ended goes to the other side at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pege.agent import Agent
from pege.dialog import Context, Dialog, Role, Utterance
from pege.selfchat.batches import OnUtterances

if TYPE_CHECKING:
    from pege.agent.flight import Flight

_SWITCH_BELOW = 0.5  # one side goes on until its rows are this share of the other's


def flights_of(agent: Agent, user: Agent) -> tuple[Flight, Flight] | None:
    """Give the flights of both agents, or None where one of them has none (`pege.agent.generate.LocalAgent.flight`)."""
    makers = [getattr(side, "flight", None) for side in (agent, user)]
    if any(m is None for m in makers):
        return None
    first, second = (m() for m in makers if m is not None)
    return (first, second) if first is not None and second is not None else None


def play_in_flight(
    agent: Flight,
    user: Flight,
    starters: Sequence[Dialog],
    *,
    n_turns: int,
    seed: tuple[int, ...],
    on_utterances: OnUtterances = lambda n: None,
) -> list[list[Utterance]]:
    """Let two agents talk; greedy, the dialogs are those of `pege.selfchat.play.play_in_turns`.

    One side generates until few of its rows are left, then the other takes in all that waits for it: so both work on
    many rows, and none waits for the longest.

    Args:
        agent: the candidate's; it sees the starter's emotion.
        user: plays the user from the third utterance on.
        starters: dialogs of one utterance, with ``emotion``.
        n_turns: turns of two utterances, the starter included.
        seed: with the numbers of dialog and utterance it seeds the utterance's own draws.
        on_utterances: told how many utterances were said, each time.

    Returns:
        The utterances of each dialog, the starter first.
    """
    talks = [list(s.messages) for s in starters]
    sides = (user, agent)  # utterance k is said by sides[k % 2]

    def go_on(dialog: int) -> None:
        talk = talks[dialog]
        k = len(talk)
        if k < 2 * n_turns:
            context = Context(utterances=tuple(talk), emotion=starters[dialog].emotion)
            sides[k % 2].add(dialog, context, seed=(*seed, dialog, k))
        if k >= 2 * n_turns - 1:  # the other side has nothing more to say
            sides[(k + 1) % 2].drop(dialog)

    for dialog in range(len(talks)):
        go_on(dialog)
    at_work, other = agent, user
    while len(at_work) or len(other):
        if len(at_work) < _SWITCH_BELOW * len(other) or not len(at_work):
            at_work, other = other, at_work
        ended = at_work.step()
        role: Role = "assistant" if at_work is agent else "user"
        for dialog, text in ended:
            talks[dialog].append(Utterance(role=role, content=text))
            go_on(dialog)
        if ended:
            on_utterances(len(ended))
    return talks
