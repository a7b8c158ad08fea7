"""The database: migrations, SQLite's settings, refusals."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from pege.errors import InputError
from pege.study.raters import delete_rater, invite_raters
from pege.study.rating import StaleAnswerError, current_assignment, load_assignment, save_answers
from pege.study.store import Store
from pege.study.tables import metadata
from postgres import postgres_cluster, why_no_postgres


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


@pytest.mark.skipif(why_no_postgres() is not None, reason=str(why_no_postgres()))
def test_postgres_has_the_same_tables_and_keeps_the_same_promises(make_study):
    with postgres_cluster() as url:
        store = Store(make_study(), url)
        with store.reading() as connection:
            context = MigrationContext.configure(connection, opts={"version_table": "pege_study_version"})
            assert compare_metadata(context, metadata) == []
        first, second = invite_raters(store, 2)
        found = current_assignment(store, first)
        for value, counter in (("0", 1), ("0", 1), ("1", 2)):
            save_answers(store, first, found.id, {("guidance", 0): value}, counter=counter)
        with pytest.raises(StaleAnswerError):
            save_answers(store, first, found.id, {("guidance", 0): "0"}, counter=1)
        assert load_assignment(store, first, found.id).answers == {("guidance", 0): "1"}
        assert load_assignment(store, second, found.id) is None
        again = Store(store.study, url)
        assert again.items == store.items
        assert delete_rater(again, first.name) == 1
        again.close()
        store.close()
