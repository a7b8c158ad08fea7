"""50 raters at once, the server killed in the middle: no acknowledged answer is lost, none is doubled."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter

import httpx
import pytest
import sqlalchemy as sa
from servers import served

from pege.study import tables
from pege.study.raters import Links, invite_raters
from pege.study.store import Store
from postgres import postgres_cluster, why_no_postgres

N_RATERS, N_ITEMS, N_KILLS = 50, 2, 2
PATIENCE_S = 120  # a busy machine may take half a minute to start a server again


class Person(threading.Thread):
    """A rater who answers one question after another and sends each again until it is acknowledged."""

    def __init__(self, base, token, k):
        super().__init__()
        self.base, self.token, self.k = base, token, k
        self.acknowledged = {}  # (item path, metric, place) -> value, of the last acknowledgement
        self.n_sent = self.n_items = 0
        self.error = None

    def run(self):
        try:
            with httpx.Client(base_url=self.base, timeout=20) as self.client:
                self.rate()
        except BaseException as e:
            self.error = e

    def insist(self, method, path, *, ok, **how):
        said, until = None, time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            try:
                answered = self.client.request(method, path, **how)
            except httpx.HTTPError as e:
                said = repr(e)
                time.sleep(0.05)
                continue
            if answered.status_code in ok:
                return answered
            said = f"{answered.status_code} {answered.text}"
            assert answered.status_code >= 500, (path, said)
            time.sleep(0.05)
        raise AssertionError(f"{path}: never acknowledged; last: {said}")

    def rate(self):
        self.insist("GET", f"/r/{self.token}", ok=(303,))
        csrf = re.search(r'name="csrf" value="([^"]+)"', self.insist("GET", "/consent", ok=(200,)).text)[1]
        self.insist("POST", "/consent", ok=(303,), data={"csrf": csrf, "agree": "yes"})
        self.insist("POST", "/start", ok=(303,), data={"csrf": csrf})
        for _ in range(N_ITEMS):
            page = self.insist("GET", "/rate", ok=(200,)).text
            path = re.search(r'action="(/item/\d+)"', page)[1]
            counter = int(re.search(r'data-counter="(\d+)"', page)[1])
            for field in dict.fromkeys(re.findall(r'name="(a:[^"]+)"', page)):
                value = str((self.k + self.n_sent) % 2) if field != "a:guidance:0" else "1"
                for sent in (str(1 - int(value)), value):  # a change of mind: the last acknowledged one must stand
                    data = {"csrf": csrf, "counter": str(counter), field: sent}
                    self.insist("POST", f"{path}/save", ok=(204,), data=data)
                    self.acknowledged[path, field] = sent
                    counter += 1
                    self.n_sent += 1
            self.insist("POST", path, ok=(303,), data={"csrf": csrf})
            self.n_items += 1


def hurry(store, server):
    """All raters rate at once; the server is killed twice while they do."""
    links = Links(store)
    people = [Person(server.base, links.rater_token(r), k) for k, r in enumerate(invite_raters(store, N_RATERS))]
    [p.start() for p in people]
    wanted = N_RATERS * N_ITEMS * 12
    for kill in range(N_KILLS):
        while sum(p.n_sent for p in people) < wanted * (kill + 1) / (N_KILLS + 1) and any(p.is_alive() for p in people):
            time.sleep(0.01)
        assert [p.error for p in people if p.error] == []
        assert any(p.is_alive() for p in people)  # in the middle, not after it
        server.kill()
        server.start()
    [p.join() for p in people]
    assert [p.error for p in people if p.error] == []
    return people


def check_nothing_lost_nothing_doubled(store, people):
    with store.reading() as connection:
        rows = connection.execute(sa.select(tables.answer)).all()
        done = connection.execute(sa.select(tables.assignment)).all()
    stored = {(f"/item/{r.assignment_id}", f"a:{r.metric}:{r.place}"): r.value for r in rows}
    assert len(stored) == len(rows)  # none doubled
    acknowledged = {key: value for p in people for key, value in p.acknowledged.items()}
    assert len(acknowledged) == N_RATERS * N_ITEMS * 6
    assert stored == acknowledged  # none lost, none changed, none made up
    assert len(done) == N_RATERS * N_ITEMS
    assert all(a.done_at is not None for a in done)
    assert max(Counter((a.rater_id, a.item_id) for a in done).values()) == 1
    assert max(Counter(a.item_id for a in done).values()) <= store.study.design.raters_per_item


@pytest.fixture
def crash_study(make_study):
    return make_study(raters_per_item=20, items_per_rater=N_ITEMS)


@pytest.mark.slow
def test_no_acknowledged_answer_is_lost_or_doubled_on_sqlite(crash_study):
    store = Store(crash_study)
    with served(crash_study.folder) as server:
        people = hurry(store, server)
    check_nothing_lost_nothing_doubled(store, people)
    store.close()


@pytest.mark.slow
@pytest.mark.skipif(why_no_postgres() is not None, reason=str(why_no_postgres()))
def test_no_acknowledged_answer_is_lost_or_doubled_on_postgres(crash_study):
    with postgres_cluster() as url:
        store = Store(crash_study, url)
        with served(crash_study.folder, database=url) as server:
            people = hurry(store, server)
        check_nothing_lost_nothing_doubled(store, people)
        store.close()
