"""After a crisis: guidance off, a supportive mode with its own filter and closing words; guard models."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time

import pytest
import torch
import yaml

from pege.agent import GuardedAgent, load_agent
from pege.agent.alert import Alerts
from pege.agent.guard import ModelGuard, load_guard, read_verdict
from pege.agent.guided import Guide, GuidedLogits
from pege.agent.output_filter import refuse_response, support_text
from pege.agent.path import SafetyConfig, load_guarded_agent
from pege.agent.turn import Turn
from pege.dialog import Context, Emotion, make_dialog
from pege.errors import InputError
from pege.lexicon import load_lexicon
from pege.models.export import export_model
from pege.models.prompt import SUPPORT_LINE, SYSTEM_LINE, system_line
from pege.safety import Crisis, DialogJudgement, help_text


class Scripted:
    name, can_support = "scripted", True

    def __init__(self, *responses):
        self.left, self.seen = list(responses), []

    def respond(self, contexts, *, seed=None):
        self.seen += contexts
        return [self.left.pop(0) for _ in contexts]

    def stream(self, context, *, seed=None):
        self.seen.append(context)
        yield from self.left.pop(0)


@pytest.fixture
def after_a_soft_hit(monkeypatch):
    """A dialog whose earlier utterance was a hit below the score that locks; the check itself has tests of its own."""
    monkeypatch.setattr("pege.agent.guarded.judge_dialog", lambda said, guards: DialogJudgement(None, had_crisis=True))
    emotion = Emotion(negative=0.8, neutral=0.1, positive=0.1)
    return Context(utterances=make_dialog(["it is too much", "(fixed)", "thank you"]).messages, emotion=emotion)


@pytest.mark.parametrize("way", ["respond", "stream"])
def test_after_a_crisis_a_model_supports_and_fixed_words_end_it(after_a_soft_hit, way):
    inner = Scripted("I hear you.")
    guarded = GuardedAgent(inner)
    said = guarded.respond([after_a_soft_hit])[0] if way == "respond" else "".join(guarded.stream(after_a_soft_hit))
    assert said == f"I hear you. {support_text('en')}"
    assert inner.seen[0].is_supportive
    assert inner.seen[0].emotion is None


def test_after_a_crisis_what_cheers_up_is_drawn_again_and_then_replaced(after_a_soft_hit):
    assert refuse_response("Cheer up!") is None
    assert refuse_response("Cheer up!", is_supportive=True) == "cheering"
    assert refuse_response("开心点！", is_supportive=True) == "cheering"
    said = GuardedAgent(Scripted("Cheer up!", "Just be positive.")).respond([after_a_soft_hit])[0]
    assert "positive" not in said
    assert "listening" in said


def test_after_a_crisis_an_agent_without_a_supportive_mode_is_not_asked(after_a_soft_hit):
    inner = Scripted("I hear you.")
    inner.can_support = False
    assert GuardedAgent(inner).respond([after_a_soft_hit]) == [help_text("en")]
    assert inner.seen == []


def test_after_a_crisis_the_prompt_asks_for_support_and_nothing_is_guided(after_a_soft_hit):
    assert system_line(after_a_soft_hit.emotion, is_supportive=True) == SUPPORT_LINE
    assert system_line(None) == SYSTEM_LINE
    contexts = [after_a_soft_hit, after_a_soft_hit.model_copy(update={"is_supportive": True})]
    torch.manual_seed(0)
    scores, table = torch.randn(2, 50), torch.rand(50, 3)
    guided = GuidedLogits(Guide(load_lexicon("pege-en"), 2.0), contexts, table)(None, scores)
    assert not torch.equal(guided[0], scores[0])
    assert torch.equal(guided[1], scores[1])


@pytest.mark.parametrize(
    ("words", "kind"),
    [("Safety: Safe\nCategories: None", None), ("Safety: Unsafe\nCategories: Suicide & Self-Harm", "self-harm"),
     ("Safety: Unsafe\nCategories: Violent", "harm-to-others"), ("unsafe\nS1,S12", "harm-to-others"),
     ("Safety: Unsafe\nCategories: Unethical Acts", None), ("Safety: Unsafe\nCategories: Sexual Content or Sexual Acts", None),
     ("unsafe\nS12", None), ("unsafe\nS10", None), ("unsafe\nS2", None), ("unsafe\nS3", "abuse"), ("unsafe\nS4", "abuse"),
     ("Safety: Unsafe\nCategories: Unethical Acts, Suicide & Self-Harm", "self-harm"), ("unsafe\nS9", "harm-to-others"),
     ("Safety: Unsafe\nCategories: Non-violent Illegal Acts", None), ("\n\nunsafe\nS11", "self-harm"), ("safe", None),
     ("Safety: Unsafe\nCategories: Copyright Violation", None)],
)  # fmt: skip
def test_a_verdict_of_a_guard_model_is_read(words, kind):
    found = read_verdict(words)
    assert (found and found.kind) == kind


def test_a_guard_that_says_anything_else_fails_closed_and_is_asked_once_a_text():
    asked = []

    def ask(text):
        asked.append(text)
        return "I cannot help with that." if "odd" in text else "unsafe\nS1"

    inner, guard = Scripted("hello"), ModelGuard(ask)
    with pytest.raises(ValueError, match="no verdict"):
        read_verdict("I cannot help with that.")
    context = Context(utterances=make_dialog(["an odd thing"]).messages)
    assert GuardedAgent(inner, guards=[guard]).respond([context]) == [help_text("en")]
    assert inner.seen == []
    assert guard.check("x") == guard.check("x") == Crisis("harm-to-others", 0.9)
    assert asked == ["an odd thing", "x"]
    with pytest.raises(InputError, match="names no model"):
        load_guard("http://127.0.0.1:1/v1")


@pytest.mark.parametrize("end", [".", "!!", "...", "?!", '."', "!）", "!]"])
def test_a_sentence_is_read_with_all_its_marks(end, monkeypatch):
    read = []
    monkeypatch.setattr("pege.agent.output_filter._p_offensive", lambda text: read.append(text) or 0.0)
    refuse_response(f"I see. That is a long way{end}")
    assert read == [f" That is a long way{end}"]


def write_run(folder, **config):
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(
        yaml.safe_dump({"model": "base", "emotion_input": False, "generation": {}, **config}), encoding="utf-8"
    )
    return folder


@pytest.mark.parametrize(
    ("config", "is_it"),
    [({"loss": {"kind": "pege", "alpha": 0, "beta": 0}}, False), ({"loss": {"kind": "pege", "alpha": 5, "beta": 0}}, True),
     ({"loss": {"kind": "pege", "alpha": 0, "beta": 2}}, True), ({"loss": {"kind": "target", "alpha": 0.5}}, True),
     ({"n_pairs": 10}, True)],
)  # fmt: skip
def test_what_has_learned_guidance_may_not_answer_after_a_crisis(config, is_it, tiny_model_dir, tmp_path):
    shutil.copytree(tiny_model_dir, tmp_path / "run")
    run = write_run(tmp_path / "run", **config)
    further = shutil.copytree(tiny_model_dir, tmp_path / "further")
    write_run(further, model=str(run), loss={"alpha": 0, "beta": 0})
    export_model(run, tmp_path / "exported")
    for name in (run, further, tmp_path / "exported"):
        assert load_agent(str(name)).can_support is not is_it


def test_another_agent_answers_after_a_crisis_where_the_owner_names_one(after_a_soft_hit):
    inner, other = Scripted("Cheer up!"), Scripted("I hear you.")
    inner.can_support = False
    assert "I hear you." in GuardedAgent(inner, support=other).respond([after_a_soft_hit])[0]
    assert (inner.seen, len(other.seen)) == ([], 1)
    assert load_agent("http://127.0.0.1:1/v1#m").can_support is False


def test_a_context_that_had_a_crisis_elsewhere_is_supported(after_a_soft_hit, monkeypatch):
    monkeypatch.setattr("pege.agent.guarded.judge_dialog", lambda said, guards: DialogJudgement(None))
    inner = Scripted("I hear you.")
    look = GuardedAgent(inner).look(after_a_soft_hit.model_copy(update={"is_supportive": True}))
    assert (look.context.is_supportive, look.context.emotion, look.emotion) == (True, None, after_a_soft_hit.emotion)


def test_an_alert_is_told_of_a_hit_once_though_the_dialog_stays_locked():
    told, said = [], ["I want to die", "(fixed)", "what?"]
    guarded = GuardedAgent(Scripted(), alert=told.append)
    for n in (1, 3):
        guarded.look(Context(utterances=make_dialog(said[:n]).messages))
    assert told == ["self-harm"]
    guarded.look(Context(utterances=make_dialog([*said, "(fixed)", "I will kill myself"]).messages))
    assert told == ["self-harm", "self-harm"]
    split = make_dialog(["I want to kill", "(said)", "myself tonight"]).messages
    assert guarded.look(Context(utterances=split)).kind == "self-harm"
    assert len(told) == 3


def test_a_flood_of_alerts_starts_no_flood_of_programs(monkeypatch, caplog):
    free, running = threading.Event(), []

    def run(call, **_):
        running.append(call)
        free.wait(30)

    monkeypatch.setattr(subprocess, "run", run)
    alerts = Alerts(("tell",))
    for _ in range(1_000):
        alerts("abuse")
    assert len(running) <= 4
    assert "was not told" in caplog.text
    free.set()
    alerts.close()
    assert 4 < len(running) <= 260
    assert running[0] == ["tell", "abuse"]


def test_the_emotion_is_asked_after_the_check_and_only_where_a_model_answers():
    asked = []

    def emotions(texts):
        asked.extend(texts)
        return [Emotion(negative=0.8, neutral=0.1, positive=0.1)]

    guarded = GuardedAgent(Scripted("hello"), emotions=emotions)
    assert guarded.look(Context(utterances=make_dialog(["I want to die"]).messages)).emotion is None
    assert asked == []
    assert guarded.look(Context(utterances=make_dialog(["good day"]).messages)).context.emotion.negative == 0.8
    assert asked == ["good day"]


def test_a_response_is_not_said_where_the_filter_fails(monkeypatch):
    def broken(text, **_):
        raise RuntimeError("no weights")

    turn = Turn("hello", refuse=broken)
    assert turn.feed("A first sentence. And") == ""
    turn.end()
    turn.feed("A second. And")
    assert "tell me more" in turn.end()
    assert (turn.reason, turn.is_fixed) == ("check-failed", True)


def test_what_a_run_started_from_is_looked_at_and_where_it_is_lost_nobody_knows(tiny_model_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plain = shutil.copytree(tiny_model_dir, tmp_path / "runs" / "plain")
    write_run(plain, loss={"alpha": 0, "beta": 0})
    assert load_agent("runs/plain").can_support
    further = write_run(shutil.copytree(tiny_model_dir, tmp_path / "runs" / "b"), model="runs/plain", loss={"alpha": 0})
    assert load_agent("runs/b").can_support
    shutil.move(plain, tmp_path / "elsewhere")
    assert not load_agent("runs/b").can_support
    (further / "metrics.json").write_text('{"pege_is_guided": false}')  # the run knew
    assert load_agent("runs/b").can_support
    write_run(plain.parent / "b")  # no loss at all
    assert not load_agent("runs/b").can_support


@pytest.mark.parametrize("named", ["trivial:cheerful", "guided"])
def test_who_may_not_support_is_refused_at_the_start(named, tiny_model_dir, tmp_path):
    if named == "guided":
        named = str(write_run(shutil.copytree(tiny_model_dir, tmp_path / "run"), loss={"alpha": 5, "beta": 2}))
    with pytest.raises(InputError, match="learned guidance"):
        load_guarded_agent("trivial:parrot", SafetyConfig(support=named))
    told = load_guarded_agent(str(tiny_model_dir), SafetyConfig(support="http://127.0.0.1:1/v1#m"))
    assert told.support.name.startswith("m@")


def test_the_program_ends_though_alerts_hang():
    code = """
from pege.agent import alert
alert.Alerts.close.__defaults__ = (0.5,)
alerts = alert.Alerts(("sh", "-c", "exec sleep 60 >/dev/null 2>&1"))
for _ in range(6):
    alerts("abuse")
"""
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=55, check=True)
    assert time.monotonic() - start < 50
    assert "were not told" in done.stderr


def test_no_control_character_of_a_models_reaches_anybody():
    turn = Turn("hello")
    assert turn.feed("I hear\x00 you.\x07\x9b Go") == "I hear you."
