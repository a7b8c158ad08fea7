"""What happens while a rater rates: the next item, an answer saved, an item finished."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pege.study.design import Design, Metric
from pege.study.items import Item
from pege.study.raters import Rater
from pege.study.store import Store
from pege.study.tables import answer, assignment, rater, upsert_answer

LONGEST_PAUSE_S = 120.0  # more between two answers is a break, not work
Asked = tuple[str, int]  # metric, place


@dataclass(frozen=True)
class Assignment:
    """One item in the hands of one rater.

    Attributes:
        id: of the row.
        item: what is shown.
        is_flipped: a pair whose second dialog stands first.
        is_done: finished at least once.
        answers: (metric, place) -> value, without those that were not asked.
        counter: above that of each answer there is.
    """

    id: int
    item: Item
    is_flipped: bool
    is_done: bool
    answers: Mapping[Asked, str]
    counter: int


class StaleAnswerError(Exception):
    """A newer answer is there already, of another page of the same rater."""


class NoSuchQuestionError(Exception):
    """An item that is not the rater's, a question that is not asked of it, or a value that cannot be given."""


# ---- what is asked


def questions_of(design: Design, item: Item) -> dict[Asked, tuple[str, ...]]:
    """All that is asked of an item, in order: (metric, place) -> values that can be given."""
    if item.kind == "pair" or not design.metrics:
        # sides of the page, not systems: its source must not tell which dialog is whose
        values = ("left", "right", "tie") if design.comparison and design.comparison.allow_tie else ("left", "right")
        return {(q.name, 0): values for q in (design.comparison.questions if design.comparison else ())}
    asked: dict[Asked, tuple[str, ...]] = {}
    for place in item.rated:
        asked |= {(m.name, place): _given(m) for m in design.metrics_of("utterance")}
    return asked | {(m.name, 0): _given(m) for m in design.metrics_of("dialog")}


def _given(metric: Metric) -> tuple[str, ...]:
    return tuple(str(v) for v in metric.values)


def not_asked(design: Design, item: Item, answers: Mapping[Asked, str]) -> dict[Asked, str]:
    """What holds without being asked, given the answers so far: (metric, 0) -> the metric's ``otherwise``."""
    found: dict[Asked, str] = {}
    if item.kind == "pair":
        return found
    for metric in design.metrics_of("dialog"):
        for name, value in metric.asked_if.items():
            given = found.get((name, 0)) or answers.get((name, 0))
            if given is not None and given != str(value):
                found[(metric.name, 0)] = str(metric.otherwise)
    return found


def unanswered(design: Design, found: Assignment) -> list[Asked]:
    """What is still to be answered."""
    without = not_asked(design, found.item, found.answers)
    return [q for q in questions_of(design, found.item) if q not in found.answers and q not in without]


# ---- the next item


def current_assignment(store: Store, who: Rater) -> Assignment | None:
    """The item that a rater has begun, else a new one; None where nothing is left for them.

    A new one is drawn among the items that lack ratings: first of the system that this rater has seen least, then of
    the item with the fewest ratings, then of the starter seen least, then at random by seed, rater and item.
    """
    with store.writing() as connection:
        begun = (
            sa.select(assignment.c.id)
            .where(assignment.c.rater_id == who.id, assignment.c.done_at.is_(None))
            .order_by(assignment.c.id)
        )
        found = connection.scalar(begun)
        if found is None:
            store.lock_study(connection)
            found = _assign(store, connection, who)
        return None if found is None else _load(store, connection, int(found))


def _assign(store: Store, connection: Connection, who: Rater) -> int | None:
    mine = set(connection.scalars(sa.select(assignment.c.item_id).where(assignment.c.rater_id == who.id)))
    picked = _pick(store, connection, who, mine)
    if picked is None:
        return None
    now = time.time()
    is_pair = store.items[picked].kind == "pair"
    values = {
        "rater_id": who.id, "item_id": picked, "assigned_at": now, "touched_at": now, "seconds": 0.0,
        "is_flipped": is_pair and _chance(store, who, f"side:{store.items[picked].key}") < 0.5,
    }  # fmt: skip
    inserted = connection.execute(sa.insert(assignment).values(**values))
    return int(inserted.inserted_primary_key[0])  # type: ignore[index]


