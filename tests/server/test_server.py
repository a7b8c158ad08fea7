"""The API: driven by the openai client, schemathesis and bad bodies; limits, keys, overload, clients that leave."""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess
import sys
import threading
import time

import httpx
import openai
import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pege.agent import GuardedAgent
from pege.agent.alert import Alerts
from pege.agent.generate import LocalAgent
from pege.agent.settings import Settings
from pege.dialog import Emotion
from pege.errors import InputError
from pege.models.causal import load_model
from pege.safety import help_text
from pege.server.app import make_app, make_service
from pege.server.batching import Batcher, QueueFullError
from pege.server.config import ServerConfig
from pege.server.messages import Message, context_of, guidance_of
from pege.server.service import Service

HELLO = {"model": "m", "messages": [{"role": "user", "content": "hello my dog"}]}


def emotions(texts):
    return [Emotion(negative=0.8, neutral=0.1, positive=0.1) for _ in texts]


class Echo:
    name = "echo"

    def __init__(self, wait_s=0.0):
        self.batches, self.wait_s = [], wait_s

    def respond(self, contexts, *, seed=None):
        self.batches.append(len(contexts))
        time.sleep(self.wait_s)
        if any("boom" in c.utterances[-1].content for c in contexts):
            raise RuntimeError("boom")
        return ["You said: " + c.utterances[-1].content for c in contexts]

    def stream(self, context, *, seed=None):
        yield from self.respond([context], seed=seed)


def wait_until(is_so, timeout_s=60):
    end = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


class Served:
    def __init__(self, agent, **config):
        config = ServerConfig(**config)
        app = make_app(make_service(GuardedAgent(agent, emotions=emotions), config), config)
        self.server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{self.server.servers[0].sockets[0].getsockname()[1]}"

    def stop(self):
        self.server.should_exit = True
        self.thread.join(60)
        assert not self.thread.is_alive()


@pytest.fixture
def serve():
    started = []

    def start(agent, **config):
        started.append(Served(agent, **config))
        return started[-1]

    yield start
    for served in started:
        served.stop()


def test_the_openai_client_chats_with_a_local_model(serve, tiny_model_dir):
    model, tokenizer = load_model(tiny_model_dir, dtype="float32")
    url = serve(LocalAgent("tiny", model, tokenizer, generation={"max_new_tokens": 5})).url
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        assert [m.id for m in client.models.list()] == ["tiny"]
        whole = client.chat.completions.create(**HELLO, seed=3)
        assert whole.choices[0].message.content
        assert whole.usage.completion_tokens == 5
        assert whole.choices[0].finish_reason == "length"
        extras = whole.model_extra["pege"]
        assert len(extras["vad"]) == 2
        assert extras["emotion"]["negative"] == 0.8
        assert extras["guidance"]["stage"] == "empathy"
        chunks = list(client.chat.completions.create(**HELLO, seed=3, stream=True))
        assert "".join(c.choices[0].delta.content or "" for c in chunks) == whole.choices[0].message.content
        assert chunks[-1].choices[0].finish_reason == "length"
        assert client.chat.completions.create(**HELLO, max_tokens=2).usage.completion_tokens == 2
        greedy = [client.chat.completions.create(**HELLO, temperature=0).choices[0].message.content for _ in range(2)]
        assert greedy[0] == greedy[1]


@pytest.mark.parametrize(("text", "language"), [("I want to kill myself", "en"), ("我不想活了", "zh")])
def test_a_crisis_gets_the_fixed_text_and_no_model(serve, text, language):
    agent = Echo()
    body = {**HELLO, "messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "ok"},
                                  {"role": "user", "content": text[:2]}]}  # fmt: skip
    answer = httpx.post(serve(agent).url + "/v1/chat/completions", json=body, timeout=60).json()
    assert answer["choices"][0]["message"]["content"] in (help_text("en"), help_text(language))
    assert answer["pege"]["guidance"]["stage"] == "off"
    assert agent.batches == []


def test_requests_that_wait_share_a_batch_and_a_bad_one_harms_none(serve):
    agent = Echo(wait_s=0.2)
    url = serve(agent).url

    async def ask():
        async with httpx.AsyncClient() as client:
            texts = ["one", "two boom", "three", "four"]
            bodies = [{**HELLO, "messages": [{"role": "user", "content": t}]} for t in texts]
            return await asyncio.gather(
                *(client.post(url + "/v1/chat/completions", json=b, timeout=60) for b in bodies)
            )

    codes = [r.status_code for r in asyncio.run(ask())]
    assert codes == [200, 500, 200, 200]
    assert max(agent.batches) > 1


