"""The dialogs that people keep: each under a secret of the person's browser, and nobody else's to read."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import math
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from pege.database import Database, DatabaseGoneError
from pege.server.chat.tables import dialog, utterance
from pege.server.chat.talk import MAX_NAME_CHARS, Said, Shown, name_of

log = logging.getLogger(__name__)
_T = TypeVar("_T")
DAY_S = 86_400.0
MAX_DIALOGS = 1_000  # of one person
ANSWER_S = 5.0  # longer than this nobody waits for the database
PURGE_EVERY_S = 3_600.0
_COMMIT_S = 2.0  # beyond it, for what is being committed and scrubbed
_N_THREADS = 16
_PURGED_AT_ONCE = 200


class NoDialogError(LookupError):
    """The person has no such dialog: it was deleted, or it is another person's."""


class NewerError(Exception):
    """The dialog was changed in another window since the page was made."""


class TooManyError(Exception):
    """The person keeps as many dialogs as one may."""


@dataclass(frozen=True)
class Kept:
    """A kept dialog's row.

    Attributes:
        key: names it in addresses.
        name: the person's, or how it begins.
        version: counts its changes.
        changed_at: seconds since 1970.
        had_crisis: whether it had one, also in an utterance that is no longer there.
    """

    key: str
    name: str
    version: int
    changed_at: float
    had_crisis: bool


_KEPT = [dialog.c[name] for name in Kept.__dataclass_fields__]


