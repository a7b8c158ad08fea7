"""``pege respond``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from cyclopts import Parameter
from cyclopts.validators import Number

from pege.cli.decoding import Decoding

Count = Annotated[int, Parameter(validator=Number(gte=1))]


def respond(
    *,
    agent: str,
    data: Path,
    output: Path,
    n_dialogs: Count | None = None,
    seed: Annotated[int, Parameter(validator=Number(gte=0))] = 0,
    batch_size: Count = 50,
    decoding: Annotated[Decoding | None, Parameter(name="*")] = None,
) -> None:
    """Respond to the contexts of real dialogs: rows for `pege score --references DATA`.

    The key of an endpoint is read from the environment variable OPENAI_API_KEY.

    Args:
        agent: a run, base, a hub name, http://HOST:PORT/v1#MODEL, or trivial:NAME (docs/selfchat.md).
        data: rows, a file or a folder of a corpus.
        output: file of rows, .jsonl: each response replaced by the agent's.
        n_dialogs: at most so many, drawn by the seed; all unless named.
        seed: of the draw and of generation.
        batch_size: dialogs side by side; part of what the responses depend on.
        decoding: how it decodes.
    """
    from pege.agent import agent_name
    from pege.dialog import Dialog
    from pege.emotion import load_emotion_classifier, with_emotions
    from pege.errors import InputError
    from pege.io import read_rows
    from pege.selfchat import is_done, respond_settings, respond_to_dialogs

    decoding = decoding or Decoding()
    how: dict[str, Any] = {"seed": seed, "batch_size": batch_size}
    how["settings"] = {"data": str(data), **decoding.settings()}
    rows = [d for d in read_rows(data, Dialog) if d.agent_utterances]
    if not rows:
        raise InputError("no dialog with a response", where=data, fix="name other rows")
    if n_dialogs is not None and n_dialogs < len(rows):
        rows = [rows[k] for k in sorted(np.random.default_rng(seed).permutation(len(rows))[:n_dialogs].tolist())]
    if not is_done(output, respond_settings(agent_name(agent), n_dialogs=len(rows), **how)):
        rows = with_emotions(rows, lambda texts: load_emotion_classifier().emotions(texts))
        respond_to_dialogs(decoding.load(agent), rows, output, **how)
    print(output)
