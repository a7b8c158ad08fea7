"""A user agent and a candidate agent talk: many dialogs side by side, seeded, resumable (design sec. 8)."""

from __future__ import annotations

import importlib.resources
import json
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from pege.agent import Agent
from pege.dialog import Context, Dialog, Role, Utterance
from pege.errors import InputError
from pege.io import as_object, read_json, versions, write_atomic, write_json
from pege.safety import check_crisis
from pege.selfchat.starters import starter_emotion

log = logging.getLogger(__name__)


def play_dialogs(
    agent: Agent,
    user: Agent,
    starters: Sequence[Dialog],
    *,
    n_turns: int,
    seed: int,
    batch: int = 0,
    on_utterances: Callable[[int], object] = lambda n: None,
) -> list[Dialog]:
    """Let two agents talk, all dialogs side by side.

    Args:
        agent: the candidate; it sees the starter's emotion.
        user: plays the user from the third utterance on.
        starters: dialogs of one utterance, with ``emotion``.
        n_turns: turns of two utterances, the starter included.
        seed: with ``batch`` and the utterance's number it seeds each call.
        batch: number of this batch.
        on_utterances: told how many utterances were said, each time.
    """
    talks = [list(s.messages) for s in starters]
    for k in range(1, 2 * n_turns):
        role: Role = "assistant" if k % 2 else "user"
        contexts = [Context(utterances=tuple(t), emotion=s.emotion) for t, s in zip(talks, starters, strict=True)]
        call_seed = int(np.random.SeedSequence((seed, batch, k)).generate_state(1)[0])
        speaker = agent if role == "assistant" else user
        for talk, text in zip(talks, speaker.respond(contexts, seed=call_seed), strict=True):
            talk.append(Utterance(role=role, content=text))
        on_utterances(len(talks))
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
    """Play all starters into a file of rows; stopped at any moment, the same call goes on with the next batch.

    Rows are kept in ``OUTPUT.part`` until the last one. ``OUTPUT.run.json`` beside it holds settings, versions, and the
    share of user utterances that console the agent.

    Raises:
        InputError: see `is_played`.
    """
    output = Path(output)
    part, about = _part(output), _about(output)
    wanted = settings_of(
        agent.name, user.name, n_starters=len(starters), n_turns=n_turns, seed=seed, batch_size=batch_size,
        settings=settings,
    )  # fmt: skip
    if is_played(output, wanted):
        return output
    rows = _finished_rows(part, batch_size)
    write_json(about, {**wanted, "versions": versions(("torch", "transformers"))})
    start = time.perf_counter()
    _keep_rows(part, rows)
    said = 2 * n_turns - 1
    bar = tqdm(total=said * len(starters), initial=said * len(rows), unit="utterance")
    with part.open("a", encoding="utf-8") as out, bar:
        for first in range(len(rows), len(starters), batch_size):
            chosen = starters[first : first + batch_size]
            batch = first // batch_size
            dialogs = play_dialogs(
                agent, user, chosen, n_turns=n_turns, seed=seed, batch=batch, on_utterances=bar.update
            )
            for dialog in dialogs:
                rows.append(as_object(dialog))
                out.write(json.dumps(rows[-1], ensure_ascii=False) + "\n")
            out.flush()
    dialogs = [Dialog.model_validate(r) for r in rows]
    write_json(
        about,
        {
            **wanted,
            "versions": versions(("torch", "transformers")),
            "seconds_last_start": round(time.perf_counter() - start, 1),
            "consoling_share": consoling_share(dialogs),
            "n_crisis_utterances": sum(check_crisis(t) is not None for d in dialogs for t in d.user_utterances),
            "n_fallbacks": sum(getattr(a, "n_fallbacks", 0) for a in (agent, user)),
        },
    )
    part.replace(output)
    return output


def settings_of(
    agent: str, user: str, *, n_starters: int, n_turns: int, seed: int, batch_size: int, settings: dict[str, Any] | None
) -> dict[str, Any]:
    """Give all that a self-chat depends on, as ``OUTPUT.run.json`` keeps it; agent and user by their names."""
    return {
        "agent": agent, "user": user, "n_starters": n_starters, "n_turns": n_turns, "seed": seed,
        "batch_size": batch_size, "settings": settings or {},
    }  # fmt: skip


def is_played(output: Path, wanted: dict[str, Any]) -> bool:
    """Whether a self-chat with these settings (`settings_of`) is done; needs no model.

    Raises:
        InputError: a name that is no .jsonl file; a file there that is no self-chat, or one of other settings.
    """
    if output.suffix != ".jsonl" or output.is_dir():
        raise InputError("is no .jsonl file", where=output, fix="name a file of rows, FILE.jsonl")
    there = next((p for p in (output, _part(output)) if p.is_file() and p.stat().st_size), None)
    if there is None:
        return False
    other = "delete it or name another --output"
    if not _about(output).is_file():
        raise InputError("is there already and is no self-chat", where=there, fix=other)
    different = _different(read_json(_about(output)), wanted)
    if different:
        begun = "was played" if there == output else "was begun"
        raise InputError(f"{begun} with another {', '.join(different)}", where=there, fix=other)
    if there == output:
        log.info("%s is done; name another --output to play again", output)
    return there == output


def _different(there: Any, wanted: dict[str, Any]) -> list[str]:
    """Names of the settings that are not the same, those within a setting by their own."""
    if not isinstance(there, dict):
        return list(wanted)
    found: list[str] = []
    for name, value in wanted.items():
        if isinstance(value, dict):
            known = there.get(name)
            removed = dict.fromkeys(known or ()) if isinstance(known, dict) else {}
            found += _different(known, removed | value)
        elif there.get(name) != value:
            found.append(name)
    return found


def _part(output: Path) -> Path:
    return output.with_name(output.name + ".part")


def _about(output: Path) -> Path:
    return output.with_name(output.name + ".run.json")


def _finished_rows(part: Path, batch_size: int) -> list[dict[str, Any]]:
    """Rows of whole batches that an earlier start left."""
    if not part.is_file():
        return []
    lines = part.read_text(encoding="utf-8").split("\n")[:-1]  # what follows the last newline was cut off
    rows = [json.loads(line) for line in lines]
    return rows[: len(rows) // batch_size * batch_size]


def _keep_rows(part: Path, rows: list[dict[str, Any]]) -> None:
    with write_atomic(part) as temporary:
        temporary.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")


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
