"""Hostile text, foreign forms, SQL, long bodies, guesses: what they come to."""

from __future__ import annotations

import csv
import io
import re
from html.parser import HTMLParser

import pytest
import sqlalchemy as sa
import yaml
from starlette.testclient import TestClient
from study_cases import HOSTILE
from visits import BASE, action, client_of, csrf, enter, fields

from pege.dialog import make_dialog
from pege.io import write_rows
from pege.metrics.ratings import read_ratings
from pege.study import tables
from pege.study.agreement import read_judgements
from pege.study.app import make_app
from pege.study.collect import collect_ratings, write_exports
from pege.study.folder import create_study
from pege.study.raters import Links, exclude_rater, invite_raters
from pege.study.rating import current_assignment
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


def test_behind_a_proxy_that_sends_another_host_forms_of_the_named_address_go_through(store):
    (rater,) = invite_raters(store, 1)
    app = make_app(store, base_url="https://study.example.org")
    client = enter(store, rater, client=TestClient(app, base_url="https://127.0.0.1:8080"))
    page = client.get("/rate").text
    data = {"csrf": csrf(page), "counter": "1", "a:guidance:0": "1"}
    for origin, status in (("https://study.example.org", 204), ("https://evil.example", 403), ("http://[", 403)):
        headers = {"origin": origin, "host": "127.0.0.1:8080"}
        assert client.post(f"{action(page)}/save", data=data, headers=headers).status_code == status


COMPARED = {"questions": [{"name": "best", "title": {"en": "B"}, "question": {"en": "Which?"}}], "allow_tie": True}


def test_the_source_of_a_comparison_tells_no_system_and_each_side_is_counted_for_its_own(make_store):
    store = make_store(metrics=[], comparison=COMPARED)
    questions, chosen = {}, {}
    for rater in invite_raters(store, 3):
        client = enter(store, rater)
        while (found := current_assignment(store, rater)) is not None:
            page = client.get("/rate").text
            questions.setdefault(re.sub(r"(?s).*(<fieldset.*</fieldset>).*", r"\1", page), set()).add(found.is_flipped)
            names = {str(len(s)): s for s in found.item.systems}
            left = names[re.search(r"kind (\d+)", page)[1]]
            chosen[rater.name, "/".join(found.item.systems), found.item.starter] = left
            client.post(action(page), data={"csrf": csrf(page), "a:best:0": "left"})
    assert list(questions.values()) == [{True, False}]  # one and the same markup, flipped or not
    rows = rows_of(store)
    assert {(r.rater, r.system, r.starter): r.value for r in rows} == chosen
    assert len({r.value for r in rows}) > 1


def test_a_question_of_a_pair_takes_no_system(make_store):
    store = make_store(metrics=[], comparison=COMPARED)
    (rater,) = invite_raters(store, 1)
    client = enter(store, rater)
    page = client.get("/rate").text
    for value in ("A", "B", "Aurora", ""):
        assert client.post(action(page), data={"csrf": csrf(page), "a:best:0": value}).status_code == 404


def test_a_text_that_a_spreadsheet_would_run_is_disarmed_in_csv_and_whole_elsewhere(tmp_path):
    bad = "=HYPERLINK(1)"
    for system in ("@good", "-bad"):
        write_rows(tmp_path / f"{system}.jsonl", [make_dialog(["hi", "ho"], id=bad, lang="en")])
    design = {"systems": {s: f"{s}.jsonl" for s in ("@good", "-bad")}, "n_dialogs": 1, "check_every": 0}
    (tmp_path / "d.yaml").write_text(yaml.safe_dump({**design, "comparison": COMPARED}))
    store = Store(create_study(tmp_path / "d.yaml", tmp_path / "study"))
    for rater in invite_raters(store, 2):
        client = enter(store, rater)
        while (found := current_assignment(store, rater)) is not None:
            client.post(f"/item/{found.id}", data={"csrf": csrf(client.get("/rate").text), **fields(store, found)})
    owner = client_of(store)
    owner.get(f"/o/{Links(store).owner_token()}")
    text = owner.get("/owner/export/ratings.csv").text
    cells = [c for row in csv.reader(io.StringIO(text)) for c in row]
    assert f"'{bad}" in cells
    assert "'@good" in cells
    assert not [c for c in cells if c.startswith(("=", "+", "-", "@"))]
    assert f'"starter": "{bad}"' in owner.get("/owner/export/ratings.jsonl").text
    write_exports(tmp_path / "out", store, {}, {})
    assert {r.id for r in read_ratings(tmp_path / "out" / "-bad.ratings.csv")} == {bad}  # as `pege report` matches them
    assert {j.item for j in read_judgements(tmp_path / "out" / "ratings.csv")} == {r.item for r in rows_of(store)}
    store.close()


def rows_of(store):
    with store.reading() as connection:
        return collect_ratings(store, connection)


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


def test_a_zero_character_reaches_no_database(store):
    (rater,) = invite_raters(store, 1)
    client, owner = enter(store, rater), client_of(store)
    page, token = client.get("/rate").text, csrf(owner.get(f"/o/{Links(store).owner_token()}").text)
    sent = []
    sa.event.listen(store.engine, "before_cursor_execute", lambda *given: sent.append(repr(given[3])))
    tried = [
        client.post(f"{action(page)}/save", data={"csrf": csrf(page), "counter": "1", "a:guidance:0": "\0"}),
        client.post("/language", data={"csrf": csrf(page), "language": "\0"}),
        owner.post(f"/owner/raters/{rater.name}/exclude", data={"csrf": token, "why": "a\0b"}),
        owner.post("/owner/raters/a%00b/exclude", data={"csrf": token, "why": "x"}),
        owner.get("/owner/raters/a%00b"),
        client.get("/r/a%00b"),
    ]
    assert [r.status_code for r in tried] == [422, 422, 422, 404, 404, 410]
    assert sent
    assert not [s for s in sent if "\\x00" in s]


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