def _pick(store: Store, connection: Connection, who: Rater, mine: set[int]) -> int | None:
    design = store.study.design
    real = [i for i in mine if store.items[i].kind != "check"]
    if check := _due_check(store, who, len(real), mine):
        return check
    if design.items_per_rater and len(real) >= design.items_per_rater:
        return None
    taken = _taken(store, connection)
    systems: dict[str, int] = {}
    starters: dict[str, int] = {}
    for i in real:
        for system in store.items[i].systems:
            systems[system] = systems.get(system, 0) + 1
        starters[store.items[i].starter] = starters.get(store.items[i].starter, 0) + 1
    open_items = [
        (
            (
                sum(systems.get(s, 0) for s in item.systems) / len(item.systems),
                taken.get(i, 0),
                starters.get(item.starter, 0),
                _chance(store, who, item.key),
            ),
            i,
        )
        for i, item in store.items.items()
        if item.kind != "check" and i not in mine and taken.get(i, 0) < design.raters_per_item
    ]
    return min(open_items)[1] if open_items else None


def _taken(store: Store, connection: Connection) -> dict[int, int]:
    """Item -> how many ratings it has or will soon have; of excluded raters and of items left lying none."""
    held_since = time.time() - 3600 * store.study.design.hold_hours
    query = (
        sa.select(assignment.c.item_id, sa.func.count())
        .join(rater, rater.c.id == assignment.c.rater_id)
        .where(
            rater.c.study_id == store.study_id,
            rater.c.excluded_at.is_(None),
            sa.or_(assignment.c.done_at.is_not(None), assignment.c.touched_at > held_since),
        )
        .group_by(assignment.c.item_id)
    )
    return {int(i): int(n) for i, n in connection.execute(query)}


def _due_check(store: Store, who: Rater, n_real: int, mine: set[int]) -> int | None:
    """An attention check whose turn it is: one among each ``check_every`` items, at a place that differs by rater."""
    every = store.study.design.check_every
    checks = [i for i, item in store.items.items() if item.kind == "check"]
    n_seen = sum(i in mine for i in checks)
    if not every or n_seen == len(checks):
        return None
    place = n_seen * every + 1 + int(_chance(store, who, f"check:{n_seen}") * every)
    if n_real < place:
        return None
    return min((i for i in checks if i not in mine), key=lambda i: _chance(store, who, store.items[i].key))


def _chance(store: Store, who: Rater, what: str) -> float:
    """A number in [0, 1) that the study's seed, the rater and a name decide: the same in each process."""
    text = f"{store.study.design.seed}:{who.name}:{what}"
    digest = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return float(np.random.default_rng(digest).random())


# ---- loading, saving, finishing


def load_assignment(store: Store, who: Rater, assignment_id: int) -> Assignment | None:
    """One of this rater's own items; None where it is none of theirs."""
    with store.reading() as connection:
        return _load(store, connection, assignment_id) if _is_own(connection, who, assignment_id) else None


def last_done(store: Store, who: Rater, *, before: int | None = None) -> int | None:
    """The item that a rater has finished last, or last before another of theirs."""
    query = sa.select(sa.func.max(assignment.c.id)).where(
        assignment.c.rater_id == who.id, assignment.c.done_at.is_not(None)
    )
    with store.reading() as connection:
        found = connection.scalar(query if before is None else query.where(assignment.c.id < before))
    return None if found is None else int(found)


def n_done(store: Store, who: Rater) -> int:
    """How many items a rater has finished, checks too."""
    query = sa.select(sa.func.count()).where(assignment.c.rater_id == who.id, assignment.c.done_at.is_not(None))
    with store.reading() as connection:
        return int(connection.scalar(query) or 0)


def _is_own(connection: Connection, who: Rater, assignment_id: int) -> bool:
    query = sa.select(assignment.c.id).where(assignment.c.id == assignment_id, assignment.c.rater_id == who.id)
    return connection.scalar(query) is not None


