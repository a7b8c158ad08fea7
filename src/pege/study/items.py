"""Items of a study: which dialogs are rated, which pairs are compared, the attention checks."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from pege.dialog import Dialog
from pege.errors import InputError
from pege.study.design import Design

Kind = Literal["dialog", "pair", "check"]
MAX_QUESTIONS = 400  # of a page: more is no task for a person, and no form
MAX_NAME = 70  # of a starter: with the names of two systems it is an item's key
N_CHECKS = 12  # different ones; no rater sees one twice


class Item(BaseModel):
    """One thing that a rater is shown.

    Attributes:
        key: its name in results, e.g. ``starter-en-001:PEGE``.
        kind: a dialog to rate, a pair to compare, or an attention check.
        starter: name of the starter, which pairs systems.
        systems: of the dialogs, in their order; empty for a check.
        dialogs: one, or the two of a pair; empty for a check.
        rated: places of the agent utterances that are rated, 1 is the agent's first.
        expected: what a check asks to answer, metric -> value.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    key: Annotated[str, Field(max_length=200)]
    kind: Kind
    starter: str = ""
    systems: tuple[str, ...] = ()
    dialogs: tuple[Dialog, ...] = ()
    rated: tuple[int, ...] = ()
    expected: dict[str, str] = {}


def make_items(design: Design, dialogs: Mapping[str, Sequence[Dialog]]) -> list[Item]:
    """Make all items of a study, seeded.

    Args:
        design: of the study.
        dialogs: system -> its self-chats; paired over systems by id where ids and starters agree, else by starter.

    Raises:
        InputError: a system has too few dialogs of the shared starters, or a dialog without a response.
    """
    rng = np.random.default_rng(design.seed)
    shared = pair_starters(dialogs)
    if len(shared) < design.n_dialogs:
        raise InputError(
            f"the systems share {len(shared)} starters, {design.n_dialogs} dialogs are asked for",
            where="n_dialogs",
            fix="ask for fewer, or let all systems talk from the same starters",
        )
    picked = [shared[k] for k in sorted(rng.permutation(len(shared))[: design.n_dialogs].tolist())]
    items: list[Item] = []
    if design.metrics:
        for name, side in picked:
            rated = _rated_places(side, design, rng)
            for system, dialog in side.items():
                items.append(
                    Item(
                        key=f"{name}:{system}", kind="dialog", starter=name, systems=(system,), dialogs=(dialog,),
                        rated=rated,
                    )
                )  # fmt: skip
    if design.comparison:
        pairs = design.comparison.pairs or tuple(itertools.combinations(design.systems, 2))
        for name, side in picked[: design.comparison.n_dialogs or len(picked)]:
            for pair in pairs:
                both = tuple(side[s] for s in pair)
                items.append(
                    Item(key=f"{name}:{pair[0]}:{pair[1]}", kind="pair", starter=name, systems=pair, dialogs=both)
                )
    return items + _checks(design, rng)


def pair_starters(dialogs: Mapping[str, Sequence[Dialog]]) -> list[tuple[str, dict[str, Dialog]]]:
    """Put the dialogs of all systems side by side by their starters, in the order of the first system.

    Returns:
        (name of the starter, system -> dialog) for each starter that all systems have; the first of a file counts.

    Raises:
        InputError: a name too long to be part of a key.
    """
    by_starter: dict[str, dict[str, Dialog]] = {}
    for system, rows in dialogs.items():
        for row in rows:
            by_starter.setdefault(row.texts[0], {}).setdefault(system, row)
    found: list[tuple[str, dict[str, Dialog]]] = []
    names: set[str] = set()
    for side in by_starter.values():
        if side.keys() == dialogs.keys():
            name = str(side[next(iter(dialogs))].id)
            if len(name) > MAX_NAME:
                raise InputError(f"an id of {len(name)} characters", where=name[:40], fix=f"{MAX_NAME} at most")
            found.append((f"{name}-{len(found)}" if name in names else name, side))
            names.add(found[-1][0])
    return found


def _rated_places(side: Mapping[str, Dialog], design: Design, rng: np.random.Generator) -> tuple[int, ...]:
    """The same places for all systems where only some are rated; else all that each has, given by the shortest."""
    lengths = {s: len(d.agent_utterances) for s, d in side.items()}
    n = min(lengths.values())
    if n == 0:
        silent = min(lengths, key=lambda s: lengths[s])
        raise InputError("a dialog without a response", where=f"{silent}: {side[silent].id}", fix="leave it out")
    if not design.metrics_of("utterance"):
        return ()
    wanted = min(design.n_utterances or n, n)
    if wanted * len(design.metrics_of("utterance")) > MAX_QUESTIONS:
        raise InputError(f"{wanted} utterances to rate on one page", where="n_utterances", fix="name fewer")
    return tuple(sorted(int(k) + 1 for k in rng.permutation(n)[:wanted]))


def _checks(design: Design, rng: np.random.Generator) -> list[Item]:
    """Items that say themselves what to answer."""
    if not design.check_every:
        return []
    checks = []
    for k in range(N_CHECKS):
        expected: dict[str, Any] = {}
        for metric in design.metrics:
            if metric.asked_if:
                continue  # it might not be asked
            values = [v for v in metric.values if v not in _asks_more(design, metric.name)]
            expected[metric.name] = str(values[int(rng.integers(len(values)))])
        if not design.metrics and design.comparison:
            for question in design.comparison.questions:
                expected[question.name] = ("left", "right")[int(rng.integers(2))]
        checks.append(Item(key=f"check-{k + 1:02d}", kind="check", expected=expected, rated=(1,)))
    return checks


def _asks_more(design: Design, name: str) -> set[int]:
    """Values of a metric that make another one be asked: not in a check, which must say all its answers."""
    found = {v for m in design.metrics for n, v in m.asked_if.items() if n == name}
    metric = next(m for m in design.metrics if m.name == name)
    return found if len(found) < len(metric.values) else set()
