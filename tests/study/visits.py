"""Clients of the pages for the tests: in this process, without a server."""

from __future__ import annotations

import re

from starlette.testclient import TestClient

from pege.study.app import make_app
from pege.study.raters import Links
from pege.study.rating import questions_of

BASE = "http://127.0.0.1:8080"


def client_of(store, **how):
    return TestClient(make_app(store, base_url=BASE, **how), base_url=BASE)


def enter(store, rater, *, client=None, until="rate"):
    """A client that has opened a rater's link, consented and practised."""
    client = client or client_of(store)
    assert client.get(f"/r/{Links(store).rater_token(rater)}").status_code == 200
    if until == "consent":
        return client
    token = csrf(client.get("/consent").text)
    client.post("/consent", data={"csrf": token, "agree": "yes"})
    client.post("/start", data={"csrf": token})
    return client


def csrf(text):
    return re.search(r'name="csrf" value="([^"]+)"', text)[1]


def action(text):
    return re.search(r'action="(/item/\d+)"', text)[1]


def fields(store, found):
    return {f"a:{m}:{p}": values[-1] for (m, p), values in questions_of(store.study.design, found.item).items()}
