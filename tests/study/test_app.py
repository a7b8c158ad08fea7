"""The pages: who sees what, and when."""

from __future__ import annotations

import json
import re
import time

import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from study_cases import SYSTEMS
from visits import BASE, action, client_of, csrf, enter, fields

from pege.study import tables
from pege.study.raters import Links, exclude_rater, invite_raters, renew_link, renew_owner_link, revoke_link
from pege.study.rating import current_assignment, finish_item, questions_of


@pytest.fixture
def store(make_store):
    return make_store()


def test_a_link_leads_through_consent_instructions_and_practice_to_rating(store):
    (rater,) = invite_raters(store, 1)
    client = client_of(store)
    page = client.get(f"/r/{Links(store).rater_token(rater)}")
    assert page.url.path == "/consent"
    assert client.get("/rate").url.path == "/consent"
    refused = client.post("/consent", data={"csrf": csrf(page.text)})
    assert refused.status_code == 422
    assert "Tick the box" in refused.text
    page = client.post("/consent", data={"csrf": csrf(page.text), "agree": "yes"})
    assert page.url.path == "/instructions"
    assert client.get("/rate").url.path == "/instructions"
    page = client.get("/practice")
    page = client.post("/practice", data={"csrf": csrf(page.text), "a:guidance:0": "0"})
    assert "how we would have answered" in page.text
    page = client.post("/start", data={"csrf": csrf(page.text)})
    assert page.url.path == "/rate"
    assert "Conversation 1" in page.text
    with store.reading() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(tables.answer)) == 0  # practice does not count


def test_system_names_are_never_shown(store):
    (rater,) = invite_raters(store, 1)
    client = enter(store, rater)
    for _ in range(12):
        page = client.get("/rate")
        assert not [s for s in SYSTEMS if s.lower() in page.text.lower()]
        found = current_assignment(store, rater)
        page = client.post(f"/item/{found.id}", data={"csrf": csrf(page.text), **fields(store, found)})
    assert "Thank you" in page.text


def test_an_answer_is_saved_as_it_is_given_and_stands_on_the_page_that_comes_back(store):
    (rater,) = invite_raters(store, 1)
    client = enter(store, rater)
    page = client.get("/rate")
    saved = client.post(
        f"{action(page.text)}/save", data={"csrf": csrf(page.text), "counter": "1", "a:coherence:1": "0"}
    )
    assert saved.status_code == 204
    fresh = enter(store, rater, until="consent")  # another device, the same link
    assert re.search(r'name="a:coherence:1" value="0" data-key="0" checked', fresh.get("/rate").text)


def test_an_unfinished_page_says_what_is_missing_and_keeps_what_was_given(store):
    (rater,) = invite_raters(store, 1)
    client = enter(store, rater)
    page = client.get("/rate")
    page = client.post(action(page.text), data={"csrf": csrf(page.text), "a:guidance:0": "0"})
    assert page.status_code == 422
    assert "still open" in page.text
    assert page.text.count("ask missing") == 4  # two places, coherence and informativeness; empathy is not asked


def test_a_rater_can_go_back_and_change_an_answer(store):
    (rater,) = invite_raters(store, 1)
    client = enter(store, rater)
    page = client.get("/rate")
    first = current_assignment(store, rater)
    page = client.post(f"/item/{first.id}", data={"csrf": csrf(page.text), **fields(store, first)})
    back = re.search(r'href="(/item/\d+)"', page.text)[1]
    assert back == f"/item/{first.id}"
    page = client.get(back)
    client.post(back, data={"csrf": csrf(page.text), **fields(store, first), "a:coherence:1": "0"})
    with store.reading() as connection:
        values = connection.execute(
            sa.select(tables.answer.c.value).where(tables.answer.c.metric == "coherence", tables.answer.c.place == 1)
        ).all()
    assert values == [("0",)]


# ---- links and sessions


