"""A study's database: SQLite in its folder, or PostgreSQL by URL; written in whole transactions."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pege.database import MIGRATION_LOCK, Database
from pege.study import tables
from pege.study.folder import Study


class Store(Database):
    """The database of one study.

    Attributes:
        study: the folder's content.
        study_id: its row.
        items: item id -> item.
    """

    def __init__(self, study: Study, url: str | None = None) -> None:
        self.study = study
        url = url or f"sqlite:///{(study.folder / 'study.db').absolute()}"
        super().__init__(url, Path(__file__).parent / "migrations")
        with self.opening(), self.writing() as connection:
            self.study_id = _study_row(connection, study)
            ids = _item_rows(connection, self.study_id, study)
        self.items = {ids[i.key]: i for i in study.items}

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


def _study_row(connection: Connection, study: Study) -> int:
    values = {"key": study.key, "created_at": time.time(), "owner_nonce": secrets.token_urlsafe(24)}
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
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
