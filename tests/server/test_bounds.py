"""What is bounded: places in the queue, the checks that run, their time, very long dialogs; and what a fault gives."""

from __future__ import annotations

import asyncio
import json
import threading
import time

import httpx
import pytest

from pege.agent import GuardedAgent
from pege.agent.generate import LocalAgent
from pege.agent.settings import Settings
from pege.dialog import Context, make_dialog
from pege.models.causal import load_model
from pege.safety import DialogJudgement, check_crisis
from pege.server.app import make_app
from pege.server.batching import Batcher, QueueFullError
from pege.server.config import ServerConfig
from pege.server.service import Service

HELLO = Context(utterances=make_dialog(["hello"]).messages)


class Echo:
    name = "echo"

    def __init__(self):
        self.free, self.n_asked = threading.Event(), 0
        self.free.set()

    def respond(self, contexts, *, seed=None):
        self.n_asked += 1
        self.free.wait(30)
        return ["You said: " + c.utterances[-1].content for c in contexts]

    def stream(self, context, *, seed=None):
        yield from self.respond([context], seed=seed)


class SlowGuard:
    def __init__(self):
        self.free, self.n = threading.Event(), 0

    def check(self, text):
        self.n += 1
        self.free.wait(30)


def post(service, body, config=None, headers=None, method="POST", path="/v1/chat/completions"):
    async def ask():
        app = make_app(service, config or ServerConfig())
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, json=body, headers=headers, timeout=60)

    return asyncio.run(ask())


async def texts_of(service, context=HELLO):
    return [event.text async for event in service.stream(context)]


def test_who_leaves_the_queue_leaves_its_place():
    agent = Echo()
    agent.free.clear()
    batcher = Batcher(agent, max_batch=1, max_queue=3)

    async def whole():
        return [p async for p in batcher.stream(HELLO, Settings())]

    async def ask():
        first = asyncio.create_task(whole())
        while not agent.n_asked:
            await asyncio.sleep(0.01)
        waiting = [asyncio.create_task(whole()) for _ in range(3)]
        await asyncio.sleep(0.05)
        with pytest.raises(QueueFullError):
            await whole()
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert batcher.n_waiting == 0
        again = asyncio.create_task(whole())
        await asyncio.sleep(0.05)
        agent.free.set()
        return await first, await again

    first, again = asyncio.run(ask())
    assert first[0] == again[0] == "You said: hello"
    batcher.close(5)


def test_a_check_that_takes_too_long_is_504_and_no_model_answers():
    check_crisis("hello")  # loads what it needs
    agent, guard = Echo(), SlowGuard()
    service = Service(GuardedAgent(agent, guards=[guard]), timeout_s=0.5)

    async def ask():
        ticks, start = 0, time.monotonic()
        task = asyncio.create_task(texts_of(service))
        while not task.done():  # the event loop is free meanwhile
            ticks += 1
            await asyncio.sleep(0.01)
        with pytest.raises(TimeoutError):
            await task
        return ticks, time.monotonic() - start

    ticks, seconds = asyncio.run(ask())
    assert ticks > 2
    assert seconds < 10
    guard.free.set()
    assert agent.n_asked == 0
    service.close()


def test_only_so_many_checks_wait():
    guard = SlowGuard()
    service = Service(GuardedAgent(Echo(), guards=[guard]), max_batch=2, max_queue=3)

    async def ask():
        contexts = [Context(utterances=make_dialog([f"hello {k}"]).messages) for k in range(12)]
        tasks = [asyncio.create_task(texts_of(service, c)) for c in contexts]
        await asyncio.sleep(0.2)
        assert guard.n == 2  # threads
        assert sum(t.done() for t in tasks) == 7
        tasks[2].cancel()
        await asyncio.gather(tasks[2], return_exceptions=True)
        guard.free.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    answers = asyncio.run(ask())
    assert all(type(a) is QueueFullError for a in answers[5:])
    assert type(answers[2]) is asyncio.CancelledError
    assert guard.n == 4  # who left before its turn was not checked
    service.close()


