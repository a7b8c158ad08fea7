"""The web chat's requests, without a browser: keeping, isolation, forms, hostile text, export, sign-in, storage that fails."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
import time
from html.parser import HTMLParser

import httpx
import pytest
import sqlalchemy as sa
import yaml
from chat_person import Person, contents, events_of, on_disk
from chat_served import BASE, CRISES, HOSTILE, Says, app_of, form_token, served
from starlette.testclient import TestClient

from pege.dialog import Dialog
from pege.io import read_rows
from pege.safety import help_text
from pege.server.batching import ModelFailedError, QueueFullError
from pege.server.chat.site import PERSON_COOKIE

KEY = "a-key-of-the-server"


def test_a_response_is_streamed_with_what_is_shown_beside_each_utterance(store):
    agent = Says("I am so sorry. Tell me more about the dog.")
    events = Person(app_of(agent, store)).say("I lost my dog and I am so sad.")
    pieces = [found["text"] for name, found in events if name == "piece"]
    assert "".join(pieces) == "I am so sorry. Tell me more about the dog."
    name, done = events[-1]
    assert name == "done"
    first, last = done["shown"]
    assert first["emotion"]["negative"] == 0.8
    assert 0 < first["valence"] < 1
    assert last["stage"] == "empathy"
    assert last["weight"] == pytest.approx(0.906, abs=1e-3)  # 0.05 + 0.95 cos(pi / 7)
    assert agent.asked == [["I lost my dog and I am so sad."]]


def test_nothing_is_kept_unless_the_person_says_so(store):
    person = Person(app_of(Says(), store))
    events = person.say("a secret of mine")
    assert [name for name, _ in events if name in ("kept", "unkept")] == []
    assert store.find(person.client.cookies[PERSON_COOKIE]) == []
    assert b"a secret of mine" not in on_disk(store)


def test_a_kept_dialog_is_on_the_disk_before_the_model_is_asked_and_after_it_has_answered(store):
    person = Person(app_of(Says("I am here for you."), store))
    events = person.say("hello", keep=True)
    assert [name for name, _ in events if name != "piece"] == ["kept", "kept", "done"]
    assert events[0][0] == "kept"
    key = events[0][1]["key"]
    assert [found["version"] for name, found in events if name == "kept"] == [1, 2]
    assert contents(store, person, key) == ["hello", "I am here for you."]
    page = person.client.get(f"/dialog/{key}").text
    assert "I am here for you." in page
    assert 'aria-current="page"' in page


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_crisis_is_answered_by_fixed_text_and_guidance_stays_off(store, language):
    agent = Says()
    person = Person(app_of(agent, store))
    events = person.say(CRISES[language], keep=True)
    done = events[-1][1]
    assert done["text"] == help_text(language)
    assert (done["shown"][-1]["kind"], done["shown"][-1]["stage"]) == ("crisis", "off")
    assert agent.asked == []  # no model saw it
    kept = [found for name, found in events if name == "kept"][-1]
    later = person.say(CRISES[language], done["text"], "ok", keep=True, key=kept["key"], version=kept["version"])
    assert later[-1][1]["shown"][-1]["stage"] == "off"
    page = person.client.get(f"/dialog/{kept['key']}").text
    assert 'class="line agent crisis"' in page


def test_another_person_cannot_read_change_export_or_delete_a_dialog(store):
    app = app_of(Says(), store)
    mine, other = Person(app), Person(app)
    key = mine.say("mine alone", keep=True)[0][1]["key"]
    for path in (f"/dialog/{key}", f"/export/{key}.jsonl"):
        assert other.client.get(path).status_code == 404
    assert "mine alone" not in other.client.get("/dialogs").text + other.client.get("/export.jsonl").text
    assert other.change(f"/dialog/{key}/delete").status_code == 404
    assert other.change(f"/dialog/{key}/rename", name="x").status_code == 404
    assert other.change("/delete-all").status_code == 200
    events = other.say("taken over", keep=True, key=key, version=2)
    assert ("unkept", {"why": "deleted"}) in events  # it is told no more than of one that is gone
    assert contents(store, mine, key)[0] == "mine alone"
    assert mine.client.cookies[PERSON_COOKIE].encode() not in on_disk(store)  # only its hash


def test_requests_of_other_sites_and_without_the_token_are_refused(store):
    app = app_of(Says(), store)
    person, other = Person(app), Person(app)
    talk = {"said": [{"content": "hi"}]}
    for token in ("", "x", other.csrf, "\xe9"):
        answered = person.client.post("/respond", json=talk, headers={"x-csrf-token": token.encode("latin-1")})
        assert answered.status_code == 403
        for path in ("/settings", "/delete-all", "/dialog/x/delete", "/dialog/x/rename"):
            assert person.client.post(path, data={"csrf": token}).status_code == 403
    for path in ("/respond", "/keep"):
        assert person.post(path, talk, origin="https://evil.example").status_code == 403
        assert TestClient(app, base_url=BASE).post(path, json=talk).status_code == 403
    for path in ("/respond", "/delete-all", "/settings"):
        assert person.client.get(path).status_code == 405
    assert person.client.get("/", headers={"host": "evil.example"}).status_code == 400  # a name pointed at this machine


@pytest.mark.parametrize(
    "talk",
    [
        {}, {"said": []}, {"said": [{"content": " "}]}, {"said": [{"content": "a"}, {"content": "b"}]},
        {"said": [{"content": "a\0"}]}, {"said": [{"content": "\ud800"}]}, {"said": [{"content": "x" * 50_001}]},
        {"said": [{"content": "a"}], "version": 2**40}, {"said": [{"content": "a"}], "keep": True, "person": "x"},
        {"said": [{"content": "a", "shown": {"kind": "<b>"}}]}, {"said": [{"content": "a"}] * 201}, [], "x", None,
    ],
)  # fmt: skip
def test_a_talk_that_is_none_is_refused(store, talk):
    person = Person(app_of(Says(), store))
    headers = {"x-csrf-token": person.csrf, "content-type": "application/json"}
    assert person.client.post("/respond", content=json.dumps(talk), headers=headers).status_code == 422


def test_hostile_names_and_utterances_are_text(store):
    person = Person(app_of(Says(HOSTILE), store))
    key = person.say(HOSTILE, keep=True)[0][1]["key"]
    person.change(f"/dialog/{key}/rename", name=HOSTILE)
    pages = [person.client.get(p) for p in ("/", f"/dialog/{key}", "/dialogs", f"/dialogs?q={HOSTILE}")]
    found = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: found.append((tag, [name for name, _ in attrs]))
    for page in pages:
        assert "<script>alert" not in page.text
        assert "<img src=x" not in page.text
        parser.feed(page.text)
        assert "unsafe" not in page.headers["content-security-policy"]
    assert not [(t, n) for t, names in found for n in names if n.startswith("on")]
    scripts = re.findall(r"<script[^>]*>", pages[1].text)
    assert all(re.fullmatch(r'<script src="/static/[\w.-]+\.js" (defer|type="module")>', s) for s in scripts)
    assert "{{ 7 * 7 }}" in pages[1].text  # never evaluated
    assert person.change(f"/dialog/{key}/rename", name="a\0\ud7ff" + "x" * 500).status_code == 200
    assert len(store.find(person.client.cookies[PERSON_COOKIE])[0].name) == 120


def test_dialogs_are_found_by_all_words_in_any_case_also_with_wildcards(store):
    person = Person(app_of(Says("Yes."), store))
    for text in ("Ärger im Büro, 100% genug", "a walk by the sea", "我的狗丢了"):
        person.say(text, keep=True)

    def names(q):
        return re.findall(r"data-leaves[^>]*>([^<]+)</a>", person.client.get("/dialogs", params={"q": q}).text)

    assert names("ärger BÜRO") == ["Ärger im Büro, 100% genug"]
    assert names("100%") == ["Ärger im Büro, 100% genug"]
    assert names("%") == ["Ärger im Büro, 100% genug"]
    assert names("狗") == ["我的狗丢了"]
    assert names("sea Yes") == ["a walk by the sea"]
    assert names("' OR 1=1 --") == []
    assert len(names("")) == 3


def test_what_is_exported_is_read_and_built_by_the_corpus(store, tmp_path):
    person = Person(app_of(Says("I am so sorry, that is hard. What happened then?"), store))
    kept = person.say("I lost my job and I am very sad today.", keep=True)[0][1]
    person.say("我今天很难过，工作没了。", keep=True)
    path = tmp_path / "export.jsonl"
    answered = person.client.get("/export.jsonl")
    assert "attachment" in answered.headers["content-disposition"]
    path.write_bytes(answered.content)
    rows = list(read_rows(path, Dialog))
    assert [len(r.messages) for r in rows] == [2, 2]
    assert rows[0].id == kept["key"]
    assert rows[0].emotion.negative == 0.8
    assert rows[0].texts[0] == "I lost my job and I am very sad today."
    one = person.client.get(f"/export/{kept['key']}.jsonl").text
    assert Dialog.model_validate_json(one) == rows[0]


def test_a_deleted_dialog_is_gone_from_the_files(store):
    person = Person(app_of(Says("an answer to forget"), store))
    key = person.say("words to be forgotten", keep=True)[0][1]["key"]
    kept = person.say("words to stay", keep=True)[0][1]["key"]
    assert b"words to be forgotten" in on_disk(store)
    assert person.change(f"/dialog/{key}/delete").status_code == 200
    left = on_disk(store)
    for text in (b"words to be forgotten", key.encode()):
        assert text not in left
    assert b"words to stay" in left
    assert person.client.get(f"/dialog/{key}").status_code == 404
    assert person.client.get(f"/dialog/{kept}").status_code == 200
    person.change("/delete-all")
    assert b"words to stay" not in on_disk(store)
    assert b"an answer to forget" not in on_disk(store)


def test_what_an_edit_cuts_is_gone_from_the_files(store):
    person = Person(app_of(Says("Fine."), store))
    kept = [f for n, f in person.say("a walk by the sea", keep=True) if n == "kept"][-1]
    person.say("other words", keep=True, key=kept["key"], version=kept["version"])
    assert contents(store, person, kept["key"]) == ["other words", "Fine."]
    assert b"a walk by the sea" not in on_disk(store)  # neither in the name, which was taken from it


def test_an_older_window_never_wins(store):
    agent = Says("Fine.")
    person = Person(app_of(agent, store))
    kept = [f for n, f in person.say("first", keep=True) if n == "kept"][-1]
    person.say("first", "Fine.", "second", keep=True, key=kept["key"], version=kept["version"])
    assert person.say("older", keep=True, key=kept["key"], version=kept["version"]) == [("failed", {"why": "newer"})]
    assert contents(store, person, kept["key"]) == ["first", "Fine.", "second", "Fine."]
    assert len(agent.asked) == 2


@pytest.mark.parametrize(
    ("error", "why"), [(QueueFullError(), "busy"), (TimeoutError(), "slow"), (ModelFailedError("x"), "failed")]
)
def test_a_response_that_fails_is_told_and_the_question_is_kept(store, error, why):
    agent = Says()
    agent.error = error
    person = Person(app_of(agent, store))
    events = person.say("hello", keep=True)
    assert events[-1] == ("failed", {"why": why})
    assert contents(store, person, events[0][1]["key"]) == ["hello"]


def test_with_keys_the_chat_asks_for_one_and_help_does_not(store):
    app = app_of(Says(), store, key_hashes=(hashlib.sha256(KEY.encode()).hexdigest(),))
    client = TestClient(app, base_url=BASE)
    page = {"accept": "text/html"}
    assert client.get("/", headers=page, follow_redirects=False).headers["location"] == "/sign-in"
    for path in ("/dialogs", "/export.jsonl", "/dialog/x"):
        assert client.get(path).status_code == 401
    assert client.get("/help").status_code == 200
    csrf = form_token(client.get("/sign-in").text)
    talk = {"said": [{"content": "hi"}]}
    assert client.post("/respond", json=talk, headers={"x-csrf-token": csrf}).status_code == 401
    assert client.post("/sign-in", data={"csrf": csrf, "key": "wrong"}).status_code == 403
    answered = client.post("/sign-in", data={"csrf": csrf, "key": KEY}, follow_redirects=False)
    assert answered.status_code == 303
    assert "httponly" in answered.headers["set-cookie"].lower()
    assert KEY not in answered.headers["set-cookie"]
    assert client.post("/respond", json=talk, headers={"x-csrf-token": csrf}).status_code == 200
    client.post("/sign-out", data={"csrf": csrf})
    assert client.get("/dialogs").status_code == 401
    client.cookies.set("pege_key", "forged")
    assert client.get("/dialogs").status_code == 401


def signed_in(client):
    csrf = form_token(client.get("/sign-in").text)
    client.post("/sign-in", data={"csrf": csrf, "key": KEY}, follow_redirects=False)
    return {"x-csrf-token": csrf}


HASHES = (hashlib.sha256(KEY.encode()).hexdigest(),)
BEARER = {"authorization": f"Bearer {KEY}"}


def test_api_and_chat_count_the_requests_of_a_key_together(store):
    client = TestClient(app_of(Says(), store, key_hashes=HASHES, requests_per_minute=4), base_url=BASE)
    signed_in(client)
    assert [client.get("/v1/models", headers=BEARER).status_code for _ in range(2)] == [200, 200]
    assert [client.get("/dialogs").status_code for _ in range(3)] == [200, 200, 429]
    assert client.get("/v1/models", headers=BEARER).status_code == 429


def test_api_and_chat_share_the_places_of_a_key(store):
    says = Says("One. " * 200, "Fine. Now.", wait_s=0.01)
    with served(says, store, key_hashes=HASHES, max_per_key=1) as url, httpx.Client(base_url=url, timeout=20) as client:
        headers, talk = signed_in(client), {"said": [{"content": "hi"}]}
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
        with client.stream("POST", "/v1/chat/completions", json=body, headers=BEARER) as answer:
            lines = answer.iter_lines()
            next(lines)
            assert events_of(client.post("/respond", json=talk, headers=headers).text) == [("failed", {"why": "busy"})]
            refused = client.post("/v1/chat/completions", json=body, headers=BEARER)
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        while says.n_given_up == 0:  # who left has freed the place
            time.sleep(0.01)
        assert events_of(client.post("/respond", json=talk, headers=headers).text)[-1][0] == "done"


def test_cookies_are_for_this_server_alone(store):
    client = TestClient(app_of(Says(), store), base_url=BASE)
    first = client.get("/").headers["set-cookie"].lower()
    assert "httponly" in first
    assert "samesite=lax" in first
    assert "max-age" not in first  # nothing is kept yet: until the browser ends
    person = Person(app_of(Says(), store))
    talk = {"said": [{"content": "hi"}], "keep": True}
    assert "max-age" in person.post("/respond", talk).headers["set-cookie"].lower()


def test_pages_are_in_the_browsers_language_until_the_switch(store):
    person = Person(app_of(Says(), store))
    for wanted, heading in (("zh-CN,en;q=0.5", "你在想什么"), ("en-GB", "What is on your mind"), ("fr", "What is on")):
        assert heading in person.client.get("/", headers={"accept-language": wanted}).text
    person.change("/settings", language="zh")
    person.change("/settings", theme="dark", trajectory="hidden")
    page = person.client.get("/", headers={"accept-language": "en"}).text
    assert '<html lang="zh-CN" data-theme="dark">' in page
    assert "no-mood" in page
    person.change("/settings", language="<script>")
    assert "<script>" not in person.client.get("/").text.split("</head>")[1]


def test_all_words_are_there_in_both_languages():
    from pege.server.chat import pages

    assert pages.words("en").keys() == pages.words("zh").keys()
    text = yaml.safe_dump(pages.words("zh"), allow_unicode=True)
    assert "{days}" in text


def test_where_the_database_fails_the_chat_goes_on_and_says_so(store, tmp_path):
    person = Person(app_of(Says("I am here."), store))
    kept = [f for n, f in person.say("hello", keep=True) if n == "kept"][-1]
    (tmp_path / "chat.db").rename(
        tmp_path / "away.db"
    )  # an open file could still be written to, and nobody would find it
    said = ("hello", "I am here.", "are you there?")
    events = person.say(*said, keep=True, key=kept["key"], version=kept["version"])
    assert ("unkept", {"why": "gone"}) in events
    assert not [f for n, f in events if n == "kept"]
    assert events[-1][1]["text"] == "I am here."
    page = person.client.get("/")
    assert page.status_code == 200
    assert "cannot be read right now" in page.text
    assert person.client.get(f"/dialog/{kept['key']}").status_code == 503
    assert person.change(f"/dialog/{kept['key']}/delete").status_code == 503  # never said to be deleted when it is not
    assert not (tmp_path / "chat.db").exists()
    (tmp_path / "away.db").rename(tmp_path / "chat.db")
    events = person.say(*said, keep=True, key=kept["key"], version=kept["version"])
    assert [f["version"] for n, f in events if n == "kept"] == [3, 4]
    assert contents(store, person, kept["key"]) == [*said, "I am here."]


def test_on_a_full_disk_the_chat_goes_on_says_so_and_loses_nothing(store):
    person = Person(app_of(Says("I am here."), store))
    kept = [f for n, f in person.say("hello", keep=True) if n == "kept"][-1]
    with store.engine.connect() as connection:
        used = connection.exec_driver_sql("PRAGMA page_count").scalar()
    store.engine.dispose()

    def fill(connection, record):
        connection.execute(f"PRAGMA max_page_count={used}")

    sa.event.listen(store.engine, "connect", fill)
    long = "x" * 20_000
    events = person.say("hello", "I am here.", long, keep=True, key=kept["key"], version=kept["version"])
    assert ("unkept", {"why": "gone"}) in events
    assert events[-1][1]["text"] == "I am here."
    assert contents(store, person, kept["key"]) == ["hello", "I am here."]
    sa.event.remove(store.engine, "connect", fill)
    store.engine.dispose()
    events = person.say("hello", "I am here.", long, keep=True, key=kept["key"], version=kept["version"])
    assert contents(store, person, kept["key"]) == ["hello", "I am here.", long, "I am here."]


def test_the_database_is_its_owners_alone_and_has_no_column_for_a_name_or_an_address(store, tmp_path):
    assert (tmp_path / "chat.db").stat().st_mode & 0o077 == 0
    with sqlite3.connect(tmp_path / "chat.db") as connection:
        columns = {r[1] for t in ("dialog", "utterance") for r in connection.execute(f"PRAGMA table_info({t})")}
    connection.close()
    assert columns == {"id", "key", "person", "name", "version", "created_at", "changed_at", "had_crisis", "dialog_id",
                       "place", "content", "shown"}  # fmt: skip
