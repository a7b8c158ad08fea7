"""Hostile text, foreign forms, SQL, long bodies, guesses: what they come to."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
import sqlalchemy as sa
import yaml
from starlette.testclient import TestClient
from study_cases import HOSTILE
from visits import BASE, action, client_of, csrf, enter

from pege.dialog import make_dialog
from pege.io import write_rows
from pege.study import tables
from pege.study.app import make_app
from pege.study.folder import create_study
from pege.study.raters import Links, exclude_rater, invite_raters
from pege.study.store import Store


@pytest.fixture
def store(make_store):
    return make_store()


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
