"""What the two web apps share of their databases: SQLite or PostgreSQL by URL, whole transactions, migrations.

Nothing here knows of dialogs or ratings. SQLAlchemy is imported: only stores import this.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from pege.errors import InputError
from pege.io import make_folder

BUSY_TIMEOUT_S = 30
SCRUB_S = 1  # until whoever reads the write-ahead log has ended; else it is emptied the next time
# PostgreSQL that is gone or silent holds nobody for longer. A URL that names one of these has its own:
# postgresql://USER@HOST/NAME?connect_timeout=20
ANSWER_S = 12.0  # by our own clock: a server that has stopped keeps the connection open
_POSTGRES: dict[str, Any] = {
    "connect_timeout": 5,
    "options": "-c statement_timeout=10s",  # waiting for locks included
    "tcp_user_timeout": 10_000,  # ms
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}
POOL_S = 5.0  # for one of the connections below
_NO_FILE = (0, 0)
MIGRATION_LOCK = 0x70656765  # one number for all of ours
#: names of constraints, which migrations need
NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


class DatabaseGoneError(SQLAlchemyError):
    """The file of a database is no longer where it was: what is written to it would be lost."""


class Database:
    """A database whose tables are brought up to date on opening.

    Args:
        url: ``sqlite:///FILE`` or ``postgresql://USER@HOST/NAME``.
        migrations: folder of the Alembic migrations.

    Raises:
        InputError: no URL of ours, or the database cannot be opened.
    """

    def __init__(self, url: str, migrations: Path) -> None:
        self.engine = _open_engine(url)
        with self.opening(), self.writing() as connection, _patience(connection):
            _migrate(connection, migrations)

    @contextlib.contextmanager
    def opening(self) -> Iterator[None]:
        """What the database says in the block is worded as bad input."""
        try:
            yield
        except SQLAlchemyError as e:
            reason = " ".join(str(getattr(e, "orig", None) or e).split())[:200]
            raise InputError(
                f"the database cannot be opened ({reason})",
                where=self.engine.url.render_as_string(hide_password=True),
                fix="check the URL, and that the database is there and yours",
            ) from e

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only reads."""
        with self.engine.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that is on the disk when the block has ended, or undone as a whole."""
        with self.engine.connect().execution_options(is_write=True) as connection, connection.begin():
            yield connection

    def scrub(self) -> bool:
        """Let nothing of what was deleted stay in SQLite's write-ahead log; PostgreSQL does it in its own time.

        Returns:
            False where somebody was reading the log, so that it stays for now.
        """
        if self.engine.dialect.name != "sqlite":
            return True
        with contextlib.closing(self.engine.raw_connection()) as connection:
            cursor = connection.cursor()
            cursor.execute(f"PRAGMA busy_timeout={SCRUB_S * 1000}")
            try:
                cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                is_busy = any(row[0] for row in cursor.fetchall())
            except sqlite3.Error:  # what was deleted is deleted all the same
                is_busy = True
            cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_S * 1000}")
        return not is_busy

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def _open_engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
    except ArgumentError as e:
        raise InputError("is no database URL", where="--database", fix="e.g. postgresql://user@host/name") from e
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        return _open_sqlite(parsed)
    if backend in ("postgresql", "postgres"):
        return _open_postgres(parsed.set(drivername="postgresql+psycopg"))
    raise InputError(
        f"{backend!r} is no database of ours", where="--database", fix="take sqlite:///FILE or postgresql://"
    )


def _open_postgres(url: URL) -> Engine:
    import psycopg

    class Connection(psycopg.Connection[Any]):
        """Waits for an answer so long, then closes itself; None waits for ever."""

        answer_s: float | None = ANSWER_S

        def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
            begun = time.monotonic()
            try:
                return super().wait(gen, interval, self.answer_s if timeout is None else timeout)
            except psycopg.OperationalError:
                if self.answer_s is not None and time.monotonic() - begun >= self.answer_s:
                    self.close()  # an answer that comes now would be taken for that of the next question
                raise

    engine = sa.create_engine(
        url, connect_args={k: v for k, v in _POSTGRES.items() if k not in url.query}, pool_size=20, max_overflow=20,
        pool_timeout=POOL_S, pool_pre_ping=True, hide_parameters=True,
    )  # fmt: skip

    @sa.event.listens_for(engine, "do_connect")
    def connect(dialect: Any, record: Any, given: tuple[Any, ...], named: dict[str, Any]) -> Connection:
        return Connection.connect(*given, **named)

    return engine


def _open_sqlite(url: URL) -> Engine:
    path = Path(url.database) if url.database and url.database != ":memory:" else None
    if path:
        make_folder(path.parent)
        with contextlib.suppress(OSError):
            path.touch(mode=0o600)  # what people said is for the owner's eyes
    opened = _identity(path)
    engine = sa.create_engine(
        url, connect_args={"timeout": BUSY_TIMEOUT_S}, pool_size=20, max_overflow=20, hide_parameters=True
    )

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
            connection.execute(f"PRAGMA {pragma}")
        connection.create_function("lower", 1, _lower, deterministic=True)  # SQLite's own knows A to Z only

    @sa.event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # An open file can be written to after it was deleted or replaced, and nobody would find it again.
        if _identity(path) != opened:
            raise DatabaseGoneError("the file is gone, or is another one")
        # One that reads first and writes later would fail when another wrote in between: take the lock at once.
        is_write = connection.get_execution_options().get("is_write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if is_write else "BEGIN")

    return engine


def _identity(path: Path | None) -> tuple[int, int]:
    try:
        found = path.stat() if path else None
    except OSError:
        return _NO_FILE
    return (found.st_dev, found.st_ino) if found else _NO_FILE


def _lower(text: Any) -> Any:
    return text.lower() if isinstance(text, str) else text


@contextlib.contextmanager
def _patience(connection: Connection) -> Iterator[None]:
    """In the block PostgreSQL may take as long as it wants: for large tables, or another that migrates them."""
    if connection.dialect.name != "postgresql":
        yield
        return
    ours: Any = connection.connection.driver_connection
    usual, ours.answer_s = ours.answer_s, None
    connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
    try:
        yield
    finally:
        ours.answer_s = usual


def _migrate(connection: Connection, migrations: Path) -> None:
    """Bring the tables up to date; of several programs that open a database at once one does it."""
    from alembic import command
    from alembic.config import Config

    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
    config = Config()
    config.set_main_option("script_location", str(migrations))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