def test_forged_foreign_and_guessed_links_open_nothing(store, tmp_path):
    (rater,) = invite_raters(store, 1)
    token = Links(store).rater_token(rater)
    client = client_of(store)
    body, _, signature = token.rpartition(".")
    for bad in (
        "x",
        "1",
        body,
        f"{body}.{signature[:-2]}xx",
        f"{body[:-3]}AAA.{signature}",
        Links(store).owner_token(),
    ):
        assert client.get(f"/r/{bad}").status_code == 410
    assert client.get("/rate").status_code == 401
    client.cookies.set("pege_rater", f"{body}.{signature[:-2]}xx")
    assert client.get("/rate").status_code == 401


def test_an_expired_link_opens_nothing_and_ends_its_session(store, monkeypatch):
    (rater,) = invite_raters(store, 1, days=1)
    client = enter(store, rater)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 86_300)
    assert client.get("/rate").status_code == 200
    monkeypatch.setattr(time, "time", lambda: now + 86_500)
    assert client.get("/rate").status_code == 401
    assert client.get(f"/r/{Links(store).rater_token(rater)}").status_code == 410


def test_revoking_ends_the_session_and_keeps_the_answers(store):
    (rater,) = invite_raters(store, 1)
    client = enter(store, rater)
    page = client.get("/rate")
    client.post(f"{action(page.text)}/save", data={"csrf": csrf(page.text), "counter": "1", "a:coherence:1": "0"})
    revoke_link(store, rater.name)
    assert client.get("/rate").status_code == 401
    assert client.get(f"/r/{Links(store).rater_token(rater)}").status_code == 410
    new = renew_link(store, rater.name)
    assert client.get(f"/r/{Links(store).rater_token(rater)}").status_code == 410  # the old one stays dead
    assert re.search(r'value="0" data-key="0" checked', enter(store, new, until="consent").get("/rate").text)


def test_a_rater_cannot_read_or_write_anothers_item(store):
    mine, other = invite_raters(store, 2)
    page = enter(store, mine).get("/rate")
    client = enter(store, other)
    token = csrf(client.get("/rate").text)
    assert client.get(action(page.text)).status_code == 404
    for path in (action(page.text), f"{action(page.text)}/save"):
        answered = client.post(path, data={"csrf": token, "counter": "1", "a:guidance:0": "1"})
        assert answered.status_code == 404


def test_an_excluded_rater_is_thanked_and_gets_nothing_more(store):
    (rater,) = invite_raters(store, 1)
    client = enter(store, rater)
    page = client.get("/rate")
    exclude_rater(store, rater.name, why="test")
    assert "closed for you" in client.get("/rate").text
    assert client.post(action(page.text), data={"csrf": csrf(page.text)}).status_code == 403


def test_a_rater_can_delete_all_answers(store):
    (rater,) = invite_raters(store, 1)
    client = enter(store, rater)
    found = current_assignment(store, rater)
    finish_item(store, rater, found.id, {("guidance", 0): "1"})
    page = client.get("/withdraw")
    assert client.post("/withdraw", data={"csrf": csrf(page.text)}).url.path == "/withdraw"  # not sure: nothing happens
    assert "are deleted" in client.post("/withdraw", data={"csrf": csrf(page.text), "sure": "yes"}).text
    assert client.get("/rate").status_code == 401
    with store.reading() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(tables.answer)) == 0


def test_renewing_the_owners_link_ends_all_links_and_sessions_of_the_owner_alone(store):
    (rater,) = invite_raters(store, 1)
    client, owner, old = enter(store, rater), client_of(store), Links(store).owner_token()
    assert owner.get(f"/o/{old}").url.path == "/owner"
    renew_owner_link(store)
    assert owner.get("/owner").status_code == 401
    assert owner.get(f"/o/{old}").status_code == 410
    assert owner.get(f"/o/{Links(store).owner_token()}").url.path == "/owner"
    assert client.get("/rate").status_code == 200


