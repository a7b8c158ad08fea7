"""The raters of a study: invited by a signed link, revoked, excluded, deleted."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from itsdangerous import BadSignature, URLSafeSerializer, URLSafeTimedSerializer
from sqlalchemy.engine import Connection

from pege.errors import InputError
from pege.study.store import Store
from pege.study.tables import answer, assignment, item, rater, study

DAY_S = 86_400.0


@dataclass(frozen=True)
class Rater:
    """A rater's row."""

    id: int
    name: str
    nonce: str
    language: str
    created_at: float
    expires_at: float
    revoked_at: float | None
    excluded_at: float | None
    excluded_why: str | None
    consented_at: float | None
    practised_at: float | None


_COLUMNS = [rater.c[name] for name in Rater.__dataclass_fields__]


def invite_raters(store: Store, n: int, *, days: float | None = None) -> list[Rater]:
    """Add raters, named r00001, r00002, ...; a name is never given twice, also where its rater was deleted.

    Args:
        store: of the study.
        n: how many.
        days: their links hold so long; the design's unless given.
    """
    now = time.time()
    with store.writing() as connection:
        store.lock_study(connection)
        last = connection.scalar(
            sa.select(sa.func.max(rater.c.name)).where(rater.c.study_id == store.study_id)
        )  # deleted ones leave an empty row with their name
        first = int(last[1:]) + 1 if last else 1
        if first + n > 100_000:
            raise InputError("too many raters", fix="make another study")
        rows = [
            {
                "study_id": store.study_id,
                "name": f"r{k:05d}",
                "nonce": secrets.token_urlsafe(24),
                "language": store.study.design.language,
                "created_at": now,
                "expires_at": now + DAY_S * (days or store.study.design.link_days),
            }
            for k in range(first, first + n)
        ]
        connection.execute(sa.insert(rater), rows)
        names = [r["name"] for r in rows]
        return [r for r in all_raters(store, connection) if r.name in names]


def all_raters(store: Store, connection: Connection) -> list[Rater]:
    """All raters of the study, in the order of their names, without those that were deleted."""
    query = sa.select(*_COLUMNS).where(rater.c.study_id == store.study_id, rater.c.nonce != "").order_by(rater.c.name)
    return [Rater(*row) for row in connection.execute(query)]


def find_rater(store: Store, connection: Connection, name: str) -> Rater:
    """The rater of a name.

    Raises:
        InputError: none is called so.
    """
    query = sa.select(*_COLUMNS).where(rater.c.study_id == store.study_id, rater.c.name == name, rater.c.nonce != "")
    row = connection.execute(query).first() if name.isprintable() else None
    if row is None:
        raise InputError(f"no rater is called {name!r}", fix="pege study raters STUDY lists them")
    return Rater(*row)


def change_rater(store: Store, name: str, **values: Any) -> None:
    """Set columns of one rater.

    Raises:
        InputError: none is called so.
    """
    with store.writing() as connection:
        found = find_rater(store, connection, name)
        connection.execute(sa.update(rater).where(rater.c.id == found.id).values(**values))


def revoke_link(store: Store, name: str) -> None:
    """Make a rater's link and session worthless from now on; the answers stay."""
    change_rater(store, name, revoked_at=time.time())


def renew_link(store: Store, name: str, *, days: float | None = None) -> Rater:
    """Give a rater a new link, which begins where the old one stood; the old one no longer opens anything."""
    expires_at = time.time() + DAY_S * (days or store.study.design.link_days)
    change_rater(store, name, nonce=secrets.token_urlsafe(24), revoked_at=None, expires_at=expires_at)
    with store.reading() as connection:
        return find_rater(store, connection, name)


def exclude_rater(store: Store, name: str, *, why: str) -> None:
    """Leave a rater's answers out of all results and hand their items to others; the answers are kept."""
    change_rater(store, name, excluded_at=time.time(), excluded_why=why[:200])


def include_rater(store: Store, name: str) -> None:
    """Take an exclusion back."""
    change_rater(store, name, excluded_at=None, excluded_why=None)


def renew_owner_link(store: Store) -> None:
    """Make all links of the owner and their sessions worthless; `Links.owner_token` gives a new one."""
    with store.writing() as connection:
        nonce = secrets.token_urlsafe(24)
        connection.execute(sa.update(study).where(study.c.id == store.study_id).values(owner_nonce=nonce))


def delete_rater(store: Store, name: str) -> int:
    """Delete all that is known of a rater: answers, times, consent, link. Only the used-up name is kept.

    Returns:
        How many answers were deleted.

    Raises:
        InputError: none is called so.
    """
    with store.writing() as connection:
        found = find_rater(store, connection, name)
        theirs = sa.select(assignment.c.id).where(assignment.c.rater_id == found.id)
        n = connection.execute(sa.delete(answer).where(answer.c.assignment_id.in_(theirs))).rowcount
        connection.execute(sa.delete(assignment).where(assignment.c.rater_id == found.id))
        empty = {"nonce": "", "created_at": 0, "expires_at": 0, "language": "en"}
        empty |= dict.fromkeys(("revoked_at", "excluded_at", "excluded_why", "consented_at", "practised_at"))
        connection.execute(sa.update(rater).where(rater.c.id == found.id).values(**empty))
    store.scrub()
    return int(n)