class Store(Database):
    """The database of kept dialogs.

    Args:
        url: ``sqlite:///FILE`` or ``postgresql://USER@HOST/NAME``.
        keep_days: a dialog is deleted so long after its last change.
    """

    def __init__(self, url: str, *, keep_days: float = 180.0) -> None:
        self.keep_days = keep_days
        self._threads = ThreadPoolExecutor(_N_THREADS, thread_name_prefix="pege-store")
        self._asked = threading.local()
        super().__init__(url, Path(__file__).parent / "migrations")

    async def ask(self, act: Callable[[], _T], *, limit_s: float | None = None) -> _T:
        """Give what an act of this store gives, in one of its own threads: no other work of the server waits for them.

        Raises:
            DatabaseGoneError: it took longer than ``limit_s`` (``ANSWER_S``); when it ends it has changed nothing.
        """
        limit_s = ANSWER_S if limit_s is None else limit_s
        until = time.monotonic() + limit_s

        def run() -> _T:
            self._asked.until = until
            return act()

        try:
            async with asyncio.timeout(limit_s + _COMMIT_S):
                return await asyncio.get_running_loop().run_in_executor(self._threads, run)
        except TimeoutError as e:
            raise DatabaseGoneError("no answer in time") from e

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction as of `Database`, undone where whoever asked for it has left."""
        with super().writing() as connection:
            yield connection
            if time.monotonic() > getattr(self._asked, "until", math.inf):
                raise DatabaseGoneError("the answer came too late")

    def save(
        self, secret: str, said: Sequence[Said], *, key: str | None = None, version: int = 0, had_crisis: bool = False
    ) -> Kept:
        """Keep a dialog as it is now; what it no longer holds is deleted for good. On the disk when this returns.

        Args:
            secret: of the person.
            said: all utterances.
            key: of the dialog; None makes a new one.
            version: that the person has seen.
            had_crisis: whether the dialog had a crisis; what is kept once stays.

        Raises:
            NoDialogError: none of the person's has this key.
            NewerError: it has another version.
            TooManyError: a new one would be one too many.
        """
        now = time.time()
        with self.writing() as connection:
            row_id = _new(connection, secret, said, now) if key is None else _renewed(
                connection, secret, key, version, now
            )  # fmt: skip
            is_cut = _write(connection, row_id, said)
            if had_crisis:
                connection.execute(sa.update(dialog).where(dialog.c.id == row_id).values(had_crisis=True))
            kept = Kept(*connection.execute(sa.select(*_KEPT).where(dialog.c.id == row_id)).one())
        if is_cut:
            self._scrub()
        return kept

    def load(self, secret: str, key: str) -> tuple[Kept, tuple[Said, ...]]:
        """Give a dialog of the person's.

        Raises:
            NoDialogError: none has this key.
        """
        with self.reading() as connection:
            row = connection.execute(sa.select(dialog.c.id, *_KEPT).where(*_is(secret, key))).first()
            if row is None:
                raise NoDialogError(key)
            return Kept(*row[1:]), _said(connection, row[0])

    def find(self, secret: str, wanted: str = "") -> list[Kept]:
        """The person's dialogs, the newest first, that hold all words wanted, in their name or in an utterance."""
        query = sa.select(*_KEPT).where(dialog.c.person == _person(secret))
        for word in wanted.split():
            inside = sa.exists().where(
                utterance.c.dialog_id == dialog.c.id, utterance.c.content.icontains(word, autoescape=True)
            )
            query = query.where(sa.or_(dialog.c.name.icontains(word, autoescape=True), inside))
        with self.reading() as connection:
            return [Kept(*row) for row in connection.execute(query.order_by(dialog.c.changed_at.desc(), dialog.c.id))]

    def every(self, secret: str) -> Iterator[tuple[Kept, tuple[Said, ...]]]:
        """All dialogs of the person with their utterances, the oldest first."""
        with self.reading() as connection:
            query = sa.select(dialog.c.id, *_KEPT).where(dialog.c.person == _person(secret)).order_by(dialog.c.id)
            for row in connection.execute(query).all():
                yield Kept(*row[1:]), _said(connection, row[0])

    def rename(self, secret: str, key: str, name: str) -> None:
        """Give a dialog another name, the first ``MAX_NAME_CHARS`` of it; a blank one changes nothing.

        Raises:
            NoDialogError: none has this key.
        """
        name = " ".join(name.replace("\0", "").split())[:MAX_NAME_CHARS]
        with self.writing() as connection:
            values = {"name": name} if name else {"key": key}
            if not connection.execute(sa.update(dialog).where(*_is(secret, key)).values(**values)).rowcount:
                raise NoDialogError(key)
        self._scrub()  # of the old name

    def delete(self, secret: str, key: str | None = None) -> int:
        """Delete a dialog for good, or all of the person's; how many there were.

        Raises:
            NoDialogError: none has this key.
        """
        n = self._delete(*([dialog.c.person == _person(secret)] if key is None else _is(secret, key)))
        if key is not None and not n:
            raise NoDialogError(key)
        return n

    def _delete(self, *which: sa.ColumnElement[bool]) -> int:
        with self.writing() as connection:
            n = connection.execute(sa.delete(dialog).where(*which)).rowcount  # utterances go with it
        if n:
            self._scrub()
        return n

    def _scrub(self) -> None:
        if not self.scrub():
            log.warning("a log of deleted text is being read and is emptied at the next deletion")

    def purge(self) -> int:
        """Delete what was not changed for too long, some at a time; how many dialogs there were."""
        old, n = dialog.c.changed_at < time.time() - DAY_S * self.keep_days, 0
        while found := self._delete(dialog.c.id.in_(sa.select(dialog.c.id).where(old).limit(_PURGED_AT_ONCE))):
            n += found
        return n

    @contextlib.asynccontextmanager
    async def purging(self) -> AsyncIterator[None]:
        """In the block old dialogs are deleted, at its start and every hour."""
        task = asyncio.create_task(self._purge_again_and_again())
        try:
            yield
        finally:
            task.cancel()

    async def _purge_again_and_again(self) -> None:
        while True:
            try:
                await self.ask(self.purge, limit_s=PURGE_EVERY_S)
            except SQLAlchemyError as e:
                log.error("old dialogs could not be deleted (%s); tried again in an hour", type(e).__name__)
            await asyncio.sleep(PURGE_EVERY_S)

    def close(self) -> None:
        """Close all connections; what is still asked is not begun."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        super().close()


def _person(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _is(secret: str, key: str) -> list[sa.ColumnElement[bool]]:
    return [dialog.c.key == key, dialog.c.person == _person(secret)]


def _new(connection: Connection, secret: str, said: Sequence[Said], now: float) -> int:
    mine = dialog.c.person == _person(secret)
    if (connection.scalar(sa.select(sa.func.count()).select_from(dialog).where(mine)) or 0) >= MAX_DIALOGS:
        raise TooManyError
    values = {
        "key": secrets.token_urlsafe(16), "person": _person(secret), "name": name_of(said[0].content), "version": 1,
        "created_at": now, "changed_at": now,
    }  # fmt: skip
    return int(connection.execute(sa.insert(dialog).values(**values)).inserted_primary_key[0])  # type: ignore[index]


def _renewed(connection: Connection, secret: str, key: str, version: int, now: float) -> int:
    change = sa.update(dialog).where(*_is(secret, key), dialog.c.version == version)
    row_id = connection.scalar(change.values(version=version + 1, changed_at=now).returning(dialog.c.id))
    if row_id is None:
        is_there = connection.scalar(sa.select(dialog.c.id).where(*_is(secret, key)))
        raise NoDialogError(key) if is_there is None else NewerError(key)
    return int(row_id)


def _write(connection: Connection, row_id: int, said: Sequence[Said]) -> bool:
    """Write the utterances that changed; whether text of others was deleted for it."""
    rows = [(s.content, s.shown.model_dump(mode="json", exclude_defaults=True)) for s in said]
    mine = utterance.c.dialog_id == row_id
    query = sa.select(utterance.c.content, utterance.c.shown).where(mine).order_by(utterance.c.place)
    there = [(content, shown) for content, shown in connection.execute(query)]
    same = next((k for k, (a, b) in enumerate(zip(there, rows, strict=False)) if a != b), min(len(there), len(rows)))
    if same < len(there):
        connection.execute(sa.delete(utterance).where(mine, utterance.c.place >= same))
    new = [
        {"dialog_id": row_id, "place": k, "content": rows[k][0], "shown": rows[k][1]} for k in range(same, len(rows))
    ]
    if new:
        connection.execute(sa.insert(utterance), new)
    if there:  # a name that was taken from the first utterance goes with it
        was = sa.and_(dialog.c.id == row_id, dialog.c.name == name_of(there[0][0]))
        connection.execute(sa.update(dialog).where(was).values(name=name_of(rows[0][0])))
    return [content for content, _ in there] != [content for content, _ in rows[: len(there)]]


def _said(connection: Connection, row_id: int) -> tuple[Said, ...]:
    query = sa.select(utterance.c.content, utterance.c.shown).where(utterance.c.dialog_id == row_id)
    rows = connection.execute(query.order_by(utterance.c.place))
    return tuple(Said(content=content, shown=Shown(**shown)) for content, shown in rows)
