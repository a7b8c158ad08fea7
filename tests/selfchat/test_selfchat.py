"""Self-chat: roles, seeds, and going on after a stop."""

from __future__ import annotations

import contextlib
import json
import zlib

import numpy as np
import pytest

from pege.dialog import Dialog
from pege.errors import InputError
from pege.io import read_json, read_rows
from pege.selfchat import consoling_share, is_done, load_starters, pick_starters, play_dialogs, run_selfchat
from pege.selfchat.starters import starter_emotion


class Echo:
    """Answers with its name, the length of the context and the seed."""

    def __init__(self, name, *, fail_after=None):
        self.name, self.fail_after, self.n_calls = name, fail_after, 0

    def respond(self, contexts, *, seed=None):
        self.n_calls += 1
        if self.fail_after is not None and self.n_calls > self.fail_after:
            raise KeyboardInterrupt
        return [
            f"{self.name} {len(c.utterances)} {seed} {zlib.crc32(c.utterances[0].content.encode())}" for c in contexts
        ]


def test_agent_and_user_take_turns_from_the_starter_on():
    (dialog,) = play_dialogs(Echo("agent"), Echo("user"), load_starters("en")[:1], n_turns=3, seed=0)
    assert [t.split()[0] for t in dialog.texts[1:]] == ["agent", "user", "agent", "user", "agent"]
    assert dialog.model_extra["starter_emotion"] == "negative"
    assert Dialog.model_validate(dialog.model_dump()) == dialog


def test_the_seed_decides():
    starters = load_starters("zh")[:2]
    play = lambda seed: play_dialogs(Echo("a"), Echo("u"), starters, n_turns=2, seed=seed)  # noqa: E731
    assert play(0) == play(0)
    assert play(0) != play(1)


def test_a_stopped_self_chat_goes_on_and_ends_with_the_same_bytes(tmp_path):
    starters = load_starters("en")[:7]
    settings = {"n_turns": 2, "seed": 1, "batch_size": 2}
    whole = run_selfchat(Echo("a"), Echo("u"), starters, tmp_path / "whole.jsonl", **settings)
    output = tmp_path / "stopped.jsonl"
    with pytest.raises(KeyboardInterrupt):
        run_selfchat(Echo("a", fail_after=5), Echo("u"), starters, output, **settings)
    part = tmp_path / "stopped.jsonl.part"
    assert not output.exists()
    part.write_text(part.read_text() + '{"id": "half')  # as a kill in the middle of a line leaves it
    agent = Echo("a")
    run_selfchat(agent, Echo("u"), starters, output, **settings)
    assert output.read_bytes() == whole.read_bytes()
    assert agent.n_calls < 8
    assert not part.exists()
    about = read_json(tmp_path / "stopped.jsonl.run.json")
    assert about["consoling_share"] == 0
    assert about["n_crisis_utterances"] == 0


def test_a_part_of_other_settings_is_refused(tmp_path):
    starters = load_starters("en")[:4]
    with pytest.raises(KeyboardInterrupt):
        run_selfchat(Echo("a", fail_after=3), Echo("u"), starters, tmp_path / "x.jsonl", n_turns=2, batch_size=2)
    with pytest.raises(InputError, match="another seed"):
        run_selfchat(Echo("a"), Echo("u"), starters, tmp_path / "x.jsonl", n_turns=2, batch_size=2, seed=9)


def test_a_self_chat_that_is_done_is_left_alone_and_one_of_other_settings_is_refused(tmp_path):
    starters, output = load_starters("en")[:2], tmp_path / "x.jsonl"
    settings = {"n_turns": 2, "settings": {"generation": {"top_k": 5}}}
    run_selfchat(Echo("a"), Echo("u"), starters, output, **settings)
    agent = Echo("a")
    assert run_selfchat(agent, Echo("u"), starters, output, **settings) == output
    assert agent.n_calls == 0
    with pytest.raises(InputError, match="was made with another agent;"):
        run_selfchat(Echo("b"), Echo("u"), starters, output, **settings)
    with pytest.raises(InputError, match="another seed, top_k;"):
        run_selfchat(Echo("a"), Echo("u"), starters, output, n_turns=2, seed=1, settings={"generation": {}})


