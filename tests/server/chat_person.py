"""A person of the web chat without a browser: cookies, and what the page would send."""

from __future__ import annotations

import json
from pathlib import Path

from chat_served import BASE, form_token
from starlette.testclient import TestClient

from pege.server.chat.site import PERSON_COOKIE


class Person:
    """A browser: its cookies, and what its page would send."""

    def __init__(self, app):
        self.client = TestClient(app, base_url=BASE)
        self.csrf = form_token(self.client.get("/").text)

    def post(self, path, talk, **headers):
        return self.client.post(path, json=talk, headers={"x-csrf-token": self.csrf, **headers})

    def say(self, *contents, **values):
        answered = self.post("/respond", {"said": [{"content": c} for c in contents], **values})
        assert answered.status_code == 200, answered.text
        return events_of(answered.text)

    def change(self, path, **form):
        return self.client.post(path, data={"csrf": self.csrf, **form}, headers={"hx-request": "true"})


def events_of(text):
    parts = [part.split("\n") for part in text.strip().split("\n\n")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in parts]


def last_of(events, wanted):
    """What the last event of a name says."""
    return [found for name, found in events if name == wanted][-1]


def contents(store, person, key):
    return [s.content for s in store.load(person.client.cookies[PERSON_COOKIE], key)[1]]


def on_disk(store):
    """All bytes of the database's files."""
    folder = store.engine.url.database.removesuffix("chat.db")
    return b"".join(p.read_bytes() for p in Path(folder).glob("chat.db*"))
