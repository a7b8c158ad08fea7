"""Agents: a local model, an endpoint, and the guard before both."""

from __future__ import annotations

import contextlib
import shutil
import threading

import pytest

from engine import Engine
from pege.agent import GuardedAgent, load_agent
from pege.agent.generate import LocalAgent, load_local_agent
from pege.dialog import Context, Emotion, make_dialog
from pege.errors import InputError
from pege.io import start_run
from pege.models.causal import load_model
from pege.safety import help_text

EMOTION = Emotion(negative=0.8, neutral=0.1, positive=0.1)


def context(*texts):
    return Context(utterances=make_dialog(list(texts)).messages, emotion=EMOTION)


CONTEXTS = [
    context("I lost my dog."),
    context("I am happy.", "Nice, why?", "The sea is so lovely today, and the sun too."),
]


@pytest.fixture(scope="module")
def agent(tiny_model_dir):
    model, tokenizer = load_model(tiny_model_dir, dtype="float32")
    return LocalAgent("tiny", model, tokenizer, generation={"max_new_tokens": 8})


def test_the_same_seed_gives_the_same_responses(agent):
    first = agent.respond(CONTEXTS, seed=1)
    assert first == agent.respond(CONTEXTS, seed=1)
    assert first != agent.respond(CONTEXTS, seed=2)
    assert all(first)


def test_greedy_responses_do_not_depend_on_the_batch(tiny_model_dir):
    model, tokenizer = load_model(tiny_model_dir, dtype="float32")
    greedy = LocalAgent(
        "tiny",
        model,
        tokenizer,
        generation={"do_sample": False, "max_new_tokens": 6, "top_k": None, "temperature": None},
    )
    assert greedy.respond(CONTEXTS) == [greedy.respond([c])[0] for c in CONTEXTS]


def test_a_stream_gives_what_the_batch_gives(agent):
    streamed = "".join(agent.stream(CONTEXTS[0], seed=5)).replace("\ufffd", " ")
    assert " ".join(streamed.split()) == agent.respond(CONTEXTS[:1], seed=5)[0]


def test_what_fails_while_streaming_is_raised_in_the_caller(agent, monkeypatch):
    def broken(*a, **k):
        raise RuntimeError("no memory")

    monkeypatch.setattr(agent, "_sample", broken)
    with pytest.raises(RuntimeError, match="no memory"):
        list(agent.stream(CONTEXTS[0]))


def test_a_stream_that_is_left_stops_its_thread(agent, monkeypatch):
    monkeypatch.setattr(agent, "generation", {"do_sample": False, "min_new_tokens": 400, "max_new_tokens": 400})
    steps, run = [], agent.model.forward
    monkeypatch.setattr(agent.model, "forward", lambda *a, **k: steps.append(1) or run(*a, **k))
    before = threading.active_count()
    pieces = agent.stream(CONTEXTS[0], seed=1)
    next(pieces)
    pieces.close()
    assert threading.active_count() == before
    assert 0 < len(steps) < 400


def test_settings_out_of_range_are_refused_before_a_model_is_loaded(tmp_path):
    with pytest.raises(InputError, match=r"generation\.temperature: -1 is not above 0"):
        load_agent(str(tmp_path / "no-model"), generation={"temperature": -1})
    with pytest.raises(InputError, match=r"generation\.top_p: 3 is not above 0 and at most 1"):
        load_agent("http://127.0.0.1:1/v1#m", generation={"top_p": 3})


RUN = {"model": "base", "emotion_input": True, "lora": {}, "generation": {"top_k": 7}}


@pytest.mark.parametrize("place", [".", "checkpoint-5"])
def test_a_run_brings_its_prompt_and_settings_to_its_checkpoints_too(tiny_model_dir, tmp_path, place):
    shutil.copytree(tiny_model_dir, tmp_path / "run" / place, dirs_exist_ok=True)
    start_run(tmp_path / "run", RUN)
    agent = load_local_agent(str(tmp_path / "run" / place), generation={"max_new_tokens": 3})
    assert agent.emotion_input
    assert (agent.generation["top_k"], agent.generation["max_new_tokens"]) == (7, 3)


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json", "config.json"])
def test_a_folder_with_a_file_cut_is_one_line(tiny_model_dir, tmp_path, file):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model_dir, folder)
    whole = (folder / file).read_bytes()
    (folder / file).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=rf"{file}: is not JSON"):
        load_local_agent(str(folder))


@pytest.mark.parametrize(("n_lines", "lacking"), [(1, "emotion_input"), (3, "generation")])
def test_a_run_whose_config_is_cut_does_not_lose_its_prompt_unnoticed(tiny_model_dir, tmp_path, n_lines, lacking):
    folder = tmp_path / "run"
    shutil.copytree(tiny_model_dir, folder)
    start_run(folder, RUN)
    file = folder / "config.yaml"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:n_lines]))
    with pytest.raises(InputError, match=rf"config\.yaml: lacks {lacking}; is it cut"):
        load_local_agent(str(folder))