def test_an_overload_is_429_with_retry_after_and_health_stays_up(serve):
    served = serve(Echo(wait_s=0.3), max_queue=1, max_batch=1)

    async def ask():
        async with httpx.AsyncClient() as client:
            posts = [client.post(served.url + "/v1/chat/completions", json=HELLO, timeout=60) for _ in range(10)]
            health = client.get(served.url + "/healthz")
            return await asyncio.gather(*posts), await health

    answers, health = asyncio.run(ask())
    full = [a for a in answers if a.status_code == 429]
    assert full
    assert all(a.headers["retry-after"] == "1" for a in full)
    assert {a.status_code for a in answers} == {200, 429}
    assert health.status_code == 200
    assert "pege_requests_total" in httpx.get(served.url + "/metrics").text


async def whole(batcher, text, settings=None):
    pieces = batcher.stream(context_of([Message(role="user", content=text)]), settings or Settings())
    return "".join([p async for p in pieces if isinstance(p, str)])


def test_a_client_that_goes_away_leaves_the_queue():
    agent = Echo(wait_s=0.3)
    batcher = Batcher(agent, max_batch=1, max_queue=5)

    async def ask():
        tasks = [asyncio.create_task(whole(batcher, t)) for t in "abc"]
        await asyncio.sleep(0.1)
        tasks[1].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    answers = asyncio.run(ask())
    assert [type(a) for a in answers] == [str, asyncio.CancelledError, str]
    assert agent.batches == [1, 1]
    batcher.close(10)
    with pytest.raises(QueueFullError):
        asyncio.run(whole(batcher, "late"))


def test_stopping_answers_what_waits(serve):
    agent, found = Echo(wait_s=0.5), []
    served = serve(agent)
    thread = threading.Thread(
        target=lambda: found.append(httpx.post(served.url + "/v1/chat/completions", json=HELLO, timeout=60))
    )
    thread.start()
    wait_until(lambda: agent.batches)
    served.stop()
    thread.join(60)
    assert found[0].status_code == 200


def test_a_response_that_takes_too_long_is_504(serve):
    url = serve(Echo(wait_s=1.0), timeout_s=0.2).url
    assert httpx.post(url + "/v1/chat/completions", json=HELLO, timeout=10).status_code == 504


def test_keys_are_asked_for_and_each_has_its_own_rate(serve):
    hashes = tuple(hashlib.sha256(k.encode()).hexdigest() for k in ("one", "two"))
    url = serve(Echo(), key_hashes=hashes, requests_per_minute=2).url + "/v1/models"
    assert httpx.get(url).status_code == 401
    assert httpx.get(url, headers={"Authorization": "Bearer three"}).status_code == 401
    ask = lambda key: httpx.get(url, headers={"Authorization": f"Bearer {key}"}).status_code  # noqa: E731
    assert [ask("one"), ask("one"), ask("one"), ask("two")] == [200, 200, 429, 200]


def test_one_key_cannot_fill_the_queue_for_another(serve):
    hashes = tuple(hashlib.sha256(k.encode()).hexdigest() for k in ("one", "two"))
    url = serve(Echo(wait_s=0.5), key_hashes=hashes, max_per_key=2, max_batch=1).url + "/v1/chat/completions"

    async def ask():
        async with httpx.AsyncClient(timeout=60) as client:
            send = lambda key: client.post(url, json=HELLO, headers={"Authorization": f"Bearer {key}"})  # noqa: E731
            answers = await asyncio.gather(*(send("one") for _ in range(6)), send("two"))
            return [a.status_code for a in answers], (await send("one")).status_code

    (*first, second), later = asyncio.run(ask())
    assert sorted(first) == [200, 200, 429, 429, 429, 429]
    assert (second, later) == (200, 200)


def test_without_keys_only_loopback_is_bound():
    with pytest.raises(InputError, match="loopback only"):
        ServerConfig(host="0.0.0.0").check_bind()
    ServerConfig(host="0.0.0.0", key_hashes=("a" * 64,)).check_bind()


