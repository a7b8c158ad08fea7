"""Pairs of responses and their reward, and a run trained on them."""

from __future__ import annotations

import json

import pytest
import torch

from pege.agent import load_agent
from pege.cli import main
from pege.dialog import Emotion, Utterance, make_dialog
from pege.lexicon import load_lexicon
from pege.metrics import score_dialogs
from pege.models.causal import MAP_FILE
from pege.models.trim import trim_model
from pege.selfchat.pairs import Pair, read_pairs, run_pairs, turn_reward

SAD = Emotion(negative=0.9, neutral=0.08, positive=0.02)


class Script:
    """Says one of two lines, by the seed's parity, and keeps what it was asked."""

    def __init__(self, name, lines):
        self.name, self.lines, self.n_calls = name, lines, 0

    def respond(self, contexts, *, seed=None):
        self.n_calls += 1
        return [self.lines[self.n_calls % 2]] * len(contexts)


class Echo:
    """A user that answers happily to happy words."""

    name = "echo"

    def respond(self, contexts, *, seed=None):
        return ["happy" if "lovely" in c.utterances[-1].content else "sad" for c in contexts]


@pytest.fixture
def lexicon(lexicon_file):
    return load_lexicon(lexicon_file)


def talk(*texts):
    return [Utterance(role=("user", "assistant")[k % 2], content=t) for k, t in enumerate(texts)]


def test_the_rewards_of_all_turns_are_the_sums_of_the_score(lexicon):
    texts = ["sad dog", "lost", "sad", "happy sea", "kind", "lovely", "happy dog", "sea"]  # 4 turns: halves of 2
    rewards = [turn_reward(talk(*texts[: 2 * t + 3]), lexicon, n_turns=4) for t in range(3)]
    vad = {w: lexicon.vad(w) for w in ("happy", "dog", "kind", "lost", "sea", "sad")}
    first = (vad["sad"] + vad["dog"]) / 2
    empathy = [abs(first - vad["lost"]).sum(), abs(first - (vad["happy"] + vad["sea"]) / 2).sum()]
    ends = [(vad["kind"] - lexicon.mean).sum(), ((vad["happy"] + vad["dog"]) / 2 - lexicon.mean).sum()]
    assert rewards == pytest.approx([-empathy[0], ends[0] - empathy[1], ends[1]])
    (score,) = score_dialogs([make_dialog(texts, lang="en")], lexicon)
    assert score.peg == pytest.approx(sum(ends) / 2)


def test_the_dialog_goes_on_with_the_better_response(lexicon, tmp_path):
    agent = Script("script", ["lovely day", "lost and sad"])
    starters = [make_dialog(["I am kind"], id="s0", lang="en", emotion=SAD)]
    run_pairs(agent, Echo(), starters, lexicon, tmp_path / "pairs.jsonl", n_turns=4, seed=0)
    pairs = read_pairs(tmp_path / "pairs.jsonl")
    assert len(pairs) == 3
    assert all(p.reward_chosen > p.reward_rejected for p in pairs)
    assert {(p.chosen, p.rejected) for p in pairs} == {("lovely day", "lost and sad")}
    assert [u.content for u in pairs[2].messages] == ["I am kind", "lovely day", "happy", "lovely day", "happy"]


def test_two_alike_make_no_pair(lexicon, tmp_path):
    run_pairs(Script("one", ["lost"] * 2), Echo(), [make_dialog(["I am kind"], id="s", lang="en", emotion=SAD)],
              lexicon, tmp_path / "pairs.jsonl", n_turns=3)  # fmt: skip
    assert read_pairs(tmp_path / "pairs.jsonl") == []
    about = json.loads((tmp_path / "pairs.jsonl.run.json").read_text())
    assert about["n_pairs"] == 0


def test_a_run_is_trained_on_its_self_chats_and_speaks_as_a_run(tiny_model_dir, tmp_path, capsys):
    pytest.importorskip("trl")
    small = tmp_path / "small"
    trim_model(tiny_model_dir, ["I am sad because of you."], small)
    flags = ["--agent", small, "--user", tiny_model_dir, "--turns", 3, "--output", tmp_path / "run", "--steps", 2,
             "--train-batch", 2, "--lora-rank", 2, "--max-new-tokens", 6, "--dtype", "float32", "--learning-rate", 1e-2]  # fmt: skip
    starters = tmp_path / "starters.jsonl"
    rows = [make_dialog([f"I am sad because of {w}."], id=w, lang="en") for w in ("rain", "you", "work", "cold")]
    starters.write_text("".join(json.dumps(r.model_dump(mode="json", exclude_none=True)) + "\n" for r in rows))
    main(["prefer", *map(str, flags), "--starters", str(starters)])
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["n_steps"] == 2
    assert (tmp_path / "run" / MAP_FILE).read_text() == (small / MAP_FILE).read_text()  # `pege trim --restore` takes it
    trained = load_agent(str(tmp_path / "run"), dtype="float32")
    context = next(make_dialog(["I am sad.", "x"], emotion=SAD).contexts())
    assert trained.respond([context], seed=0)
    main(["prefer", *map(str, flags), "--starters", str(starters)])  # done: left alone


def test_a_model_that_no_pair_can_train_is_refused_before_any_is_made(tmp_path, capsys, monkeypatch):
    pytest.importorskip("trl")
    flags = ["--starters", "zh", "--output", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as stopped:
        main(["prefer", "--agent", "base-plato", "--user", "base-plato", *flags])
    assert stopped.value.code == 2
    assert "base-plato: is a plato2; preferences are for causal LMs" in capsys.readouterr().err
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        main(["prefer", "--agent", "base-plato", "--user", "base-plato", *flags])
    assert "pip install 'pege[prefer]'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_training_that_was_stopped_ends_with_the_weights_of_one_that_was_not(tiny_model_dir, tmp_path, monkeypatch):
    pytest.importorskip("trl")
    from safetensors.torch import load_file
    from transformers import Trainer

    from pege.training.preference import run_preference

    pairs = [
        Pair(id=w, messages=make_dialog([f"I am sad because of {w}."]).messages, emotion=SAD, chosen="I am here.",
             rejected=f"No {w}.", reward_chosen=1.0, reward_rejected=0.0)
        for w in ("rain", "you", "work", "cold")
    ]  # fmt: skip
    lora = {"r": 2, "target_modules": "all-linear"}
    training = {"max_steps": 5, "per_device_train_batch_size": 2, "learning_rate": 1e-2, "save_steps": 2}

    def weights(name):
        run_preference(str(tiny_model_dir), pairs, tmp_path / name, lora=lora, training=training, dtype="float32")
        return load_file(tmp_path / name / "adapter_model.safetensors")

    whole, saved = weights("whole"), Trainer._save_checkpoint

    def stop_behind_it(self, *args, **kwargs):
        saved(self, *args, **kwargs)
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "_save_checkpoint", stop_behind_it)
    with pytest.raises(KeyboardInterrupt):
        weights("stopped")
    monkeypatch.setattr(Trainer, "_save_checkpoint", saved)
    assert (tmp_path / "stopped" / "checkpoint-2").is_dir()
    gone_on = weights("stopped")
    assert gone_on.keys() == whole.keys()
    for name, weight in whole.items():
        torch.testing.assert_close(gone_on[name], weight, rtol=0, atol=0, msg=name)
