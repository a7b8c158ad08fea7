"""Agents without a model."""

from __future__ import annotations

import pytest

from pege.agent import load_agent
from pege.agent.trivial import happiest_words
from pege.dialog import Context, Utterance, make_dialog
from pege.errors import InputError
from pege.io import write_rows
from pege.lexicon import load_lexicon


def context(*texts):
    roles = ("user", "assistant")
    return Context(utterances=tuple(Utterance(role=roles[k % 2], content=t) for k, t in enumerate(texts)))


TALKS = [context("I am sad.", "Why?", "My dog ran away."), context("我今天很难过。")]


def test_a_parrot_says_what_was_said_last():
    assert load_agent("trivial:parrot").respond(TALKS) == ["My dog ran away.", "我今天很难过。"]


def test_the_cheerful_one_says_one_line_in_the_users_language():
    english, chinese = load_agent("trivial:cheerful").respond(TALKS)
    assert english.isascii()
    assert not chinese.isascii()
    assert load_agent("trivial:cheerful").respond(TALKS[:1], seed=5) == [english]


def test_the_happiest_words_have_the_largest_sums(lexicon_file):
    # happy 2.1, lovely 1.9, kind 1.9, dog 1.8
    assert happiest_words(load_lexicon(lexicon_file), 3) == ["happy", "lovely", "kind"]


def test_happy_words_are_of_the_lexicon_and_the_seed_repeats_them():
    agent = load_agent("trivial:happy-words")
    (said,) = agent.respond(TALKS[:1], seed=1)
    assert agent.respond(TALKS[:1], seed=1) == [said]
    assert agent.respond(TALKS[:1], seed=2) != [said]
    assert set(said.split()) <= set(happiest_words(load_lexicon("pege-en"), 50))


def test_a_random_response_is_a_real_one_of_the_same_language(tmp_path):
    write_rows(tmp_path / "rows.jsonl", [make_dialog(["hi", "real one", "hm", "real two"]).model_dump()])
    agent = load_agent(f"trivial:random#{tmp_path / 'rows.jsonl'}")
    assert set(agent.respond(TALKS[:1] * 20, seed=0)) == {"real one", "real two"}
    with pytest.raises(InputError, match="no response in zh"):
        agent.respond(TALKS[1:])


def test_what_is_no_trivial_agent_is_named():
    with pytest.raises(InputError, match=r"parrott.*did you mean"):
        load_agent("trivial:parrott")
    with pytest.raises(InputError, match="names no file"):
        load_agent("trivial:random")
