"""``pege selfchat``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from cyclopts import Parameter
from cyclopts.validators import Number

from pege.cli.decoding import Decoding

if TYPE_CHECKING:
    from pege.agent import Agent

Count = Annotated[int, Parameter(validator=Number(gte=1))]


def selfchat(
    *,
    agent: str,
    user: str = "base",
    starters: str = "en",
    turns: Count = 10,
    seed: Annotated[int, Parameter(validator=Number(gte=0))] = 0,
    output: Path,
    n_starters: Count | None = None,
    batch_size: Count = 50,
    runner: Literal["local", "ray"] = "local",
    address: str | None = None,
    workers: Count | None = None,
    decoding: Annotated[Decoding | None, Parameter(name="*")] = None,
) -> None:
    """Let a candidate agent talk with a plain user model, many dialogs side by side.

    The key of an endpoint is read from the environment variable OPENAI_API_KEY.

    Args:
        agent: a run, base, a hub name, http://HOST:PORT/v1#MODEL, or trivial:NAME (docs/selfchat.md).
        user: who plays the user: `base`, a base-chat run, or the others.
        starters: en, zh, or a file of rows.
        turns: turns of two utterances, the starter included.
        seed: of starters picked and of generation.
        output: file of rows, .jsonl.
        n_starters: how many, the classes as even as they come; all unless named.
        batch_size: dialogs side by side; part of what the dialogs depend on.
        runner: this process, or a Ray cluster that plays batches side by side.
        address: of the Ray cluster; one on this machine unless named.
        workers: of the Ray cluster, each with both agents; one a GPU unless named.
        decoding: how they decode, both sides.
    """
    from pege.agent import agent_name
    from pege.emotion import load_emotion_classifier, with_emotions
    from pege.selfchat import (
        is_done,
        load_starters,
        pick_starters,
        run_selfchat,
        settings_of,
        write_selfchat,
    )

    decoding = decoding or Decoding()
    settings = {"starters": starters, **decoding.settings()}
    play: dict[str, Any] = {"n_turns": turns, "seed": seed, "batch_size": batch_size, "settings": settings}
    rows = load_starters(starters)
    if n_starters is not None:
        rows = pick_starters(rows, n_starters, np.random.default_rng(seed))
    names = agent_name(agent), agent_name(user)
    if not is_done(output, settings_of(*names, n_starters=len(rows), **play)):
        rows = with_emotions(rows, load_emotion_classifier().emotions, anew=True)

        def load() -> tuple[Agent, Agent]:
            return decoding.load(agent), decoding.load(user, "user")

        if runner == "local":
            run_selfchat(*load(), rows, output, **play)
        else:
            from pege.selfchat.workers import on_ray

            with on_ray(load, n_turns=turns, seed=seed, address=address, n_workers=workers) as make:
                write_selfchat(names, rows, output, make, **play)
    print(output)
