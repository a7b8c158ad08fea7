"""The database: migrations, SQLite's settings, refusals."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from pege.errors import InputError
from pege.study.store import Store, open_engine
from pege.study.tables import metadata


def test_the_migrations_make_the_tables_that_the_code_knows(make_store):
    store = make_store()
    with store.reading() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": "pege_study_version"})
        assert compare_metadata(context, metadata) == []


def test_sqlite_writes_ahead_and_flushes_each_commit(make_store):
    store = make_store()
    with store.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    assert (store.study.folder / "study.db").stat().st_mode & 0o077 == 0


def test_a_failed_transaction_leaves_nothing(make_store):
    store = make_store()
    with pytest.raises(RuntimeError), store.writing() as connection:
        connection.execute(sa.text("DELETE FROM item"))
        raise RuntimeError
    with store.reading() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM item")) == 12


def test_opening_again_adds_nothing(make_store):
    store = make_store()
    again = Store(store.study)
    assert again.items == store.items
    again.close()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "no database URL"),
        ("mysql://x/y", "no database of ours"),
        ("sqlite:////proc/no/x.db", "cannot be made"),
    ],
)
def test_other_databases_are_refused(make_study, url, message):
    study = make_study()
    with pytest.raises(InputError, match=message):
        Store(study, url)


def test_a_database_that_is_not_there_is_one_line_without_its_password(make_study):
    with pytest.raises(InputError) as caught:
        Store(make_study(), "postgresql://me:s3cret@127.0.0.1:1/none")
    assert "cannot be opened" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_postgres_urls_take_our_driver():
    assert open_engine("postgresql://me@h/d").url.drivername == "postgresql+psycopg"
