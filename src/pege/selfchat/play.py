"""A user agent and a candidate agent talk: many dialogs side by side, seeded, resumable (design sec. 8)."""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pege.agent import Agent
from pege.dialog import Context, Dialog, Role, Utterance
from pege.safety import check_phrases
from pege.selfchat.batches import OnUtterances, write_batches
from pege.selfchat.in_flight import flights_of, play_in_flight
from pege.selfchat.starters import starter_emotion

#: plays one of some batches of starters, by its number; gives dialogs, and fallbacks to fixed words
MakeBatch = Callable[[Sequence[Sequence[Dialog]], int, OnUtterances], tuple[list[Dialog], int]]


def play_dialogs(
    agent: Agent,
    user: Agent,
    starters: Sequence[Dialog],
    *,
    n_turns: int,
    seed: int,
    batch: int = 0,
    on_utterances: OnUtterances = lambda n: None,
) -> list[Dialog]:
    """Let two agents talk, all dialogs side by side: in flight where both can, else utterance by utterance.

    Args:
        agent: the candidate; it sees the starter's emotion.
        user: plays the user from the third utterance on.
        starters: dialogs of one utterance, with ``emotion``.
        n_turns: turns of two utterances, the starter included.
        seed: with ``batch`` and the utterance's number it seeds each call, and with the dialog's number each utterance
            in flight.
        batch: number of this batch.
        on_utterances: told how many utterances were said, each time.
    """
    flights = flights_of(agent, user)
    if flights:
        talks = play_in_flight(*flights, starters, n_turns=n_turns, seed=(seed, batch), on_utterances=on_utterances)
    else:
        talks = play_in_turns(agent, user, starters, n_turns=n_turns, seed=(seed, batch), on_utterances=on_utterances)
    extras = {"source": "selfchat", "agent": agent.name, "user": user.name, "seed": seed}
    return [
        Dialog(
            id=s.id,
            lang=s.lang,
            messages=tuple(talk),
            emotion=s.emotion,
            **{**extras, "starter_emotion": starter_emotion(s)},  # type: ignore[arg-type]
        )
        for s, talk in zip(starters, talks, strict=True)
    ]


def play_in_turns(
    agent: Agent,
    user: Agent,
    starters: Sequence[Dialog],
    *,
    n_turns: int,
    seed: tuple[int, int],
    on_utterances: OnUtterances = lambda n: None,
) -> list[list[Utterance]]:
    """Give what is said where each side answers all dialogs at once; see `play_dialogs`."""
    talks = [list(s.messages) for s in starters]
    for k in range(1, 2 * n_turns):
        role: Role = "assistant" if k % 2 else "user"
        contexts = [Context(utterances=tuple(t), emotion=s.emotion) for t, s in zip(talks, starters, strict=True)]
        call_seed = int(np.random.SeedSequence((*seed, k)).generate_state(1)[0])
        speaker = agent if role == "assistant" else user
        for talk, text in zip(talks, speaker.respond(contexts, seed=call_seed), strict=True):
            talk.append(Utterance(role=role, content=text))
        on_utterances(len(talks))
    return talks


def run_selfchat(
    agent: Agent,
    user: Agent,
    starters: Sequence[Dialog],
    output: Path | str,
    *,
    n_turns: int = 10,
    seed: int = 0,
    batch_size: int = 50,
    settings: dict[str, Any] | None = None,
) -> Path:
    """Play all starters here; see `write_selfchat`."""

    def make(batches: Sequence[Sequence[Dialog]], batch: int, on_utterances: OnUtterances) -> tuple[list[Dialog], int]:
        return play_batch(
            agent, user, batches[batch], n_turns=n_turns, seed=seed, batch=batch, on_utterances=on_utterances
        )

    names = agent.name, user.name
    return write_selfchat(
        names, starters, output, make, n_turns=n_turns, seed=seed, batch_size=batch_size, settings=settings
    )


def play_batch(agent: Agent, user: Agent, starters: Sequence[Dialog], **how: Any) -> tuple[list[Dialog], int]:
    """Give what `play_dialogs` does, and how often an agent fell back to fixed words in it."""

    def n_fallbacks() -> int:
        return sum(getattr(a, "n_fallbacks", 0) for a in (agent, user))

    before = n_fallbacks()
    dialogs = play_dialogs(agent, user, starters, **how)
    return dialogs, n_fallbacks() - before


def write_selfchat(
    names: tuple[str, str],
    starters: Sequence[Dialog],
    output: Path | str,
    make: MakeBatch,
    *,
    n_turns: int = 10,
    seed: int = 0,
    batch_size: int = 50,
    settings: dict[str, Any] | None = None,
) -> Path:
    """Play all starters into a file of rows; stopped at any moment, the same call goes on with the next batch.

    ``OUTPUT.run.json`` beside it holds settings, versions, and the share of user utterances that console the agent.

    Args:
        names: of the candidate agent and of the user.
        starters: dialogs of one utterance.
        output: the file, .jsonl.
        make: plays a batch.
        n_turns: turns of two utterances, the starter included.
        seed: of generation.
        batch_size: dialogs side by side.
        settings: what the dialogs depend on besides.

    Raises:
        InputError: see `pege.selfchat.batches.is_done`.
    """
    wanted = settings_of(
        *names, n_starters=len(starters), n_turns=n_turns, seed=seed, batch_size=batch_size, settings=settings
    )
    batches = [starters[k : k + batch_size] for k in range(0, len(starters), batch_size)]
    n_fallbacks = 0

    def play(batch: int, on_utterances: OnUtterances) -> list[Dialog]:
        nonlocal n_fallbacks
        dialogs, n = make(batches, batch, on_utterances)
        n_fallbacks += n
        return dialogs

    def about(dialogs: Sequence[Dialog]) -> dict[str, Any]:
        return {
            "consoling_share": consoling_share(dialogs),
            "n_crisis_utterances": sum(check_phrases(t) is not None for d in dialogs for t in d.user_utterances),
            "n_fallbacks": n_fallbacks,
        }

    sizes = [len(b) for b in batches]
    said = [(2 * n_turns - 1) * n for n in sizes]
    return write_batches(Path(output), wanted, sizes, play, n_utterances=said, about=about)


def settings_of(
    agent: str, user: str, *, n_starters: int, n_turns: int, seed: int, batch_size: int, settings: dict[str, Any] | None
) -> dict[str, Any]:
    """Give all that a self-chat depends on, as ``OUTPUT.run.json`` keeps it; agent and user by their names."""
    return {
        "agent": agent, "user": user, "n_starters": n_starters, "n_turns": n_turns, "seed": seed,
        "batch_size": batch_size, "settings": settings or {},
    }  # fmt: skip


def consoling_share(dialogs: Sequence[Dialog]) -> float:
    """Share of the user's utterances after the starter that console the agent, in [0, 1]: a user out of its role."""
    source = importlib.resources.files("pege") / "assets" / "selfchat" / "consoling.json"
    phrases: dict[str, list[str]] = json.loads(source.read_text(encoding="utf-8"))
    n_all = n_consoling = 0
    for dialog in dialogs:
        for text in dialog.user_utterances[1:]:
            n_all += 1
            plain = text.lower().replace("’", "'")
            n_consoling += any(p in plain for p in phrases[dialog.language])
    return n_consoling / n_all if n_all else 0.0
