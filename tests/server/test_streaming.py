"""What is streamed and what ends it: clients that leave, proxies, alerts, keys to the pages of other sites, logs."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
import time

import httpx
import openai
import pytest
import uvicorn

from pege.agent import GuardedAgent
from pege.agent.alert import Alerts
from pege.agent.endpoint import EndpointAgent
from pege.agent.generate import LocalAgent
from pege.models.causal import load_model
from pege.safety import help_text
from pege.server.app import make_app, make_service
from pege.server.config import ServerConfig
from pege.server.logs import JsonFormatter
from pege.server.messages import Message, context_of
from pege.server.service import Done, Piece, Service, Settings

HELLO = {"model": "m", "messages": [{"role": "user", "content": "hello my dog"}]}


@pytest.fixture(scope="module")
def local(tiny_model_dir):
    model, tokenizer = load_model(tiny_model_dir, dtype="float32")
    return LocalAgent("tiny", model, tokenizer, generation={"max_new_tokens": 4})


@pytest.fixture
def serve():
    servers = []

    def start(agent, **settings):
        config = ServerConfig(**settings)
        service = make_service(GuardedAgent(agent), config)
        server = uvicorn.Server(uvicorn.Config(make_app(service, config), port=0, log_level="error"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        servers.append((server, thread))
        while not server.started:
            time.sleep(0.01)
        return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", service

    yield start
    for server, thread in reversed(servers):
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()


def wait_until(is_so, timeout_s=60):
    end = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


def n_rows(service):
    return service.source.batch.n_rows


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_frees_its_row_long_before_its_response_ends(serve, local, stream, monkeypatch):
    slow = type(service_batch(local)).step
    monkeypatch.setattr("pege.agent.continuous.ContinuousBatch.step", lambda self: (time.sleep(0.02), slow(self))[1])
    url, service = serve(local, max_tokens=400)
    body = {**HELLO, "stream": stream, "max_tokens": 400, "temperature": 2, "seed": 1}

    async def leave():
        async with httpx.AsyncClient(timeout=60) as client:
            task = asyncio.create_task(client.post(url + "/v1/chat/completions", json=body))
            await asyncio.to_thread(wait_until, lambda: n_rows(service) == 1)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(leave())
    wait_until(lambda: n_rows(service) == 0)
    assert service.metrics.tokens._value.get() == 0
    wait_until(lambda: b'pege_responses_total{outcome="left"} 1.0' in service.metrics.text())


def service_batch(agent):
    from pege.agent.continuous import ContinuousBatch

    return ContinuousBatch(agent)


def test_a_client_that_does_not_read_holds_no_row(serve, local):
    url, service = serve(local)
    body = json.dumps({**HELLO, "stream": True, "max_tokens": 60, "temperature": 2, "seed": 1}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        client.connect(("127.0.0.1", int(url.rsplit(":", 1)[1])))
        client.sendall(head + body)
        wait_until(lambda: b'pege_responses_total{outcome="done"} 1.0' in service.metrics.text())
        assert n_rows(service) == 0
        assert (
            b"".join(client.recv(1) for _ in range(12)) == b"HTTP/1.1 200"
        )  # and it still gets its text, byte by byte
        assert httpx.get(url + "/healthz").status_code == 200


def test_a_time_limit_in_the_middle_of_a_response_frees_its_row(local, monkeypatch):
    slow = type(service_batch(local)).step
    monkeypatch.setattr("pege.agent.continuous.ContinuousBatch.step", lambda self: (time.sleep(0.1), slow(self))[1])

    async def ask():
        service = Service(GuardedAgent(local), timeout_s=0.5, max_tokens=500)
        with pytest.raises(TimeoutError):
            async for _ in service.stream(
                context_of([Message(role="user", content="hi")]), Settings(max_tokens=500, temperature=2, seed=1)
            ):
                pass
        await asyncio.to_thread(wait_until, lambda: n_rows(service) == 0)
        await asyncio.to_thread(service.close)

    asyncio.run(ask())


def test_a_proxy_streams_with_the_same_safety_path_and_settings(serve, local):
    behind, service = serve(local)
    agent = EndpointAgent(f"{behind}/v1", "tiny")
    url, _ = serve(agent)
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        whole = client.chat.completions.create(**HELLO, temperature=0, max_tokens=3)
        assert whole.choices[0].message.content
        chunks = list(client.chat.completions.create(**HELLO, temperature=0, max_tokens=3, stream=True))
        assert "".join(c.choices[0].delta.content or "" for c in chunks) == whole.choices[0].message.content
        assert chunks[-1].model_extra["pege"]["guidance"]["stage"] == "empathy"
        n_before = service.metrics.tokens._value.get()
        crisis = {"model": "m", "messages": [{"role": "user", "content": "I want to kill myself"}]}
        assert client.chat.completions.create(**crisis).choices[0].message.content == help_text("en")
        assert service.metrics.tokens._value.get() == n_before > 0
    agent.client.close()


def test_an_engine_that_is_gone_is_a_500_and_health_stays_up(serve):
    agent = EndpointAgent("http://127.0.0.1:9/v1", "gone", timeout_s=2)
    url, _ = serve(agent)
    assert httpx.post(url + "/v1/chat/completions", json=HELLO, timeout=60).status_code == 500
    assert httpx.get(url + "/healthz").status_code == 200
    agent.client.close()


def test_a_page_of_another_site_and_a_foreign_name_are_refused(serve, local):
    url, _ = serve(local)
    ask = lambda **h: httpx.post(url + "/v1/chat/completions", json=HELLO, headers=h, timeout=60).status_code  # noqa: E731
    assert ask(Origin="https://evil.example") == 403
    assert ask(Host="evil.example") == 400
    assert ask() == 200


def test_pieces_are_the_text_and_one_end_follows(local):
    async def ask(text):
        service = Service(GuardedAgent(local))
        events = [e async for e in service.stream(context_of([Message(role="user", content=text)]), Settings(seed=1))]
        await asyncio.to_thread(service.close)
        return events

    *pieces, done = asyncio.run(ask("hello"))
    assert all(isinstance(p, Piece) for p in pieces)
    assert isinstance(done, Done)
    assert done.text == "".join(p.text for p in pieces) != ""
    assert (done.is_fixed, done.kind) == (False, None)
    *pieces, done = asyncio.run(ask("I want to kill myself"))
    assert [p.text for p in pieces] == [done.text] == [help_text("en")]
    assert (done.is_fixed, done.kind, done.n_new) == (True, "self-harm", None)
    assert done.extras["guidance"]["stage"] == "off"


def test_a_context_of_ten_thousand_messages_is_refused_by_default(serve, local):
    url, _ = serve(local)
    messages = [{"role": ("user", "assistant")[k % 2], "content": "hi"} for k in range(9_999)]
    answer = httpx.post(url + "/v1/chat/completions", json={**HELLO, "messages": messages}, timeout=60)
    assert answer.status_code == 400
    assert "200 messages" in answer.json()["error"]["message"]


def test_an_alert_is_sent_with_kind_and_time_only_and_a_dead_address_harms_nothing(monkeypatch):
    sent = []

    def post(url, *, json, timeout):
        sent.append((url, json))
        raise httpx.ConnectError("gone")

    monkeypatch.setattr(httpx, "post", post)
    Alerts(url="https://alerts.example/hook")("self-harm")
    wait_until(lambda: sent)
    assert sent[0][0] == "https://alerts.example/hook"
    assert set(sent[0][1]) == {"kind", "time"}
    with pytest.raises(ValueError, match="alert_url"):
        ServerConfig(alert_url="http://alerts.example/hook")


def test_an_alert_command_that_fails_is_one_line_of_the_log(caplog):
    for command in (("/no/such/program",), ("false",)):
        Alerts(command)("self-harm")
    wait_until(lambda: len(caplog.records) == 2)
    assert {r.getMessage() for r in caplog.records} == {
        "the alert command failed (FileNotFoundError)",
        "the alert command failed (CalledProcessError)",
    }


def test_a_log_line_is_json_and_has_no_words_of_an_error():
    try:
        raise ValueError("what a person wrote")
    except ValueError:
        import sys

        record = logging.LogRecord(
            "uvicorn.error", logging.ERROR, "x.py", 1, "said %s", ("secret words",), sys.exc_info()
        )
    line = json.loads(JsonFormatter().format(record))
    assert line["error"] == "ValueError"
    assert "wrote" not in json.dumps(line)
    assert "secret" not in json.dumps(line)
    ours = logging.LogRecord("pege.server", logging.INFO, "x.py", 1, "response", (), None)
    ours.fields = {"outcome": "done"}
    assert json.loads(JsonFormatter().format(ours))["outcome"] == "done"
