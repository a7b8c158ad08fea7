"""The pages: who sees what, and what hostile text, forged links, foreign forms and long bodies come to."""

from __future__ import annotations

import json
import re
import time
from html.parser import HTMLParser

import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
import yaml
from starlette.testclient import TestClient
from study_cases import HOSTILE, SYSTEMS

from pege.dialog import make_dialog
from pege.io import write_rows
from pege.study import tables
from pege.study.app import make_app
from pege.study.folder import create_study
from pege.study.raters import Links, exclude_rater, invite_raters, renew_link, revoke_link
from pege.study.rating import current_assignment, finish_item, questions_of
from pege.study.store import Store

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


# ---- attacks


def test_a_form_without_its_token_with_anothers_or_from_another_site_is_refused(store):
    mine, other = invite_raters(store, 2)
    client, foreign = enter(store, mine), enter(store, other)
    page, stolen = client.get("/rate").text, csrf(foreign.get("/rate").text)
    path = action(page)
    for token in ("", "x", stolen):
        for target in (path, f"{path}/save", "/language", "/withdraw"):
            data = {"csrf": token, "counter": "1", "a:guidance:0": "1", "sure": "yes", "language": "zh"}
            assert client.post(target, data=data).status_code == 403
    data = {"csrf": csrf(page), "counter": "1", "a:guidance:0": "1"}
    evil = {"origin": "https://evil.example"}
    assert client.post(f"{path}/save", data=data, headers=evil).status_code == 403
    assert client.post(f"{path}/save", data=data, headers={"origin": BASE}).status_code == 204


def test_no_page_changes_anything_by_get(store):
    (rater,) = invite_raters(store, 1)
    client = enter(store, rater)
    path = action(client.get("/rate").text)
    for target in (f"{path}/save", "/language", "/start"):
        assert client.get(target).status_code == 405


def attributes(text):
    """Names of all attributes of a page's elements."""
    found = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: found.extend(name for name, _ in attrs)
    parser.feed(text)
    return found


def test_hostile_dialogs_are_text_and_scripts_of_a_page_are_ours_alone(tmp_path):
    for system in ("Good", "Bad"):
        write_rows(
            tmp_path / f"{system}.jsonl", [make_dialog([HOSTILE, HOSTILE, "{{ 7 * 7 }}"], id="<b>x</b>", lang="en")]
        )
    (tmp_path / "d.yaml").write_text(
        yaml.safe_dump(
            {
                "title": {"en": HOSTILE},
                "systems": {s: f"{s}.jsonl" for s in ("Good", "Bad")},
                "n_dialogs": 1,
                "contact": HOSTILE,
            }
        )
    )
    store = Store(create_study(tmp_path / "d.yaml", tmp_path / "study"))
    (rater,) = invite_raters(store, 1)
    client = enter(store, rater)
    owner = client_of(store)
    owner.get(f"/o/{Links(store).owner_token()}")
    exclude_rater(store, rater.name, why=HOSTILE)
    pages = [client.get(p) for p in ("/consent", "/instructions", "/withdraw", "/nothing")]
    pages += [owner.get(p) for p in ("/owner", f"/owner/raters/{rater.name}")]
    (second,) = invite_raters(store, 1)
    pages.append(enter(store, second).get("/rate"))
    for page in pages:
        assert "<script>alert" not in page.text
        assert "<img src=x" not in page.text
        scripts = re.findall(r"<script[^>]*>", page.text)
        assert scripts == ['<script src="/static/htmx-2.0.11.min.js" defer>', '<script src="/static/study.js" defer>']
        assert not [a for a in attributes(page.text) if a.startswith("on")]
        policy = page.headers["content-security-policy"]
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
    assert "&lt;script&gt;alert(1)" in pages[-1].text
    assert "{{ 7 * 7 }}" in pages[-1].text  # never evaluated
    store.close()


def test_sql_in_every_field_is_a_value_like_any_other(store):
    (rater,) = invite_raters(store, 1)
    client = enter(store, rater)
    page = client.get("/rate").text
    attack = "1'); DROP TABLE answer; --"
    path = action(page)
    tried = [
        client.post(f"{path}/save", data={"csrf": csrf(page), "counter": "1", "a:guidance:0": attack}),
        client.post(f"{path}/save", data={"csrf": csrf(page), "counter": "1", f"a:{attack}:0": "1"}),
        client.post(f"{path}/save", data={"csrf": csrf(page), "counter": attack, "a:guidance:0": "1"}),
        client.post("/language", data={"csrf": csrf(page), "language": attack}),
        client.get("/item/1%20OR%201=1"),
        client.get("/r/x' OR '1'='1"),
    ]
    assert all(400 <= r.status_code < 500 for r in tried)
    owner = client_of(store)
    token = csrf(owner.get(f"/o/{Links(store).owner_token()}").text)
    why = owner.post(f"/owner/raters/{rater.name}/exclude", data={"csrf": token, "why": attack})
    assert why.status_code == 200
    assert owner.post("/owner/raters/x' OR '1'='1/delete", data={"csrf": token, "sure": "yes"}).status_code == 404
    with store.reading() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(tables.answer)) == 0
        assert connection.scalar(sa.select(tables.rater.c.excluded_why)) == attack


def test_a_long_body_is_refused_whatever_it_claims(store):
    (rater,) = invite_raters(store, 1)
    client = enter(store, rater)
    page = client.get("/rate").text
    big = {"csrf": csrf(page), "counter": "1", "a:guidance:0": "1" * 100_000}
    assert client.post(f"{action(page)}/save", data=big).status_code == 413
    chunks = (b"a" * 10_000 for _ in range(20))  # no content-length
    assert client.post("/consent", content=chunks).status_code == 413


def test_guessing_links_is_slowed_down_and_raters_are_not(store):
    (rater,) = invite_raters(store, 1)
    client = client_of(store)
    answers = [client.get(f"/r/guess{k}").status_code for k in range(15)]
    assert answers[:10] == [410] * 10
    assert set(answers[10:]) == {429}
    assert client.get(f"/r/{Links(store).rater_token(rater)}").status_code == 200


def test_requests_of_one_rater_are_limited_and_of_others_not(store):
    first, second = invite_raters(store, 2)
    app = client_of(store, per_minute=20)
    client = enter(store, first, client=app)
    answers = [client.get("/withdraw").status_code for _ in range(25)]
    assert answers[-1] == 429
    assert enter(store, second, client=client).get("/rate").status_code == 200


def test_other_host_names_are_refused(store):
    assert client_of(store).get("/health", headers={"host": "evil.example"}).status_code == 400


def test_cookies_are_for_no_script_and_for_tls_alone_where_there_is_tls(store):
    (rater,) = invite_raters(store, 1)
    for base, secure in ((BASE, False), ("https://study.example.org", True)):
        client = TestClient(make_app(store, base_url=base), base_url=base, follow_redirects=False)
        cookie = client.get(f"/r/{Links(store).rater_token(rater)}").headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=lax" in cookie
        assert ("secure" in cookie) is secure


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
