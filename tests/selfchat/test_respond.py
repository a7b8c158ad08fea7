"""Responses to real contexts: each sees what was really said, and the rows pair with their references."""

from __future__ import annotations

import pytest

from pege.dialog import Dialog, make_dialog
from pege.io import read_json, read_rows
from pege.metrics.text import bleu_table
from pege.selfchat import respond_to_dialogs

DIALOGS = [
    make_dialog(["i lost my job", "oh no", "yes", "what now", "no idea"], id="a", mood="low"),
    make_dialog(["we won", "great"], id="b"),
    make_dialog(["hello", "hi there", "bye"], id="c"),
]


class Recorder:
    """Gives back the last words of a context, and keeps what it was asked."""

    name = "recorder"

    def __init__(self, fail_after=None):
        self.asked, self.seeds, self.fail_after = [], [], fail_after

    def respond(self, contexts, *, seed=None):
        if self.fail_after is not None and len(self.seeds) >= self.fail_after:
            raise KeyboardInterrupt
        self.seeds.append(seed)
        self.asked += [tuple(u.content for u in c.utterances) for c in contexts]
        return [f"{c.utterances[-1].content}!" for c in contexts]


def test_each_response_follows_the_real_utterances(tmp_path):
    agent = Recorder()
    output = respond_to_dialogs(agent, DIALOGS, tmp_path / "r.jsonl")
    rows = list(read_rows(output, Dialog))
    assert [r.texts for r in rows] == [
        ["i lost my job", "i lost my job!", "yes", "yes!", "no idea"], ["we won", "we won!"], ["hello", "hello!", "bye"],
    ]  # fmt: skip
    assert ("i lost my job", "oh no", "yes") in agent.asked  # "oh no" is the real one
    assert [r.id for r in rows] == ["a", "b", "c"]
    assert rows[0].model_extra == {"mood": "low", "agent": "recorder"}
    assert read_json(tmp_path / "r.jsonl.run.json")["n_responses"] == 4
    assert bleu_table(rows, DIALOGS, language="en", n_resamples=10)["n_responses"] == 4


def test_a_stopped_run_goes_on_and_ends_with_the_same_bytes(tmp_path):
    whole = respond_to_dialogs(Recorder(), DIALOGS, tmp_path / "whole.jsonl", batch_size=1, seed=3)
    with pytest.raises(KeyboardInterrupt):
        respond_to_dialogs(Recorder(fail_after=2), DIALOGS, tmp_path / "cut.jsonl", batch_size=1, seed=3)
    again = Recorder()
    cut = respond_to_dialogs(again, DIALOGS, tmp_path / "cut.jsonl", batch_size=1, seed=3)
    assert cut.read_bytes() == whole.read_bytes()
    assert len(again.seeds) == 2  # the second and the third dialog: the first was done, the second was cut


def test_every_call_has_a_seed_of_its_own(tmp_path):
    agent = Recorder()
    respond_to_dialogs(agent, DIALOGS, tmp_path / "r.jsonl", batch_size=2, seed=3)
    assert len(set(agent.seeds)) == len(agent.seeds) == 3