def test_a_file_that_is_no_self_chat_is_never_taken_for_one(tmp_path):
    (tmp_path / "chats.jsonl").write_text("{}")
    with pytest.raises(InputError, match="not of this command"):
        is_done(tmp_path / "chats.jsonl", {})
    for name in ("x.jsonl.gz", "x", "."):
        with pytest.raises(InputError, match="is no"):
            is_done(tmp_path / name, {})


def test_a_start_that_failed_before_its_first_dialog_stands_in_nobodys_way(tmp_path):
    starters = load_starters("en")[:2]
    with pytest.raises(KeyboardInterrupt):
        run_selfchat(Echo("a", fail_after=0), Echo("u"), starters, tmp_path / "x.jsonl", n_turns=2)
    assert run_selfchat(Echo("a"), Echo("u"), starters, tmp_path / "x.jsonl", n_turns=3).is_file()


def test_a_starter_with_a_line_separator_of_its_own_goes_on_after_a_stop(tmp_path):
    starter = load_starters("en")[0]
    said = starter.messages[0].model_copy(update={"content": "sad\u2028so sad"})
    starters = [starter.model_copy(update={"messages": (said,)})] * 2
    with pytest.raises(KeyboardInterrupt):
        run_selfchat(Echo("a", fail_after=1), Echo("u"), starters, tmp_path / "x.jsonl", n_turns=1, batch_size=1)
    run_selfchat(Echo("a"), Echo("u"), starters, tmp_path / "x.jsonl", n_turns=1, batch_size=1)
    assert [r.texts[0] for r in read_rows(tmp_path / "x.jsonl", Dialog)] == ["sad\u2028so sad"] * 2


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_there_are_a_hundred_starters_of_a_language(lang):
    rows = load_starters(lang)
    classes = [starter_emotion(r) for r in rows]
    assert [classes.count(c) for c in ("negative", "neutral", "positive")] == [33, 34, 33]
    assert len({r.texts[0] for r in rows}) == 100
    assert {r.lang for r in rows} == {lang}


def test_starters_are_picked_evenly_and_by_seed():
    rows = load_starters("en")
    picked = pick_starters(rows, 30, np.random.default_rng(0))
    assert sorted(starter_emotion(r) for r in picked) == sorted(["negative", "neutral", "positive"] * 10)
    assert picked == pick_starters(rows, 30, np.random.default_rng(0))
    with pytest.raises(InputError, match="101 starters"):
        pick_starters(rows, 101, np.random.default_rng(0))


def test_a_user_who_consoles_the_agent_is_counted(tmp_path):
    rows = [{"id": "1", "lang": "en", "messages": [{"role": r, "content": c} for r, c in (
        ("user", "I'm so sorry to hear that"), ("assistant", "x"), ("user", "I'm so sorry to hear that."),
        ("assistant", "y"), ("user", "I went home."))]}]  # fmt: skip
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(rows[0]))
    assert consoling_share(list(read_rows(path, Dialog))) == 0.5


def test_workers_on_ray_say_what_one_process_says_and_go_on_after_a_stop(tmp_path):
    pytest.importorskip("ray")
    from pege.cli import main

    def play(name, *more):
        flags = ["--agent", "trivial:parrot", "--user", "trivial:cheerful", "--turns", "2", "--n-starters", "7"]
        with contextlib.suppress(SystemExit):
            main(["selfchat", *flags, "--batch-size", "2", "--output", str(tmp_path / name), *more])
        return (tmp_path / name).read_bytes()

    here = play("here.jsonl")
    lines = here.splitlines(keepends=True)
    assert len(lines) == 7
    about = read_json(tmp_path / "here.jsonl.run.json")
    (tmp_path / "ray.jsonl.part").write_bytes(b"".join(lines[:3]))  # a batch and a half
    (tmp_path / "ray.jsonl.run.json").write_text(json.dumps({k: about[k] for k in about if k != "consoling_share"}))
    assert play("ray.jsonl", "--runner", "ray", "--workers", "2") == here
    again = read_json(tmp_path / "ray.jsonl.run.json")
    assert again["consoling_share"] == about["consoling_share"]