def test_a_folder_without_a_tokenizer_or_of_another_kind_is_one_line(tiny_model_dir, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model_dir, folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(InputError, match="cannot be loaded"):
        load_local_agent(str(folder))
    (folder / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(InputError, match="cannot be loaded"):
        load_local_agent(str(folder))


def test_an_empty_response_is_replaced_and_counted(agent, monkeypatch):
    monkeypatch.setattr(agent, "_generate", lambda contexts, seed, **more: ["" for _ in contexts])
    monkeypatch.setattr(agent, "n_fallbacks", 0)
    assert agent.respond([context("hi"), context("你好")]) == ["I see.", "嗯。"]
    assert agent.n_fallbacks == 2


class Counting:
    name = "counting"

    def __init__(self):
        self.seen = []

    def respond(self, contexts, *, seed=None):
        self.seen += contexts
        return ["ok"] * len(contexts)

    def stream(self, context, *, seed=None):
        yield from self.respond([context])


def test_a_crisis_never_reaches_the_model():
    inner = Counting()
    answers = GuardedAgent(inner).respond([context("I want to kill myself"), context("hello"), context("我不想活了")])
    assert answers == [help_text("en"), "ok", help_text("zh")]
    assert [c.utterances[-1].content for c in inner.seen] == ["hello"]
    guarded = GuardedAgent(inner)
    assert [*guarded.stream(context("I want to kill myself"))] == [help_text("en")]
    assert [*guarded.stream(context("good day"))] == ["ok"]
    assert [c.utterances[-1].content for c in inner.seen] == ["hello", "good day"]


def test_after_a_crisis_the_whole_dialog_stays_with_the_fixed_text():
    inner = Counting()
    assert GuardedAgent(inner).respond([context("I want to die", "help", "what?")]) == [help_text("en")]
    assert inner.seen == []


def test_a_check_that_fails_gives_the_fixed_text_and_no_model_answers(monkeypatch):
    def broken(texts, *, guards):
        raise RuntimeError("broken")

    monkeypatch.setattr("pege.agent.guarded.judge_dialog", broken)
    inner, told = Counting(), []
    guarded = GuardedAgent(inner, alert=told.append)
    assert guarded.respond([context("hello")]) == [help_text("en")]
    assert [*guarded.stream(context("你好"))] == [help_text("zh")]
    assert (inner.seen, told) == ([], ["check-failed", "check-failed"])


def test_a_guard_adds_hits_and_one_that_raises_is_a_hit():
    class Broken:
        def check(self, text):
            raise OSError("no weights")

    inner = Counting()
    assert GuardedAgent(inner, guards=[Broken()]).respond([context("hello")]) == [help_text("en")]
    assert inner.seen == []


class Scripted:
    name = "scripted"

    def __init__(self, *responses):
        self.left = list(responses)

    def respond(self, contexts, *, seed=None):
        return [self.left.pop(0) for _ in contexts]

    def stream(self, context, *, seed=None):
        yield from self.left.pop(0)


@pytest.mark.parametrize(
    "bad", ["You should just kill yourself.", "Get over it.", "You have depression.", "Shut up, you idiot."]
)
def test_a_refused_response_is_drawn_once_more_then_fixed(bad):
    assert GuardedAgent(Scripted(bad, "I am here.")).respond([context("hello")]) == ["I am here."]
    fixed = GuardedAgent(Scripted(bad, bad)).respond([context("hello")])[0]
    assert "tell me more" in fixed
    assert "".join(GuardedAgent(Scripted(bad, bad)).stream(context("hello"))) == fixed


def test_a_stream_gives_whole_sentences_and_stops_before_a_bad_one():
    said = list(GuardedAgent(Scripted("That is hard. Get over it. Bye.")).stream(context("hello")))
    assert said[0] == "That is hard."
    assert "over it" not in "".join(said)


@pytest.fixture
def endpoint():
    requests = []

    def echo(call):
        requests.append((call.body, call.headers.get("Authorization")))
        call.say(" echo " + call.body["messages"][-1]["content"])

    with contextlib.closing(Engine(echo)) as engine:
        yield engine.url, requests


def test_an_endpoint_answers_and_as_user_the_roles_are_swapped(endpoint):
    url, requests = endpoint
    agent = load_agent(f"{url}#m", api_key="secret")
    assert agent.respond([context("hello")], seed=3) == ["echo hello"]
    assert requests[0][0]["seed"] == 3
    assert requests[0][1] == "Bearer secret"
    assert "secret" not in agent.name
    user = load_agent(f"{url}#m", role="user")
    user.respond([context("hello", "hi there")])
    assert [m["role"] for m in requests[1][0]["messages"]] == ["system", "assistant", "user"]
    agent.client.close()
    user.client.close()


def test_an_endpoint_gets_the_emotion_where_asked_and_all_settings_under_its_names(endpoint):
    url, requests = endpoint
    settings = {"max_new_tokens": 12, "top_k": 5, "temperature": 0.5}
    agent = load_agent(f"{url}#m", emotion_input=True, generation=settings)
    plain = load_agent(f"{url}#m")
    for a in (agent, plain):
        a.respond([context("hello")])
        a.client.close()
    (first, _), (second, _) = requests
    assert first["messages"][0]["content"].endswith("First utterance: positive 0.10, negative 0.80.")
    assert "positive" not in second["messages"][0]["content"]
    assert (first["max_tokens"], first["top_k"], first["temperature"]) == (12, 5, 0.5)
    assert "max_new_tokens" not in first


def test_what_cannot_be_an_agent_is_named(tiny_model_dir):
    with pytest.raises(InputError, match="names no model"):
        load_agent("http://127.0.0.1:1/v1")
    with pytest.raises(InputError, match="unknown generation setting 'temprature'"):
        load_local_agent(str(tiny_model_dir), generation={"temprature": 1})