def _load(store: Store, connection: Connection, assignment_id: int) -> Assignment:
    row = connection.execute(sa.select(assignment).where(assignment.c.id == assignment_id)).one()
    said = connection.execute(sa.select(answer).where(answer.c.assignment_id == assignment_id)).all()
    return Assignment(
        id=row.id,
        item=store.items[row.item_id],
        is_flipped=row.is_flipped,
        is_done=row.done_at is not None,
        answers={(a.metric, a.place): a.value for a in said if not a.is_derived},
        counter=1 + max((a.counter for a in said), default=0),
    )


def save_answers(store: Store, who: Rater, assignment_id: int, answers: Mapping[Asked, str], *, counter: int) -> None:
    """Save answers as they are given. When this returns they are on the disk; sent again, they change nothing.

    Args:
        store: of the study.
        who: the rater.
        assignment_id: of the page.
        answers: (metric, place) -> value, all of the page or some.
        counter: rises with each request of a page; starts at `Assignment.counter`.

    Raises:
        NoSuchQuestionError: not this rater's item, not asked of it, or no value of it.
        StaleAnswerError: a newer answer is there; nothing was saved.
    """
    with store.writing() as connection:
        found = _check(store, connection, who, assignment_id, answers)
        _write(connection, found, answers, counter=counter)
        _touch(connection, assignment_id)
        if found.is_done:
            _settle(store, connection, assignment_id)


def finish_item(
    store: Store, who: Rater, assignment_id: int, answers: Mapping[Asked, str], *, counter: int | None = None
) -> list[Asked]:
    """Save all answers of a page and mark the item as done, if none is missing.

    Args:
        store: of the study.
        who: the rater.
        assignment_id: of the page.
        answers: (metric, place) -> value, all of the page.
        counter: of the page, as for `save_answers`; without one the page counts as the newest.

    Returns:
        What is missing; the item is done where nothing is.

    Raises:
        NoSuchQuestionError: not this rater's item, not asked of it, or no value of it.
        StaleAnswerError: a newer answer is there; nothing was saved.
    """
    with store.writing() as connection:
        found = _check(store, connection, who, assignment_id, answers)
        _write(connection, found, answers, counter=found.counter if counter is None else counter)
        _touch(connection, assignment_id)
        return _settle(store, connection, assignment_id)


def _check(
    store: Store, connection: Connection, who: Rater, assignment_id: int, answers: Mapping[Asked, str]
) -> Assignment:
    if not _is_own(connection, who, assignment_id):
        raise NoSuchQuestionError
    found = _load(store, connection, assignment_id)
    asked = questions_of(store.study.design, found.item)
    if any(value not in asked.get(q, ()) for q, value in answers.items()):
        raise NoSuchQuestionError
    return found


def _settle(store: Store, connection: Connection, assignment_id: int) -> list[Asked]:
    """Write what holds without being asked; done where nothing is missing, else (again) not done."""
    found = _load(store, connection, assignment_id)
    missing = unanswered(store.study.design, found)
    without = not_asked(store.study.design, found.item, found.answers)
    if not missing:
        _write(connection, found, without, counter=found.counter, is_derived=True)
    connection.execute(
        sa.update(assignment)
        .where(assignment.c.id == assignment_id)
        .values(done_at=None if missing else sa.func.coalesce(assignment.c.done_at, time.time()))
    )
    return missing


def _write(
    connection: Connection,
    found: Assignment,
    answers: Mapping[Asked, str],
    *,
    counter: int,
    is_derived: bool = False,
) -> None:
    for (metric, place), value in answers.items():
        values = {
            "assignment_id": found.id, "metric": metric, "place": place, "value": value, "counter": counter,
            "given_at": time.time(), "is_derived": is_derived,
        }  # fmt: skip
        written = connection.execute(upsert_answer(connection.dialect.name), values).first()
        if written is None and found.answers.get((metric, place)) != value:  # the same answer, older: nothing to say
            raise StaleAnswerError


def _touch(connection: Connection, assignment_id: int) -> None:
    now = time.time()
    row = connection.execute(
        sa.select(assignment.c.touched_at, assignment.c.seconds).where(assignment.c.id == assignment_id)
    ).one()
    worked = row.seconds + min(max(now - row.touched_at, 0.0), LONGEST_PAUSE_S)
    connection.execute(
        sa.update(assignment).where(assignment.c.id == assignment_id).values(touched_at=now, seconds=worked)
    )
