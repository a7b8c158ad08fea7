"""What happens to kept dialogs when the server is killed, the disk is full or the database goes away: nothing kept is lost."""

from __future__ import annotations

import json
import signal
import threading
import time

import httpx
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from chat_served import Says, app_of, database_of, form_token
from starlette.testclient import TestClient

from pege.server.chat.site import PERSON_COOKIE
from pege.server.chat.store import NewerError, NoDialogError, Store
from pege.server.chat.tables import metadata
from pege.server.chat.talk import Said
from postgres import postgres_cluster, why_no_postgres

SECRET = "s" * 43


def said(*contents):
    return [Said(content=c) for c in contents]


def test_the_migrations_make_the_tables_that_the_code_knows(tmp_path):
    store = Store(database_of(tmp_path))
    with store.reading() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": "pege_chat_version"})
        assert compare_metadata(context, metadata) == []
    store.close()


class Talker(threading.Thread):
    """A person whose page asks with the dialog kept; remembers what was acknowledged."""

    def __init__(self, base):
        super().__init__()
        self.client = httpx.Client(base_url=base, timeout=20)
        self.headers = {"x-csrf-token": form_token(self.client.get("/").text)}
        self.secret = self.client.cookies[PERSON_COOKIE]
        self.acknowledged = self.key = None

    def run(self):
        talk, version = ["utterance 0"], 0
        try:
            for k in range(1, 1000):
                body = {"said": [{"content": c} for c in talk], "keep": True, "key": self.key, "version": version}
                with self.client.stream("POST", "/respond", json=body, headers=self.headers) as answered:
                    pieces, name = "", ""
                    for line in answered.iter_lines():
                        if line.startswith("event: "):
                            name = line.removeprefix("event: ")
                        elif name == "kept" and line.startswith("data: "):
                            found = json.loads(line.removeprefix("data: "))
                            self.key, version = found["key"], found["version"]
                            self.acknowledged = [*talk, pieces] if pieces else list(talk)
                        elif name == "piece" and line.startswith("data: "):
                            pieces += json.loads(line.removeprefix("data: "))["text"]
                talk += [pieces, f"utterance {k}"]
        except httpx.HTTPError:
            pass  # the server was killed
        self.client.close()


@pytest.mark.slow
def test_what_was_acknowledged_survives_a_kill_between_saving_and_answering(tmp_path, start):
    server = start(Says(wait_s=0.02), tmp_path)
    people = [Talker(server.base) for _ in range(4)]
    [p.start() for p in people]
    while not all(p.acknowledged and len(p.acknowledged) >= 3 for p in people):
        time.sleep(0.02)
    server.send(signal.SIGKILL)  # in the middle of four responses
    [p.join() for p in people]
    server = start(Says(), tmp_path)
    for p in people:
        page = httpx.get(f"{server.base}/dialog/{p.key}", cookies={PERSON_COOKIE: p.secret})
        assert page.status_code == 200
        for text in p.acknowledged:
            assert text.strip() in page.text
    server.send(signal.SIGKILL)
    store = Store(database_of(tmp_path))
    for p in people:
        stored = [s.content for s in store.load(p.secret, p.key)[1]]
        assert stored[: len(p.acknowledged)] == p.acknowledged
    store.close()


@pytest.mark.slow
def test_a_server_whose_disk_is_full_goes_on_without_keeping(tmp_path, start):
    store = Store(database_of(tmp_path))
    kept = store.save(SECRET, said("kept before", "yes"))
    store.close()
    limit = (tmp_path / "chat.db").stat().st_size + 8_192  # no file of this process may grow beyond it
    server = start(Says(), tmp_path, limit_bytes=limit)
    with httpx.Client(base_url=server.base, timeout=20, cookies={PERSON_COOKIE: SECRET}) as client:
        headers = {"x-csrf-token": form_token(client.get("/").text)}
        talk = [{"content": "kept before"}, {"content": "yes"}, {"content": "x" * 40_000}]
        body = {"said": talk, "keep": True, "key": kept.key, "version": 1}
        answered = client.post("/respond", json=body, headers=headers).text
        assert '"why": "gone"' in answered
        assert "event: done" in answered
        assert "kept before" in client.get(f"/dialog/{kept.key}").text
    server.send(signal.SIGKILL)
    store = Store(database_of(tmp_path))
    assert [s.content for s in store.load(SECRET, kept.key)[1]] == ["kept before", "yes"]
    store.close()


@pytest.mark.slow
@pytest.mark.skipif(why_no_postgres() is not None, reason=str(why_no_postgres()))
def test_postgres_keeps_the_same_promises_and_the_chat_outlives_it():
    with postgres_cluster() as url:
        store = Store(url)
        with store.reading() as connection:
            context = MigrationContext.configure(connection, opts={"version_table": "pege_chat_version"})
            assert compare_metadata(context, metadata) == []
        kept = store.save(SECRET, said("Ärger", "yes"))
        assert store.save(SECRET, said("Ärger", "no"), key=kept.key, version=1).version == 2
        with pytest.raises(NewerError):
            store.save(SECRET, said("older"), key=kept.key, version=1)
        with pytest.raises(NoDialogError):
            store.load("t" * 43, kept.key)
        assert [k.key for k in store.find(SECRET, "ÄRGER no")] == [kept.key]
        assert store.find(SECRET, "%") == []
        other = store.save(SECRET, said("another"))
        store.delete(SECRET, other.key)
        assert [k.key for k in store.find(SECRET)] == [kept.key]
    # the cluster is gone now
    client = TestClient(app_of(Says(), store), base_url="http://127.0.0.1:8000", cookies={PERSON_COOKIE: SECRET})
    page = client.get("/")
    assert "cannot be read right now" in page.text
    body = {"said": [{"content": "hello"}], "keep": True}
    answered = client.post("/respond", json=body, headers={"x-csrf-token": form_token(page.text)}).text
    assert '"why": "gone"' in answered
    assert "event: done" in answered
    store.close()
