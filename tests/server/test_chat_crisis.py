"""A crisis that is edited away: guidance stays off for the rest of the dialog, whatever page, reload or database."""

from __future__ import annotations

import sqlite3

import pytest
from chat_person import Person, contents, last_of, on_disk
from chat_served import BASE, CRISES, Says, app_of, database_of
from starlette.testclient import TestClient

from pege.safety import help_text
from pege.server.chat.site import PERSON_COOKIE
from pege.server.chat.store import Store
from pege.server.chat.talk import Said, Shown

CALM = "I went for a walk today."


class Listens(Says):
    """Can support, and keeps whether it was to do only that."""

    can_support = True

    async def stream(self, context, settings):
        self.supportive = [*getattr(self, "supportive", []), context.is_supportive]
        async for piece in super().stream(context, settings):
            yield piece


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_page_is_told_of_a_crisis_and_what_it_says_from_then_on_is_heeded(store, language):
    agent = Listens("I am with you.")
    person = Person(app_of(agent, store))
    names = [name for name, _ in person.say(CRISES[language])]
    assert names == ["crisis", "piece", "done"]
    events = person.say(CALM, had_crisis=True)  # edited
    assert last_of(events, "done")["shown"][-1]["stage"] == "off"
    assert last_of(events, "crisis") == {}
    assert agent.supportive == [True]
    events = person.say(CALM)  # another dialog
    assert last_of(events, "done")["shown"][-1]["stage"] == "empathy"
    assert "crisis" not in [name for name, _ in events]
    assert agent.supportive == [True, False]


def test_who_cannot_support_is_not_asked_after_a_crisis_that_was_edited_away(store):
    agent = Says("Cheer up!")
    done = last_of(Person(app_of(agent, store)).say(CALM, had_crisis=True), "done")
    assert done["text"] == help_text("en")
    assert agent.asked == []


def test_a_page_that_says_there_was_none_is_not_believed_against_the_utterances(store):
    person = Person(app_of(Says(), store))
    events = person.say(CRISES["en"], "Please call someone.", "ok", had_crisis=False)
    assert last_of(events, "done")["shown"][-1]["stage"] == "off"


def test_a_kept_dialog_remembers_a_crisis_whose_words_are_gone(store):
    agent = Listens("I am with you.")
    person = Person(app_of(agent, store))
    kept = last_of(person.say(CRISES["en"], keep=True), "kept")
    for _ in range(2):  # also where the page has forgotten
        said = {"keep": True, "key": kept["key"], "version": kept["version"], "had_crisis": False}
        events = person.say(CALM, **said)
        assert last_of(events, "done")["shown"][-1]["stage"] == "off"
        kept = last_of(events, "kept")
    assert agent.supportive == [True, True]
    assert contents(store, person, kept["key"])[0] == CALM
    assert CRISES["en"].encode() not in on_disk(store)
    assert 'data-crisis="yes"' in person.client.get(f"/dialog/{kept['key']}").text
    assert 'data-crisis="no"' in person.client.get("/").text


def test_a_crisis_is_kept_where_keeping_begins_after_it(store):
    person = Person(app_of(Says("I am with you."), store))
    talk = {"said": [{"content": CALM}, {"content": "I see."}], "keep": True, "had_crisis": True}
    key = person.post("/keep", talk).json()["key"]
    assert store.load(person.client.cookies[PERSON_COOKIE], key)[0].had_crisis


def test_a_dialog_that_was_kept_before_there_was_the_column_shows_its_crisis(store, tmp_path):
    secret = "s" * 43
    fixed = Said(content="Please call.", shown=Shown(kind="crisis", stage="off"))
    key = store.save(secret, [Said(content="words of danger"), fixed]).key
    store.close()
    with sqlite3.connect(tmp_path / "chat.db") as connection:
        connection.execute("ALTER TABLE dialog DROP COLUMN had_crisis")
        connection.execute("UPDATE pege_chat_version SET version_num = '0001'")
    connection.close()
    again = Store(database_of(tmp_path))
    client = TestClient(app_of(Says(), again), base_url=BASE, cookies={PERSON_COOKIE: secret})
    assert 'data-crisis="yes"' in client.get(f"/dialog/{key}").text
    again.close()


def test_a_check_that_failed_once_is_no_crisis(store, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no weights")

    person = Person(app_of(Listens("I am with you."), store))
    with monkeypatch.context() as patch:
        patch.setattr("pege.agent.guarded.judge_dialog", broken)
        events = person.say(CALM)
    assert last_of(events, "done")["text"] == help_text("en")
    assert last_of(events, "done")["shown"][-1]["kind"] == "refused"
    assert "crisis" not in [name for name, _ in events]
