"""`pege serve` as a process of its own: what a signal, a crowd and slow clients do to it (the table of docs/server.md)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import socket
import threading
import time

import httpx
import pytest
from chat_served import Says, database_of, form_token

from pege.server.app import EventStream
from pege.server.chat.site import PERSON_COOKIE
from pege.server.chat.store import Store

HELLO = {"model": "m", "messages": [{"role": "user", "content": "hello my dog"}]}
LONG = " ".join(f"I am here for you, say number {k}." for k in range(12))


class Waits(Says):
    """Answers when it is let go."""

    def __init__(self, *texts):
        super().__init__(*texts)
        self.may_answer = threading.Event()

    async def stream(self, context, settings):
        while not self.may_answer.is_set():
            await asyncio.sleep(0.01)
        async for piece in super().stream(context, settings):
            yield piece


def wait_until(is_so, timeout_s=60):
    end = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)


def address(server):
    return "127.0.0.1", int(server.base.rsplit(":", 1)[1])


def count(server, line):
    """A value of /metrics."""
    found = re.search(rf"^{re.escape(line)} (\S+)$", httpx.get(f"{server.base}/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def head(n_bytes):
    return (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {n_bytes}\r\n\r\n"
    ).encode()


@pytest.mark.slow
def test_sigterm_ends_what_runs_and_waits_whole_refuses_what_is_new_and_exits_with_0(tmp_path, start):
    server, found = start(Says(LONG, wait_s=0.01), tmp_path, "--max_batch", "1"), {}
    person = httpx.Client(base_url=server.base, timeout=60)
    headers = {"x-csrf-token": form_token(person.get("/").text)}

    def ask(name, path, body, **how):
        found[name] = httpx.post(server.base + path, json=body, timeout=60, **how)

    asks = [
        ("waits", "/v1/chat/completions", HELLO, {}),
        (
            "kept",
            "/respond",
            {"said": [{"content": "hi"}], "keep": True},
            {"headers": headers, "cookies": person.cookies},
        ),
    ]
    threads = [threading.Thread(target=ask, args=(name, path, body), kwargs=how) for name, path, body, how in asks]
    body = {**HELLO, "stream": True}
    with httpx.stream("POST", f"{server.base}/v1/chat/completions", json=body, timeout=60) as answer:
        lines = answer.iter_lines()
        next(lines)
        [t.start() for t in threads]
        wait_until(lambda: count(server, "pege_waiting") == 2)
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not accepts(server))
        assert server.process.poll() is None
        chunks = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks) == LONG
    [t.join() for t in threads]
    assert found["waits"].json()["choices"][0]["message"]["content"] == LONG
    assert "event: done" in found["kept"].text
    assert server.end() == 0
    store = Store(database_of(tmp_path))
    ((_, said),) = store.every(person.cookies[PERSON_COOKIE])
    assert [s.content for s in said] == ["hi", LONG]
    store.close()
    person.close()


def accepts(server):
    with contextlib.suppress(OSError), socket.create_connection(address(server), timeout=1):
        return True
    return False


@pytest.mark.slow
def test_sigterm_lets_a_local_model_end_what_it_generates_and_what_waits(tmp_path, start, tiny_model_dir):
    server = start(None, tmp_path, "--max_batch", "1", "--max_tokens", "1000", run=tiny_model_dir)
    bodies = [{**HELLO, "max_tokens": 1000, "temperature": 2, "seed": k} for k in range(4)]

    async def ask():
        async with httpx.AsyncClient(base_url=server.base, timeout=60) as client:
            asks = [asyncio.create_task(client.post("/v1/chat/completions", json=body)) for body in bodies]
            await asyncio.to_thread(wait_until, lambda: count(server, "pege_waiting") > 0)
            server.process.send_signal(signal.SIGTERM)
            return [answer.status_code for answer in await asyncio.gather(*asks)]

    assert asyncio.run(ask()) == [200] * 4
    assert server.end() == 0


@pytest.mark.slow
def test_ten_times_more_than_fit_are_429_and_all_that_fit_are_answered(tmp_path, start):
    agent = Waits()
    server = start(agent, tmp_path, "--max_batch", "2", "--max_queue", "4")
    limits = httpx.Limits(max_connections=100)

    async def crowd():
        async with httpx.AsyncClient(base_url=server.base, timeout=60, limits=limits) as client:
            asks = [asyncio.create_task(client.post("/v1/chat/completions", json=HELLO)) for _ in range(60)]
            while sum(ask.done() for ask in asks) < 54:
                await asyncio.sleep(0.01)
            health = await client.get("/healthz")
            while "pege_waiting 4.0" not in (await client.get("/metrics")).text:  # all that fit are checked
                await asyncio.sleep(0.05)
            agent.may_answer.set()
            return await asyncio.gather(*asks), health

    answers, health = asyncio.run(crowd())
    refused = [a for a in answers if a.status_code == 429]
    assert len(refused) == 54
    assert {a.headers["retry-after"] for a in refused} == {"1"}
    assert [a.status_code for a in answers if a not in refused] == [200] * 6
    assert health.status_code == 200
    assert httpx.post(f"{server.base}/v1/chat/completions", json=HELLO, timeout=60).status_code == 200
    assert server.send(signal.SIGTERM) == 0


@pytest.mark.slow
def test_who_sends_or_reads_a_byte_at_a_time_holds_no_place_and_is_cut(tmp_path, start):
    limit_s = 8.0
    server = start(Says(LONG), tmp_path, "--max_batch", "1", "--max_queue", "1", "--timeout_s", str(limit_s))
    body = json.dumps({**HELLO, "stream": True}).encode()
    with socket.create_connection(address(server), timeout=20) as sends, socket.create_connection(
        address(server), timeout=20
    ) as reads:  # fmt: skip
        begun = time.monotonic()
        sends.sendall(head(len(body)))
        reads.sendall(head(len(body)) + body)
        received = b""
        for k in range(3):  # a byte a second on both sides
            sends.sendall(body[k : k + 1])
            received += reads.recv(1)
            answer = httpx.post(f"{server.base}/v1/chat/completions", json=HELLO, timeout=limit_s)
            assert answer.status_code == 200  # with one place and one that may wait
            time.sleep(max(0.0, begun + k + 1 - time.monotonic()))
        assert received == b"HTT"
        assert count(server, 'pege_responses_total{outcome="done"}') == 4.0
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for byte in body[3:20]:
                sends.sendall(bytes([byte]))
                time.sleep(0.1)
        cut = b"".join(iter(lambda: receive(sends), b""))
        assert cut.startswith(b"HTTP/1.1 408")
        assert time.monotonic() - begun < limit_s + 10
        rest = b"".join(iter(lambda: receive(reads), b""))
    assert rest.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")  # who reads slowly is given all of it
    assert server.send(signal.SIGTERM) == 0


def receive(client):
    """What comes next; nothing where the connection has ended."""
    try:
        return client.recv(4096)
    except ConnectionResetError:
        return b""


def test_a_stream_that_is_not_read_is_left_and_its_place_is_free():
    closed = []

    async def chunks():
        try:
            while True:
                yield "data: {}\n\n"
        finally:
            closed.append("row")

    async def send(message):
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()  # the socket takes no more

    async def receive_nothing():
        await asyncio.Event().wait()

    async def on_end():
        closed.append("key")

    async def answer():
        response = EventStream(chunks(), limit_s=0.05, on_end=on_end)
        await response({"type": "http", "asgi": {"spec_version": "2.4"}}, receive_nothing, send)

    asyncio.run(answer())
    assert sorted(closed) == ["key", "row"]
