"""Pairs of responses, the better one by what PEGE-Score counts of its turn: food for preference training.

In a self-chat the agent speaks twice to each context, and the user answers both. The reward of a response is the part
of Eq. 7 and 8 that hangs on it: the user's next utterance where that lies in the user's last half, the distance from
u1 where the response lies in the agent's first half. The dialog goes on with the better one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from pege.agent import Agent
from pege.dialog import Context, Dialog, Emotion, Role, Utterance
from pege.io import read_rows
from pege.lexicon import Lexicon
from pege.metrics.pege import Vector, utterance_vad
from pege.selfchat.batches import OnUtterances, write_batches
from pege.selfchat.play import settings_of
from pege.words import guess_language, segmenter


class Pair(BaseModel):
    """A context with a better and a worse response to it, and their rewards."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: str
    messages: tuple[Utterance, ...]
    emotion: Emotion | None = None
    chosen: str
    rejected: str
    reward_chosen: float
    reward_rejected: float


class TalkPairs(BaseModel):
    """All pairs of one starter's dialog, a row on disk."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    id: str
    pairs: tuple[Pair, ...]


def read_pairs(path: Path | str) -> list[Pair]:
    """Read the pairs that `run_pairs` wrote.

    Raises:
        InputError: no such file, a row that is none of its.
    """
    return [p for row in read_rows(path, TalkPairs) for p in row.pairs]


def run_pairs(
    agent: Agent,
    user: Agent,
    starters: Sequence[Dialog],
    lexicon: Lexicon,
    output: Path | str,
    *,
    n_turns: int = 10,
    seed: int = 0,
    batch_size: int = 50,
    settings: dict[str, Any] | None = None,
) -> Path:
    """Write the pairs of all starters as rows; stopped at any moment, the same call goes on with the next batch.

    Args:
        agent: speaks twice.
        user: answers both.
        starters: dialogs of one utterance, with ``emotion``.
        lexicon: of the reward.
        output: the file, .jsonl.
        n_turns: turns of two utterances, the starter included, >= 2.
        seed: of all that is said.
        batch_size: dialogs side by side.
        settings: further things that the pairs depend on.

    Raises:
        InputError: see `pege.selfchat.batches.is_done`.
    """
    wanted = pair_settings(
        agent.name, user.name, lexicon, n_starters=len(starters), n_turns=n_turns, seed=seed,
        batch_size=batch_size, settings=settings,
    )  # fmt: skip
    batches = [starters[k : k + batch_size] for k in range(0, len(starters), batch_size)]

    def make(batch: int, on_utterances: OnUtterances) -> list[TalkPairs]:
        return _play(agent, user, batches[batch], lexicon, n_turns, (seed, batch), on_utterances)

    sizes = [len(b) for b in batches]
    said = [4 * (n_turns - 1) * n for n in sizes]

    def about(rows: Sequence[TalkPairs]) -> dict[str, Any]:
        return {"n_pairs": sum(len(r.pairs) for r in rows)}

    return write_batches(Path(output), wanted, sizes, make, n_utterances=said, about=about, row=TalkPairs)


def pair_settings(
    agent: str, user: str, lexicon: Lexicon, *, settings: dict[str, Any] | None, **play: Any
) -> dict[str, Any]:
    """Give all that the pairs depend on, as ``OUTPUT.run.json`` keeps it: what a self-chat does, and the lexicon."""
    settings = {"lexicon": f"{lexicon.name}-{lexicon.version}", **(settings or {})}
    found = settings_of(agent, user, settings=settings, **play)
    return {"pairs_of": found.pop("agent"), **found}


def _play(
    agent: Agent, user: Agent, starters: Sequence[Dialog], lexicon: Lexicon, n_turns: int, seed: tuple[int, int],
    on_utterances: OnUtterances,
) -> list[TalkPairs]:  # fmt: skip
    talks = [tuple(s.messages) for s in starters]
    pairs: list[list[Pair]] = [[] for _ in starters]
    for turn in range(n_turns - 1):  # behind the last response the user says nothing
        ways = []
        for k in range(2):
            call = [int(s) for s in np.random.SeedSequence((*seed, turn, k)).generate_state(2)]
            responses = _said(agent, talks, starters, "assistant", call[0])
            ways.append(_said(user, responses, starters, "user", call[1]))
        on_utterances(4 * len(talks))
        for d, starter in enumerate(starters):
            a, b = ways[0][d], ways[1][d]
            rewards = [turn_reward(talk, lexicon, n_turns) for talk in (a, b)]
            better, worse = (a, b) if rewards[0] >= rewards[1] else (b, a)
            if better[-2].content != worse[-2].content and rewards[0] != rewards[1]:
                pairs[d].append(
                    Pair(
                        id=f"{starter.id}-{turn}", messages=talks[d], emotion=starter.emotion,
                        chosen=better[-2].content, rejected=worse[-2].content,
                        reward_chosen=max(rewards), reward_rejected=min(rewards),
                    )
                )  # fmt: skip
            talks[d] = better
    return [TalkPairs(id=s.id, pairs=tuple(p)) for s, p in zip(starters, pairs, strict=True)]


def _said(
    speaker: Agent, talks: Sequence[tuple[Utterance, ...]], starters: Sequence[Dialog], role: Role, seed: int
) -> list[tuple[Utterance, ...]]:
    """The dialogs with what a speaker says next."""
    contexts = [Context(utterances=t, emotion=s.emotion) for t, s in zip(talks, starters, strict=True)]
    texts = speaker.respond(contexts, seed=seed)
    return [(*t, Utterance(role=role, content=x)) for t, x in zip(talks, texts, strict=True)]


def turn_reward(talk: Sequence[Utterance], lexicon: Lexicon, n_turns: int) -> float:
    """Reward of the last response of a dialog that ends with the user's answer to it.

    Args:
        talk: utterances, the user's first and last.
        lexicon: gives o(word); an utterance without a word of it has the reference value.
        n_turns: of the whole self-chat: the halves of Eq. 7 and 8 are of it.
    """
    n_half, turn = max(1, n_turns // 2), len(talk) // 2 - 1  # floor(n / 4) of n = 2 n_turns utterances
    reward = 0.0
    if turn + 1 >= n_turns - n_half:  # Eq. 7
        reward += float((_vad(talk[-1].content, lexicon) - lexicon.mean).sum())
    if turn < n_half:  # Eq. 8
        reward -= float(np.abs(_vad(talk[0].content, lexicon) - _vad(talk[-2].content, lexicon)).sum())
    return reward


def _vad(text: str, lexicon: Lexicon) -> Vector:
    found = utterance_vad(text, lexicon, segmenter(guess_language(text)))
    return lexicon.mean if found is None else found