def test_an_alert_command_is_told_the_kind_and_no_text(tmp_path):
    script = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text(' '.join(sys.argv[2:]))"
    alerts = Alerts((sys.executable, "-c", script, str(tmp_path / "told")))
    guarded = GuardedAgent(Echo(), alert=alerts)
    guarded.respond([context_of([Message(role="user", content="I want to kill myself")])])
    end = time.monotonic() + 20
    while not ((tmp_path / "told").exists() and (tmp_path / "told").read_text()) and time.monotonic() < end:
        time.sleep(0.05)
    assert (tmp_path / "told").read_text() == "self-harm"


@pytest.fixture(scope="module")
def plain_app():
    config = ServerConfig(max_body_bytes=5_000, max_messages=3, requests_per_minute=10**6)
    return make_app(make_service(GuardedAgent(Echo()), config), config)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", 400), (b"[]", 400), (b'"\\ud800"', 400), (b"\xff", 400), (b"x" * 6_000, 413),
        (json.dumps({**HELLO, "stop": "x" * 101}).encode(), 400), (json.dumps({**HELLO, "stop": ["x" * 101]}).encode(), 400),
        (json.dumps({**HELLO, "messages": []}).encode(), 400),
        (json.dumps({**HELLO, "messages": HELLO["messages"] * 4}).encode(), 400),
        (json.dumps({**HELLO, "messages": [{"role": "assistant", "content": "hi"}]}).encode(), 400),
        (json.dumps({**HELLO, "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}).encode(), 200),
    ],
)  # fmt: skip
def test_a_body_that_does_not_fit_is_refused(plain_app, body, code):
    assert _post(plain_app, body) == code


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda c: st.lists(c) | st.dictionaries(st.text(), c),
        max_leaves=8,
    )
)
def test_no_json_gives_a_server_error(plain_app, value):
    for body in (value, {**HELLO, "messages": value}, {**HELLO, "messages": [{"role": "user", "content": value}]}):
        assert _post(plain_app, json.dumps(body).encode()) < 500


def _post(app, body):
    async def ask():
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return (await client.post("/v1/chat/completions", content=body)).status_code

    return asyncio.run(ask())


def test_schemathesis_finds_no_server_error(serve):
    # a server that runs: a test client ends the app after each call, and no later request would reach the agent
    schema = schemathesis.openapi.from_url(serve(Echo(), requests_per_minute=10**6).url + "/openapi.json")
    codes = set()
    for operation in schema.get_all_operations():

        @settings(max_examples=20, deadline=None)
        @given(operation.ok().as_strategy())
        def no_5xx(case):
            codes.add(case.call().status_code)
            assert max(codes) < 500

        no_5xx()
    assert 200 in codes


def test_curl_reads_the_stream(serve):
    url = serve(Echo()).url + "/v1/chat/completions"
    call = ["curl", "-sN", url, "-H", "Content-Type: application/json", "-d", json.dumps({**HELLO, "stream": True})]
    lines = subprocess.run(call, capture_output=True, text=True, timeout=20, check=True).stdout.split("\n\n")
    assert lines[-2] == "data: [DONE]"
    said = [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in said) == "You said: hello my dog"
    assert said[-1]["pege"]["guidance"]["stage"] == "empathy"


def test_a_crisis_is_answered_though_emotion_and_lexicon_fail(monkeypatch):
    def fails(*_):
        raise RuntimeError("broken")

    async def ask(service, text):
        return [e async for e in service.stream(context_of([Message(role="user", content=text)]))][-1]

    monkeypatch.setattr("pege.server.service.vad_of", fails)
    service = Service(GuardedAgent(Echo(), emotions=fails))
    crisis = asyncio.run(ask(service, "I want to kill myself"))
    assert (crisis.text, crisis.kind, crisis.extras["vad"]) == (help_text("en"), "self-harm", [None, None])
    assert asyncio.run(ask(service, "hello")).text == "You said: hello"
    service.close()


@pytest.mark.parametrize(("n", "stage"), [(1, "empathy"), (3, "empathy"), (5, "elicitation"), (9, "elicitation")])
def test_a_sad_user_is_met_first_and_led_later(n, stage):
    assert guidance_of(n, Emotion(negative=1, neutral=0, positive=0), is_off=False)["stage"] == stage
