"""PostgreSQL that is there and says nothing; SQLite's are tested with the stores."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from pege import database
from pege.database import Database
from pege.errors import InputError
from postgres import postgres_cluster, silent_server, why_no_postgres

MIGRATIONS = Path(database.__file__).parent / "server" / "chat" / "migrations"
NEEDS_POSTGRES = [pytest.mark.slow, pytest.mark.skipif(why_no_postgres() is not None, reason=str(why_no_postgres()))]


@pytest.mark.parametrize(("own", "most_s"), [("", 10), ("?connect_timeout=2", 4.5)])  # a URL may have its own limits
def test_a_server_that_takes_connections_and_says_nothing_is_bad_input_in_seconds(own, most_s):
    begun = time.monotonic()
    with silent_server(for_s=20) as url, pytest.raises(InputError, match="cannot be opened"):
        Database(url + own, MIGRATIONS)
    assert time.monotonic() - begun < most_s


@pytest.fixture(scope="module")
def cluster():
    with postgres_cluster() as url:
        yield url


def needs_postgres(test):
    for mark in NEEDS_POSTGRES:
        test = mark(test)
    return test


@needs_postgres
def test_a_postgres_that_stops_in_the_middle_holds_nobody_for_long(cluster, monkeypatch):
    monkeypatch.setattr(database, "ANSWER_S", 1.0)
    found = Database(cluster, MIGRATIONS)
    with found.reading() as connection:
        pid = connection.scalar(sa.text("SELECT pg_backend_pid()"))
    os.kill(pid, signal.SIGSTOP)
    try:
        begun = time.monotonic()
        with found.reading() as connection:  # the pool finds out, and makes another connection
            assert connection.scalar(sa.text("SELECT pg_backend_pid()")) != pid
        assert 1 <= time.monotonic() - begun < 5
    finally:
        os.kill(pid, signal.SIGCONT)
    with pytest.raises(OperationalError), found.writing() as connection:
        pid = connection.scalar(sa.text("SELECT pg_backend_pid()"))
        os.kill(pid, signal.SIGSTOP)
        try:
            connection.execute(sa.text("SELECT 1"))
        finally:
            os.kill(pid, signal.SIGCONT)
    with found.writing() as connection:
        assert connection.scalar(sa.text("SELECT 1")) == 1
    found.close()


@needs_postgres
def test_who_waits_for_a_lock_is_told_after_a_while(cluster, monkeypatch):
    monkeypatch.setitem(database._POSTGRES, "options", "-c statement_timeout=1s")
    found = Database(cluster, MIGRATIONS)
    with found.writing() as first:
        first.execute(sa.text("LOCK TABLE dialog"))
        begun = time.monotonic()
        with pytest.raises(OperationalError, match="statement timeout"), found.reading() as second:
            second.execute(sa.text("SELECT * FROM dialog"))
        assert time.monotonic() - begun < 5
    found.close()


@needs_postgres
def test_migrations_wait_for_another_that_migrates_as_long_as_it_takes(cluster, monkeypatch):
    import psycopg

    monkeypatch.setattr(database, "ANSWER_S", 0.5)
    monkeypatch.setitem(database._POSTGRES, "options", "-c statement_timeout=1s")
    with psycopg.connect(cluster) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", [database.MIGRATION_LOCK])
        end = threading.Timer(2, other.commit)
        end.start()
        begun = time.monotonic()
        found = Database(cluster, MIGRATIONS)
        assert time.monotonic() - begun >= 1.5
        end.join()
    with pytest.raises(OperationalError), found.reading() as connection:
        connection.execute(sa.text("SELECT pg_sleep(3)"))
    found.close()
