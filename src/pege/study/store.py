"""A study's database: SQLite in its folder, or PostgreSQL by URL; written in whole transactions."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from pege.errors import InputError
from pege.io import make_folder
from pege.study import tables
from pege.study.folder import Study

BUSY_TIMEOUT_S = 30
_MIGRATION_LOCK = 0x70656765  # one number for all of ours


class Store:
    """The database of one study.

    Attributes:
        study: the folder's content.
        study_id: its row.
        items: item id -> item.
    """

    def __init__(self, study: Study, url: str | None = None) -> None:
        self.study = study
        self.engine = open_engine(url or f"sqlite:///{(study.folder / 'study.db').absolute()}")
        try:
            with self.writing() as connection:
                _migrate(connection)
            with self.writing() as connection:
                self.study_id = _study_row(connection, study)
                ids = _item_rows(connection, self.study_id, study)
        except SQLAlchemyError as e:
            raise InputError(
                f"the database cannot be opened ({_reason(e)})",
                where=self.engine.url.render_as_string(hide_password=True),
                fix="check the URL, and that the database is there and yours",
            ) from e
        self.items = {ids[i.key]: i for i in study.items}

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

    def keep_base_url(self, url: str) -> None:
        """Keep where raters reach the study: the links of ``pege study invite`` begin with it."""
        with self.writing() as connection:
            connection.execute(sa.update(tables.study).where(tables.study.c.id == self.study_id).values(base_url=url))

    @property
    def base_url(self) -> str | None:
        """Where raters reach the study; None where it was never served."""
        with self.reading() as connection:
            return connection.scalar(sa.select(tables.study.c.base_url).where(tables.study.c.id == self.study_id))

    def lock_study(self, connection: Connection) -> None:
        """Let one transaction at a time pass from here on: who hands out items must see what others handed out."""
        connection.execute(
            sa.select(tables.study.c.id).where(tables.study.c.id == self.study_id).with_for_update()
        )  # SQLite has one writer anyway

    def upsert(self, connection: Connection, table: sa.Table, values: dict[str, Any], **how: Any) -> bool:
        """Insert a row or update the one that is there; whether a row was written.

        Args:
            connection: of a writing transaction.
            table: with one unique constraint besides its key.
            values: of the row.
            how: ``index`` (the unique columns), ``update`` (columns that change), ``unless_newer`` (a column: a row
                that is there with a higher value stays).
        """
        if connection.dialect.name == "postgresql":
            from sqlalchemy.dialects.postgresql import insert
        else:
            from sqlalchemy.dialects.sqlite import insert  # type: ignore[assignment]
        statement = insert(table).values(**values)
        newer: str | None = how.get("unless_newer")
        statement = statement.on_conflict_do_update(
            index_elements=how["index"],
            set_={c: statement.excluded[c] for c in how["update"]},
            where=statement.excluded[newer] >= table.c[newer] if newer else None,
        )
        # asked for the row, not for the count of rows: drivers differ in what they count
        return connection.execute(statement.returning(table.c.id)).first() is not None

    def scrub(self) -> None:
        """Let nothing of what was deleted stay in SQLite's write-ahead log; PostgreSQL does it in its own time."""
        if self.engine.dialect.name == "sqlite":
            with contextlib.closing(self.engine.raw_connection()) as connection:
                connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def open_engine(url: str) -> Engine:
    """Open SQLite (write-ahead log, flushed at each commit) or PostgreSQL.

    Raises:
        InputError: another database, or no URL.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as e:
        raise InputError("is no database URL", where="--database", fix="e.g. postgresql://user@host/name") from e
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        return _open_sqlite(parsed)
    if backend in ("postgresql", "postgres"):
        options = {"pool_size": 20, "max_overflow": 20, "pool_pre_ping": True}
        return sa.create_engine(parsed.set(drivername="postgresql+psycopg"), **options)
    raise InputError(
        f"{backend!r} is no database of ours", where="--database", fix="take sqlite:///FILE or postgresql://"
    )


def _open_sqlite(url: URL) -> Engine:
    if url.database and url.database != ":memory:":
        make_folder(Path(url.database).parent)
        with contextlib.suppress(OSError):
            Path(url.database).touch(mode=0o600)  # raters' answers are for the owner's eyes
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S}, pool_size=20, max_overflow=20)

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # One that reads first and writes later would fail when another wrote in between: take the lock at once.
        is_write = connection.get_execution_options().get("is_write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if is_write else "BEGIN")

    return engine


def _reason(error: SQLAlchemyError) -> str:
    return " ".join(str(getattr(error, "orig", None) or error).split())[:200]


def _migrate(connection: Connection) -> None:
    """Bring the tables up to date; of several programs that open a database at once one does it."""
    from alembic import command
    from alembic.config import Config

    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _study_row(connection: Connection, study: Study) -> int:
    values = {"key": study.key, "created_at": time.time(), "owner_nonce": secrets.token_urlsafe(24)}
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
    found = connection.scalar(sa.select(tables.study.c.id).where(tables.study.c.key == study.key))
    if found is not None:
        return int(found)
    inserted = connection.execute(sa.insert(tables.study).values(**values))
    return int(inserted.inserted_primary_key[0])  # type: ignore[index]


def _item_rows(connection: Connection, study_id: int, study: Study) -> dict[str, int]:
    """Item key -> id; those that are not there yet are added."""
    query = sa.select(tables.item.c.key, tables.item.c.id).where(tables.item.c.study_id == study_id)
    there = {key for key, _ in connection.execute(query)}
    missing = [{"study_id": study_id, "key": i.key} for i in study.items if i.key not in there]
    if missing:
        connection.execute(sa.insert(tables.item), missing)
    return {key: int(i) for key, i in connection.execute(query)}
