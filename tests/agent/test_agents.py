"""Agents: a local model, an endpoint, and the guard before both."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from pege.agent import GuardedAgent, load_agent
from pege.agent.generate import LocalAgent, load_local_agent
from pege.dialog import Context, Emotion, make_dialog
from pege.errors import InputError
from pege.models.causal import load_causal
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
    model, tokenizer = load_causal(tiny_model_dir, dtype="float32")
    return LocalAgent("tiny", model, tokenizer, generation={"max_new_tokens": 8})


def test_the_same_seed_gives_the_same_responses(agent):
    first = agent.respond(CONTEXTS, seed=1)
    assert first == agent.respond(CONTEXTS, seed=1)
    assert first != agent.respond(CONTEXTS, seed=2)
    assert all(first)


def test_greedy_responses_do_not_depend_on_the_batch(tiny_model_dir):
    model, tokenizer = load_causal(tiny_model_dir, dtype="float32")
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


def test_a_crisis_never_reaches_the_model():
    inner = Counting()
    answers = GuardedAgent(inner).respond([context("I want to kill myself"), context("hello"), context("我不想活了")])
    assert answers == [help_text("en"), "ok", help_text("zh")]
    assert [c.utterances[-1].content for c in inner.seen] == ["hello"]


def test_after_a_crisis_the_whole_dialog_stays_with_the_fixed_text():
    inner = Counting()
    assert GuardedAgent(inner).respond([context("I want to die", "help", "what?")]) == [help_text("en")]
    assert inner.seen == []


def test_a_check_that_fails_lets_no_model_answer(monkeypatch):
    def broken(text):
        raise RuntimeError("broken")

    monkeypatch.setattr("pege.agent.guarded.check_crisis", broken)
    inner = Counting()
    with pytest.raises(RuntimeError):
        GuardedAgent(inner).respond([context("hello")])
    assert inner.seen == []


@pytest.fixture
def endpoint():
    requests = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            requests.append((body, self.headers.get("Authorization")))
            answer = {"id": "1", "object": "chat.completion", "created": 0, "model": body["model"],
                      "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": " echo " + body["messages"][-1]["content"]}}]}  # fmt: skip
            data = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *a):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1", requests
    server.shutdown()
    server.server_close()
    thread.join()


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


def test_what_cannot_be_an_agent_is_named(tiny_model_dir):
    with pytest.raises(InputError, match="names no model"):
        load_agent("http://127.0.0.1:1/v1")
    with pytest.raises(InputError, match="unknown generation setting 'temprature'"):
        load_local_agent(str(tiny_model_dir), generation={"temprature": 1})
