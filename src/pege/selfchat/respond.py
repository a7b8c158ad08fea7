"""Responses to the contexts of real dialogs: what BLEU compares with the real ones (the paper's static evaluation)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pege.agent import Agent
from pege.dialog import Dialog
from pege.selfchat.batches import OnUtterances, write_batches


def respond_to_dialogs(
    agent: Agent,
    dialogs: Sequence[Dialog],
    output: Path | str,
    *,
    seed: int = 0,
    batch_size: int = 50,
    settings: dict[str, Any] | None = None,
) -> Path:
    """Write the dialogs with each response replaced by the agent's; stopped at any moment, the same call goes on.

    Each response follows the real utterances before it, never one of the agent's own, so the rows are no dialogs to be
    read from top to bottom: they are for BLEU and Distinct.

    Args:
        agent: who responds.
        dialogs: real ones, with ``emotion`` where the agent takes it in.
        output: the file, .jsonl; beside it ``OUTPUT.run.json``.
        seed: with the batch and the number of the response it seeds each call.
        batch_size: dialogs side by side.
        settings: further things that the responses depend on.

    Raises:
        InputError: see `pege.selfchat.batches.is_done`.
    """
    wanted = respond_settings(
        agent.name, n_dialogs=len(dialogs), seed=seed, batch_size=batch_size, settings=settings or {}
    )
    batches = [dialogs[k : k + batch_size] for k in range(0, len(dialogs), batch_size)]

    def respond(batch: int, on_utterances: OnUtterances) -> list[Dialog]:
        return _respond_to_batch(agent, batches[batch], (seed, batch), on_utterances)

    n_responses = [sum(len(d.agent_utterances) for d in b) for b in batches]
    return write_batches(
        Path(output), wanted, [len(b) for b in batches], respond, n_utterances=n_responses,
        about=lambda rows: {"n_responses": sum(n_responses), "n_fallbacks": getattr(agent, "n_fallbacks", 0)},
    )  # fmt: skip


def respond_settings(
    agent: str, *, n_dialogs: int, seed: int, batch_size: int, settings: dict[str, Any]
) -> dict[str, Any]:
    """Give all that the responses depend on, as ``OUTPUT.run.json`` keeps it; the agent by its name."""
    return {"agent": agent, "n_dialogs": n_dialogs, "seed": seed, "batch_size": batch_size, "settings": settings}


def _respond_to_batch(
    agent: Agent, dialogs: Sequence[Dialog], seeds: tuple[int, int], on_utterances: OnUtterances
) -> list[Dialog]:
    """Go through the dialogs turn by turn, all that still have one side by side."""
    contexts = [list(d.contexts()) for d in dialogs]
    said: list[list[str]] = [[] for _ in dialogs]
    for turn in range(max(map(len, contexts), default=0)):
        still = [k for k, own in enumerate(contexts) if turn < len(own)]
        call_seed = int(np.random.SeedSequence((*seeds, turn)).generate_state(1)[0])
        responses = agent.respond([contexts[k][turn] for k in still], seed=call_seed)
        for k, response in zip(still, responses, strict=True):
            said[k].append(response)
        on_utterances(len(still))
    return [_with_responses(d, r, agent.name) for d, r in zip(dialogs, said, strict=True)]


def _with_responses(dialog: Dialog, responses: Sequence[str], agent: str) -> Dialog:
    messages = list(dialog.messages)
    for k, response in enumerate(responses):
        messages[2 * k + 1] = messages[2 * k + 1].model_copy(update={"content": response})
    return Dialog.model_validate(dialog.model_dump() | {"messages": messages, "agent": agent})
