"""``pege selfchat``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from cyclopts import Parameter
from cyclopts.validators import Number

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
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    max_new_tokens: int | None = None,
    dtype: Literal["fast", "auto", "float32", "bfloat16", "float16"] = "fast",
) -> None:
    """Let a candidate agent talk with a plain user model, many dialogs side by side.

    The key of an endpoint is read from the environment variable OPENAI_API_KEY.

    Args:
        agent: a run, base, a hub name, or http://HOST:PORT/v1#MODEL.
        user: who plays the user: `base`, a base-chat run, or the others.
        starters: en, zh, or a file of rows.
        turns: turns of two utterances, the starter included.
        seed: of starters picked and of generation.
        output: file of rows, .jsonl.
        n_starters: how many, the classes as even as they come; all unless named.
        batch_size: dialogs side by side; part of what the dialogs depend on.
        temperature: of generation, both sides.
        top_k: of generation, both sides.
        top_p: of generation, both sides.
        max_new_tokens: of generation, both sides.
        dtype: of the weights: fast (bfloat16 where the machine multiplies it in hardware), auto, or a type.
    """
    from pege.agent import agent_name, load_agent
    from pege.emotion import load_emotion_classifier
    from pege.models.generation import check_generation
    from pege.selfchat import is_done, load_starters, pick_starters, run_selfchat, settings_of

    named = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "max_new_tokens": max_new_tokens}
    generation = {k: v for k, v in named.items() if v is not None}
    check_generation(generation)
    settings = {"starters": starters, "dtype": dtype, "generation": generation}
    play: dict[str, Any] = {"n_turns": turns, "seed": seed, "batch_size": batch_size, "settings": settings}
    rows = load_starters(starters)
    if n_starters is not None:
        rows = pick_starters(rows, n_starters, np.random.default_rng(seed))
    if not is_done(output, settings_of(agent_name(agent), agent_name(user), n_starters=len(rows), **play)):
        emotions = load_emotion_classifier().emotions([r.texts[0] for r in rows])
        rows = [r.model_copy(update={"emotion": e}) for r, e in zip(rows, emotions, strict=True)]
        key = os.environ.get("OPENAI_API_KEY")
        how: dict[str, Any] = {"generation": generation, "dtype": dtype, "api_key": key, "keep_cache": True}
        candidate, player = load_agent(agent, **how), load_agent(user, role="user", **how)
        run_selfchat(candidate, player, rows, output, **play)
    print(output)