# ---- links and sessions: signed, and checked against the row each time


class Links:
    """Signs and reads the links of raters and of the owner, and what their cookies hold.

    Args:
        store: of the study; its secret signs.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        secret = store.study.secret
        self._rater = URLSafeSerializer(secret, salt="pege-study-rater")
        self._owner = URLSafeTimedSerializer(secret, salt="pege-study-owner")
        self._form = URLSafeSerializer(secret, salt="pege-study-form")

    def rater_token(self, found: Rater) -> str:
        """What a rater's link ends with."""
        return str(self._rater.dumps([self._store.study.key, found.id, found.nonce]))

    def open_rater(self, connection: Connection, token: str) -> Rater | None:
        """The rater of a token; None where it is forged, of another study, expired, revoked or of a deleted rater."""
        try:
            key, rater_id, nonce = self._rater.loads(token)
        except (BadSignature, ValueError, TypeError):
            return None
        query = sa.select(*_COLUMNS).where(rater.c.study_id == self._store.study_id, rater.c.id == rater_id)
        row = connection.execute(query).first()
        if key != self._store.study.key or row is None:
            return None
        found = Rater(*row)
        holds = found.nonce != "" and secrets.compare_digest(found.nonce, nonce)
        return found if holds and found.revoked_at is None and time.time() < found.expires_at else None

    def owner_token(self) -> str:
        """What the owner's link ends with."""
        with self._store.reading() as connection:
            return str(self._owner.dumps([self._store.study.key, self._owner_nonce(connection)]))

    def is_owner(self, connection: Connection, token: str) -> bool:
        """Whether a token is the owner's; it holds as long as a rater's link, or until it is renewed."""
        try:
            key, nonce = self._owner.loads(token, max_age=int(self._store.study.design.link_days * DAY_S))
        except (BadSignature, ValueError, TypeError):
            return False
        holds = secrets.compare_digest(self._owner_nonce(connection), nonce)
        return bool(holds and key == self._store.study.key)

    def _owner_nonce(self, connection: Connection) -> str:
        return str(connection.scalar(sa.select(study.c.owner_nonce).where(study.c.id == self._store.study_id)))

    def form_token(self, session: str) -> str:
        """What a form of a session carries, so that no other site's page can send it."""
        return str(self._form.dumps(session)).rpartition(".")[2]

    def is_form(self, session: str, token: str) -> bool:
        """Whether a form's token is of this session."""
        return secrets.compare_digest(self.form_token(session).encode(), token.encode())


def progress_of(store: Store, connection: Connection) -> list[dict[str, Any]]:
    """What the owner sees of each rater: items done, answers, seconds an item, checks, last sign of life."""
    checks = {i for i, it in store.items.items() if it.kind == "check"}
    query = (
        sa.select(assignment.c.rater_id, assignment.c.id, assignment.c.item_id, assignment.c.done_at,
                  assignment.c.touched_at, assignment.c.seconds)
        .join(item, item.c.id == assignment.c.item_id)
        .where(item.c.study_id == store.study_id)
    )  # fmt: skip
    by_rater: dict[int, list[Any]] = {}
    for row in connection.execute(query):
        by_rater.setdefault(row.rater_id, []).append(row)
    said = answers_of(store, connection, checks)
    found = []
    for one in all_raters(store, connection):
        rows = by_rater.get(one.id, [])
        done = [r for r in rows if r.done_at is not None and r.item_id not in checks]
        passed = [
            all(said.get(r.id, {}).get(metric) == value for metric, value in store.items[r.item_id].expected.items())
            for r in rows
            if r.done_at is not None and r.item_id in checks
        ]
        found.append(
            {
                "rater": one.name,
                "n_done": len(done),
                "n_begun": len(rows),
                "seconds_per_item": sum(r.seconds for r in done) / len(done) if done else None,
                "n_checks": len(passed),
                "n_checks_passed": sum(passed),
                "last_seen_at": max((r.touched_at for r in rows), default=None),
                "state": _state(one),
                "why": one.excluded_why,
            }
        )
    return found


def answers_of(store: Store, connection: Connection, item_ids: set[int]) -> dict[int, dict[str, str]]:
    """Assignment -> metric -> value, of some items (checks have one place a metric)."""
    if not item_ids:
        return {}
    query = (
        sa.select(answer.c.assignment_id, answer.c.metric, answer.c.value)
        .join(assignment, assignment.c.id == answer.c.assignment_id)
        .where(assignment.c.item_id.in_(item_ids))
    )
    found: dict[int, dict[str, str]] = {}
    for row in connection.execute(query):
        found.setdefault(row.assignment_id, {})[row.metric] = row.value
    return found


def _state(one: Rater) -> str:
    if one.excluded_at is not None:
        return "excluded"
    if one.revoked_at is not None:
        return "revoked"
    if time.time() >= one.expires_at:
        return "expired"
    return "active" if one.consented_at is not None else "invited"