def test_the_owners_link_expires(store, monkeypatch):
    owner, token, now = client_of(store), Links(store).owner_token(), time.time()
    assert owner.get(f"/o/{token}").url.path == "/owner"
    monkeypatch.setattr(time, "time", lambda: now + 31 * 86_400)
    assert owner.get("/owner").status_code == 401
    assert owner.get(f"/o/{token}").status_code == 410


# ---- the owner


@pytest.fixture
def rated(store):
    """A store with two raters' finished items, and a client of the owner."""
    for rater in invite_raters(store, 2):
        while (found := current_assignment(store, rater)) is not None:
            answers = {q: values[-1] for q, values in questions_of(store.study.design, found.item).items()}
            finish_item(store, rater, found.id, answers)
    owner = client_of(store)
    assert owner.get(f"/o/{Links(store).owner_token()}").url.path == "/owner"
    return store, owner


def test_the_owner_sees_progress_and_a_rater_does_not(rated):
    store, owner = rated
    page = owner.get("/owner").text
    assert "24 of 36 ratings" in page
    assert "r00001" in page
    assert "100 %" in page
    (rater,) = invite_raters(store, 1)
    client = enter(store, rater)
    for path in ("/owner", "/owner/raters/r00001", "/owner/export/ratings.csv"):
        assert client.get(path).status_code == 401
    client.cookies.set("pege_owner", Links(store).rater_token(rater), path="/owner")
    assert client.get("/owner").status_code == 401


def test_the_owner_excludes_includes_revokes_and_deletes(rated):
    _, owner = rated
    token = csrf(owner.get("/owner").text)

    def act(name, **data):
        return owner.post(f"/owner/raters/r00001/{name}", data={"csrf": token, **data})

    assert "excluded (at random)" in act("exclude", why="at random").text
    assert "12 of 36 ratings" in owner.get("/owner").text
    act("include")
    assert "24 of 36 ratings" in owner.get("/owner").text
    assert "link revoked" in act("revoke").text
    assert act("delete").status_code == 404  # not sure
    assert "r00001" not in act("delete", sure="yes").text
    assert act("nonsense").status_code == 404
    assert owner.post("/owner/raters/r00002/exclude", data={"csrf": "x", "why": "y"}).status_code == 403


def test_exports_hold_all_ratings_with_where_they_come_from(rated, tmp_path):
    _, owner = rated
    csv_text = owner.get("/owner/export/ratings.csv").text
    rows = [json.loads(line) for line in owner.get("/owner/export/ratings.jsonl").text.splitlines()]
    (tmp_path / "r.parquet").write_bytes(owner.get("/owner/export/ratings.parquet").content)
    table = pq.read_table(tmp_path / "r.parquet")
    about = owner.get("/owner/export/provenance.json").json()
    n = 2 * 12 * (2 * 2 + 2)
    assert len(rows) == table.num_rows == len(csv_text.splitlines()) - 1 == about["n_ratings"] == n
    assert csv_text.splitlines()[0].startswith("item,rater,metric,value,system,starter")
    assert table.to_pylist() == rows
    assert json.loads(table.schema.metadata[b"pege.provenance"])["ratings_sha256"] == about["ratings_sha256"]
    assert set(about["systems"]) == set(SYSTEMS)
    assert owner.get("/owner/export/study.db").status_code == 404
    assert owner.get("/owner/export/..%2Fsecret").status_code == 404


def test_both_languages_are_there_and_can_be_switched(store):
    (rater,) = invite_raters(store, 1)
    client = enter(store, rater)
    page = client.get("/rate")
    page = client.post(
        "/language", data={"csrf": csrf(page.text), "language": "zh"}, headers={"referer": f"{BASE}/rate"}
    )
    assert page.url.path == "/rate"
    assert '<html lang="zh">' in page.text
    assert "连贯" in page.text
    away = client.post(
        "/language", data={"csrf": csrf(page.text), "language": "en"}, headers={"referer": "https://evil.example//evil"}
    )
    assert str(away.url).startswith(BASE)
