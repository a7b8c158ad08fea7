"""The proxy before an engine that fails in every way: each request has an end, and whether the engine is there is known."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time

import httpx
import pytest
from test_server import Served

from engine import Engine, delta
from pege.agent.ask import End
from pege.agent.endpoint import EndpointAgent, TooLongError
from pege.agent.settings import Settings
from pege.dialog import Context, make_dialog
from pege.server.batching import ModelFailedError, Proxy

HELLO = Context(utterances=make_dialog(["hello"]).messages)
BRIEF_S = 20.0  # a request that hangs fails the test


@pytest.fixture
def engine():
    with contextlib.closing(Engine()) as running:
        yield running


def proxied(url, use, *, timeout_s=10.0):
    """Use a proxy in an event loop of its own."""
    agent = EndpointAgent(url, "m", timeout_s=timeout_s)

    async def run():
        async with agent.async_client, asyncio.timeout(BRIEF_S):
            return await use(Proxy(agent.answer, max_parallel=2, max_queue=2, is_up=agent.is_up))

    with contextlib.closing(agent.client):
        return asyncio.run(run())


async def agent_is_up():
    return True


async def answer_of(proxy):
    return [piece async for piece in proxy.stream(HELLO, Settings(max_tokens=10))]


def closes(call):
    call.begin()
    call.send(delta("I was"))
    call.close_connection = True  # without the last chunk


def closes_as_if_whole(call):
    call.protocol_version = "HTTP/1.0"
    call.send_response(200)
    call.send_header("Content-Type", "text/event-stream")
    call.end_headers()
    call.wfile.write(b'data: {"choices": [{"index": 0, "delta": {"content": "I was"}}]}\n\n')
    call.close_connection = True


def stalls(call):
    call.begin()
    call.send(delta("I was"))
    time.sleep(2)


BROKEN = {
    "it closes the connection": closes,
    "it ends without a reason": closes_as_if_whole,
    "no JSON": lambda call: call.stream(delta("I was"), "data: {broken\n\n"),
    "JSON of another form": lambda call: call.stream("data: 5\n\n", "data: null\n\n", 'data: {"choices": [3]}\n\n'),
    "no events": lambda call: call.refuse(200, "<html>hello</html>"),
    "bytes": lambda call: call.stream("\0\r\r\n\n: \n\n"),
    "an error as an event": lambda call: call.stream(delta("I was"), {"error": {"message": "out of memory"}}),
    "an error as an event of that name": lambda call: call.stream('event: error\ndata: {"error": "boom"}\n\n'),
    "a compressed lie": lambda call: (call.send_response(200), call.send_header("Content-Encoding", "gzip"), call.send_header("Content-Length", "4"), call.end_headers(), call.wfile.write(b"oops")),
    "it stalls": stalls,
}  # fmt: skip


@pytest.mark.parametrize("way", BROKEN)
def test_an_engine_that_breaks_ends_the_request_as_failed(engine, way):
    engine.answer = BROKEN[way]
    with pytest.raises(ModelFailedError):
        proxied(engine.url, answer_of, timeout_s=0.5 if way == "it stalls" else 10.0)


def test_what_an_answer_raises_ends_the_request_and_frees_its_place():
    async def raises(ask):
        raise KeyError("a bug")

    async def forgets(ask):
        ask.give("I was")

    async def run():
        async with asyncio.timeout(BRIEF_S):
            for answer in (raises, forgets):
                proxy = Proxy(answer, is_up=agent_is_up, max_parallel=1, max_queue=1)
                for _ in range(3):
                    with pytest.raises(ModelFailedError):
                        await answer_of(proxy)

    asyncio.run(run())


def test_chunks_without_text_are_passed_over(engine):
    odd = [{**delta(), "choices": []}, {**delta(), "choices": None}, {"id": "1"}, delta(content=None), delta(content=[{"type": "text"}])]  # fmt: skip
    bare = {**delta(), "choices": [{"index": 0, "delta": None}, {"index": 1}]}
    usage = {**delta(), "choices": [], "usage": {"prompt_tokens": "many", "completion_tokens": -1}}
    engine.answer = lambda call: call.stream(*odd, bare, delta("fine."), delta(finish="stop"), usage)
    assert proxied(engine.url, answer_of) == ["fine.", End("stop", None, None)]


def test_half_a_character_is_none(engine):
    engine.answer = lambda call: call.stream(
        delta("so \ud83d"), delta("\ude00"), delta("\U0001f600."), delta(finish="stop")
    )
    assert proxied(engine.url, answer_of) == ["so \ufffd", "\ufffd", "\U0001f600.", End("stop")]


def test_a_model_that_only_reasons_has_said_nothing(engine):
    engine.answer = lambda call: call.stream(delta(reasoning_content="Hm."), delta(finish="length"))
    assert proxied(engine.url, answer_of) == [End("length")]


def test_a_text_beyond_the_limit_of_tokens_is_cut_and_the_connection_closed(engine):
    goes_on = threading.Event()

    def floods(call):
        call.begin()
        call.send(delta("a" * 10_000_000))
        try:
            while True:
                call.send(delta("b" * 10_000))
        except ConnectionError:
            goes_on.set()

    engine.answer = floods
    *pieces, end = proxied(engine.url, answer_of)
    assert "".join(pieces) == "a" * 640  # 64 characters for each of the ten tokens
    assert end == End("length")
    assert goes_on.wait(BRIEF_S)


def test_what_is_too_long_is_told_apart(engine):
    engine.answer = lambda call: call.refuse(400, {"error": {"code": "context_length_exceeded", "message": "no"}})
    with pytest.raises(ModelFailedError) as found:
        proxied(engine.url, answer_of)
    assert isinstance(found.value.__cause__, TooLongError)


def test_a_proxy_is_ready_only_while_its_engine_answers(engine, monkeypatch):
    monkeypatch.setattr(Proxy, "_ASK_AGAIN_S", 0.0)

    async def use(proxy):
        found = [await proxy.ready()]
        engine.models = (503, {"error": "loading"})
        found.append(await proxy.ready())
        engine.models = (200, {})
        found.append(await proxy.ready())
        await asyncio.to_thread(engine.close)
        found.append(await proxy.ready())
        return found

    assert proxied(engine.url, use) == [True, False, True, False]


def test_an_engine_is_asked_whether_it_is_there_once_in_a_while_by_whoever_asks(engine):
    async def use(proxy):
        return await asyncio.gather(*(proxy.ready() for _ in range(50)))

    assert proxied(engine.url, use) == [True] * 50
    assert engine.looked == ["/v1/models"]


def test_an_engine_that_takes_the_question_and_never_answers_is_not_there(engine, monkeypatch):
    monkeypatch.setattr("pege.agent.endpoint._UP_S", 0.3)
    hang = threading.Event()
    engine._server.RequestHandlerClass.do_GET = lambda call: hang.wait(5)

    async def use(proxy):
        start = time.monotonic()
        return await proxy.ready(), time.monotonic() - start

    is_ready, seconds = proxied(engine.url, use)
    hang.set()
    assert (is_ready, seconds < 2) == (False, True)


def test_a_proxy_that_is_closed_is_not_ready(engine):
    async def use(proxy):
        proxy.close(1.0)
        return await proxy.ready()

    assert proxied(engine.url, use) is False


@pytest.fixture
def proxy(engine):
    agent = EndpointAgent(engine.url, "m")
    served = Served(agent)
    yield served.url
    served.stop()
    agent.client.close()


def asked(proxy, **more):
    body = {"model": "m", "messages": [{"role": "user", "content": "hello my dog"}], **more}
    return httpx.post(proxy + "/v1/chat/completions", json=body, timeout=30)


@pytest.mark.parametrize("stream", [True, False])
def test_a_message_longer_than_the_engine_reads_is_the_clients_fault(engine, proxy, stream):
    engine.answer = lambda call: call.refuse(400, {"error": {"code": "context_length_exceeded", "message": "no"}})
    answer = asked(proxy, stream=stream)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "the last message is longer than the model reads"


def test_an_engine_that_is_full_is_said_to_be(engine, proxy):
    engine.answer = lambda call: call.refuse(429, {"error": {"message": "full"}})
    answer = asked(proxy)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")


def test_a_proxy_whose_engine_is_gone_is_not_ready(engine, proxy, monkeypatch):
    monkeypatch.setattr("pege.server.batching.Proxy._ASK_AGAIN_S", 0.0)
    assert httpx.get(proxy + "/readyz").status_code == 200
    engine.close()
    assert httpx.get(proxy + "/readyz").status_code == 503
    assert httpx.get(proxy + "/healthz").status_code == 200


def test_the_engines_count_of_tokens_reaches_the_client(engine, proxy):
    usage = {**delta(), "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}}
    engine.answer = lambda call: call.stream(delta("I hear you."), delta(finish="stop"), usage)
    assert asked(proxy).json()["usage"] == {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