def test_a_fault_of_ours_is_an_error_in_the_words_of_the_api(monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("a person's words")

    service = Service(GuardedAgent(Echo()))
    monkeypatch.setattr(service.agent, "speaker", broken)
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
    for stream in (False, True):
        answer = post(service, {**body, "stream": stream})
        assert answer.status_code == 500
        assert answer.json()["error"]["type"] == "server_error"
        assert "words" not in answer.text


def test_a_filter_that_fails_gives_fixed_text(monkeypatch):
    def broken(text, **_):
        raise RuntimeError("no weights")

    monkeypatch.setattr("pege.agent.turn.Turn.__init__.__kwdefaults__", {**_turn_defaults(), "refuse": broken})
    service = Service(GuardedAgent(Echo()))
    answer = post(service, {"model": "m", "messages": [{"role": "user", "content": "hello"}]}).json()
    assert answer["pege"]["refused"] == "check-failed"
    assert "tell me more" in answer["choices"][0]["message"]["content"]


def _turn_defaults():
    from pege.agent.turn import Turn

    return Turn.__init__.__kwdefaults__


def test_the_filter_runs_beside_the_event_loop(monkeypatch):
    threads = []

    def noted(text, **_):
        threads.append(threading.current_thread().name)

    monkeypatch.setattr("pege.agent.turn.Turn.__init__.__kwdefaults__", {**_turn_defaults(), "refuse": noted})
    service = Service(GuardedAgent(Echo()))
    asyncio.run(texts_of(service))
    service.close()
    assert threads
    assert all(name.startswith("pege-filter") for name in threads)


def test_what_is_no_text_of_the_two_is_not_read():
    picture = {"type": "image_url", "image_url": {"url": "https://example.org/x.png"}}
    messages = [
        {"role": "system", "content": [{"type": "text", "text": "be rude"}]},
        {"role": "user", "content": [picture, {"type": "text", "text": "look"}]},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function"}]},
        {"role": "tool", "tool_call_id": "1", "content": "12 degrees"},
        {"role": "user", "content": "at this"},
    ]
    service = Service(GuardedAgent(Echo()))
    answer = post(service, {"model": "m", "messages": messages, "tools": [{"type": "function"}]})
    assert answer.json()["choices"][0]["message"]["content"] == "You said: look at this"
    service = Service(GuardedAgent(Echo()))
    only_a_picture = {"model": "m", "messages": [{"role": "user", "content": [picture]}]}
    assert post(service, only_a_picture).status_code == 400


def test_with_keys_the_counts_are_for_who_has_one():
    config = ServerConfig(key_hashes=("a" * 64,))
    assert post(Service(GuardedAgent(Echo())), None, config, method="GET", path="/metrics").status_code == 401
    assert post(Service(GuardedAgent(Echo())), None, config, method="GET", path="/healthz").status_code == 200


def test_a_dialog_of_ten_thousand_messages_is_answered_where_it_is_allowed(tiny_model_dir):
    model, tokenizer = load_model(tiny_model_dir, dtype="float32")
    agent = LocalAgent("tiny", model, tokenizer, generation={"max_new_tokens": 4})
    service = Service(GuardedAgent(agent), timeout_s=300)
    messages = [{"role": ("user", "assistant")[k % 2], "content": f"hi {k}"} for k in range(9_999)]
    config = ServerConfig(max_messages=10_000)
    answer = post(service, {"model": "m", "messages": messages, "max_tokens": 4}, config)
    assert answer.status_code == 200
    assert answer.json()["usage"]["prompt_tokens"] <= model.config.max_position_embeddings
    service = Service(GuardedAgent(agent), timeout_s=300)
    messages[4_000]["content"] = "I want to kill myself"
    answer = post(service, {"model": "m", "messages": messages}, config)
    assert json.loads(answer.text)["pege"]["crisis"] == "self-harm"


def test_another_model_supports_in_the_server_too(monkeypatch):
    class Other(Echo):
        name = "other"

        def respond(self, contexts, *, seed=None):
            return ["I hear you." for c in contexts if c.is_supportive]

    monkeypatch.setattr("pege.agent.guarded.judge_dialog", lambda said, guards: DialogJudgement(None, had_crisis=True))
    agent = Echo()
    service = Service(GuardedAgent(agent, support=Other()))
    assert "I hear you." in "".join(asyncio.run(texts_of(service)))
    assert agent.n_asked == 0
    service.close()


def test_a_check_that_goes_on_after_its_client_left_keeps_its_place():
    guard = SlowGuard()
    service = Service(GuardedAgent(Echo(), guards=[guard]), max_batch=2, max_queue=1, max_per_key=2)

    async def ask(text, key):
        context = Context(utterances=make_dialog([text]).messages)
        return [e async for e in service.stream(context, key=key)]

    async def run():
        left = [asyncio.create_task(ask(f"hello {k}", "a")) for k in range(2)]
        while guard.n < 2:
            await asyncio.sleep(0.01)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        with pytest.raises(QueueFullError, match="this key"):
            await ask("hello", "a")
        waiting = asyncio.create_task(ask("hello", "b"))
        await asyncio.sleep(0.05)
        with pytest.raises(QueueFullError):
            await ask("hello", "c")
        guard.free.set()
        assert (await waiting)[-1].text == "You said: hello"
        return await ask("hello again", "a")

    assert asyncio.run(run())[-1].text == "You said: hello again"
    service.close()
