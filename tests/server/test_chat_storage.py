"""The store of kept dialogs: a database that says nothing holds nobody up, old dialogs and old names go by themselves."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import time

import httpx
import pytest
from chat_person import Person, contents, events_of, last_of, on_disk
from chat_served import BASE, Says, app_of, database_of, form_token, served
from starlette.testclient import TestClient

from pege import database
from pege.server.chat import store as store_module
from pege.server.chat.site import PERSON_COOKIE
from pege.server.chat.store import Store
from pege.server.chat.talk import Said
from postgres import silent_server

SECRET = "s" * 43


@pytest.fixture
def store(tmp_path):
    found = Store(database_of(tmp_path), keep_days=10)
    yield found
    found.close()


@pytest.fixture
def silence(store, monkeypatch):
    """From now on the database takes connections and says nothing for a while."""
    monkeypatch.setattr(store_module, "ANSWER_S", 0.5)
    monkeypatch.setattr(store_module, "_COMMIT_S", 0.5)
    with silent_server(for_s=20) as url:
        store.engine.dispose()
        store.engine = database._open_engine(url)
        yield
    store.engine.dispose()


@pytest.mark.usefixtures("silence")
def test_a_silent_database_holds_up_neither_talks_nor_pages_nor_the_crisis_check(store):
    with served(Says("I am here."), store) as base, httpx.Client(base_url=base, timeout=15) as client:
        headers = {"x-csrf-token": form_token(client.get("/help").text)}
        talk = {"said": [{"content": "hello"}]}

        def ask(**values):
            begun = time.monotonic()
            events = events_of(client.post("/respond", json={**talk, **values}, headers=headers).text)
            return events, time.monotonic() - begun

        ask()  # whatever is read at the first response
        with concurrent.futures.ThreadPoolExecutor(50) as threads:
            kept = [threads.submit(ask, keep=True) for _ in range(50)]  # more than there are threads of any kind
            time.sleep(0.3)
            begun = time.monotonic()
            assert client.get("/help").status_code == 200
            assert last_of(ask()[0], "done")["text"] == "I am here."
            assert "cannot be read right now" in client.get("/", cookies={PERSON_COOKIE: SECRET}).text
            assert client.get("/dialog/x").status_code == 503
            assert time.monotonic() - begun < 8
            for events, seconds in (f.result() for f in kept):
                assert ("unkept", {"why": "gone"}) in events
                assert last_of(events, "done")["text"] == "I am here."
                assert seconds < 12


def test_what_comes_too_late_changes_nothing(store):
    kept = store.save(SECRET, [Said(content="hello")])

    def rename_late():
        time.sleep(0.3)
        store.rename(SECRET, kept.key, "too late")

    async def ask():
        with contextlib.suppress(database.DatabaseGoneError):
            await store.ask(rename_late, limit_s=0.1)
            raise AssertionError("it was in time")
        await asyncio.sleep(0.5)

    asyncio.run(ask())
    assert store.load(SECRET, kept.key)[0].name == "hello"
    asyncio.run(store.ask(lambda: store.rename(SECRET, kept.key, "in time")))
    assert store.load(SECRET, kept.key)[0].name == "in time"


@pytest.fixture
def later(store, monkeypatch):
    """Eleven days after five dialogs were kept."""
    for k in range(5):
        store.save(SECRET, [Said(content=f"old words {k}")])
    now = time.time() + 11 * 86_400
    monkeypatch.setattr(time, "time", lambda: now)
    store.save("t" * 43, [Said(content="new words")])


@pytest.mark.usefixtures("later")
def test_what_was_not_changed_for_long_is_deleted_a_few_dialogs_at_a_time(store, monkeypatch):
    monkeypatch.setattr(store_module, "_PURGED_AT_ONCE", 2)
    assert store.purge() == 5
    assert b"old words" not in on_disk(store)
    assert b"new words" in on_disk(store)
    assert store.purge() == 0


@pytest.mark.usefixtures("later")
def test_a_server_deletes_old_dialogs_without_a_visit(store):
    with TestClient(app_of(Says(), store), base_url=BASE):
        for _ in range(100):
            if b"old words" not in on_disk(store):
                break
            time.sleep(0.05)
    assert b"old words" not in on_disk(store)


@pytest.mark.usefixtures("later")
def test_old_dialogs_are_looked_for_again_and_again_also_after_a_failure(store, monkeypatch):
    monkeypatch.setattr(store_module, "PURGE_EVERY_S", 0.05)
    purge, n_asked = store.purge, []

    def fail_first():
        n_asked.append(1)
        if len(n_asked) == 1:
            raise database.DatabaseGoneError("gone")
        return purge()

    monkeypatch.setattr(store, "purge", fail_first)

    async def wait():
        async with store.purging():
            while len(n_asked) < 3:
                await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(wait(), 20))
    assert store.find(SECRET) == []


def test_a_name_that_was_changed_is_gone_from_the_files(store):
    person = Person(app_of(Says("Fine."), store))
    key = last_of(person.say("hello", keep=True), "kept")["key"]
    person.change(f"/dialog/{key}/rename", name="a name to be forgotten")
    assert b"a name to be forgotten" in on_disk(store)
    person.change(f"/dialog/{key}/rename", name="other")
    assert b"a name to be forgotten" not in on_disk(store)
    assert contents(store, person, key) == ["hello", "Fine."]
