"""What the web apps share."""

from __future__ import annotations

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from pege.errors import InputError
from pege.web import (
    HEADERS,
    RateLimit,
    client_address,
    is_loopback,
    is_same_origin,
    need_web,
    page_templates,
    referring_path,
    run_app,
    secure_app,
    trust_proxies,
)

BASE = "https://study.example"


async def echo(request):
    return PlainTextResponse(
        f"{len(await request.body())} {is_same_origin(request, BASE)}", headers={"x-frame-options": "SAMEORIGIN"}
    )


@pytest.fixture
def client():
    app = Starlette(routes=[Route("/", echo, methods=["GET", "POST"])])
    secure_app(app, max_body_bytes=100, headers={"referrer-policy": "no-referrer"}, hosts=["testserver"])
    return TestClient(app)


def test_headers_are_on_every_response_and_an_apps_own_stand(client):
    for answered in (client.get("/"), client.get("/no"), client.get("/", headers={"host": "evil"})):
        assert answered.headers["content-security-policy"] == HEADERS["content-security-policy"]
        assert answered.headers["referrer-policy"] == "no-referrer"
    assert client.get("/").headers["x-frame-options"] == "SAMEORIGIN"
    assert client.get("/", headers={"host": "evil"}).status_code == 400


@pytest.mark.parametrize(("n", "status"), [(100, 200), (101, 413)])
def test_a_body_is_as_long_as_the_limit_or_refused(client, n, status):
    assert client.post("/", content=b"x" * n).status_code == status
    assert client.post("/", content=(b"x" for _ in range(n))).status_code == status  # in pieces, without a length


def test_the_origin_is_the_host_or_where_people_reach_the_server(client):
    assert client.get("/").text == "0 True"
    for origin in ("http://testserver", BASE, f"{BASE}:443"):  # a proxy may send another Host than the browser's
        assert client.get("/", headers={"origin": origin}).text == "0 True"
    for origin in ("http://evil.example", "http://testserver.evil.example", "null", "http://study.example", f"{BASE}:8443",
                   "https://study.example.evil", "http://[", "http://x:99999", ""):  # fmt: skip
        assert client.get("/", headers={"origin": origin}).text == "0 False"


@pytest.mark.parametrize(
    ("referer", "path"),
    [("http://testserver/a/b?c=d", "/a/b"), ("", "/"), ("http://testserver", "/"), ("http://x//evil.example", "/"), ("http://[", "/")],
)  # fmt: skip
def test_the_way_back_is_a_path_of_ours(referer, path):
    assert referring_path(Request({"type": "http", "headers": [(b"referer", referer.encode())]})) == path


def test_a_key_has_its_own_limit():
    limit = RateLimit(2)
    assert [limit.allows("a"), limit.allows("a"), limit.allows("a"), limit.allows("b")] == [True, True, False, True]


def test_a_limit_is_looked_at_without_counting():
    limit = RateLimit(1)
    assert [limit.is_open("a"), limit.is_open("a"), limit.allows("a"), limit.is_open("a")] == [True, True, True, False]
    assert limit.is_open("b")


async def show(request):
    return PlainTextResponse(f"{client_address(request)} {request.url.scheme}")


def seen(proxies, peer, forwarded, scheme="https"):
    """What an app makes of a request that a peer sends, behind the proxies that it trusts."""
    config = uvicorn.Config(Starlette(routes=[Route("/", show)]), **trust_proxies(proxies))
    config.load()
    headers = {"x-forwarded-for": forwarded, "x-forwarded-proto": scheme}
    return TestClient(config.loaded_app, client=(peer, 1)).get("/", headers=headers).text


def test_only_a_proxy_that_is_named_says_where_a_request_comes_from():
    assert seen(["10.0.0.0/8"], "10.0.0.2", "203.0.113.5") == "203.0.113.5 https"
    assert seen(["10.0.0.0/8"], "198.51.100.7", "203.0.113.5") == "198.51.100.7 http"  # forged
    assert seen([], "127.0.0.1", "203.0.113.5") == "127.0.0.1 http"
    assert (
        seen(["10.0.0.2"], "10.0.0.2", "1.2.3.4, 203.0.113.5") == "203.0.113.5 https"
    )  # the first one is the client's


@pytest.mark.parametrize("proxy", ["*", "proxy.example", "", "10.0.0.5/8"])
def test_a_proxy_is_an_address_or_a_network(proxy):
    with pytest.raises(InputError, match="no address and no network"):
        trust_proxies(["127.0.0.1", proxy])


@pytest.mark.parametrize(("given", "trusted"), [({}, "127.0.0.1"), ({"proxies": ["10.0.0.2"]}, "10.0.0.2")])
def test_a_server_trusts_the_proxies_it_was_told_and_no_variable(given, trusted, monkeypatch):
    import signal

    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    ran = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: ran.append(self.config))
    run_app(show, port=0, **given)
    assert trusted in ran[0].forwarded_allow_ips
    assert "*" not in ran[0].forwarded_allow_ips


def test_pages_escape_what_is_put_in(tmp_path):
    (tmp_path / "p.html.j2").write_text("<p title='{{ x }}'>{{ x }}</p>")
    text = page_templates(tmp_path).get_template("p.html.j2").render(x="<b>'\"")
    assert text == "<p title='&lt;b&gt;&#39;&#34;'>&lt;b&gt;&#39;&#34;</p>"


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("x.org", False)],
)
def test_loopback_is_known(host, expected):
    assert is_loopback(host) is expected


def test_a_port_that_is_taken_is_one_line():
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match="cannot be bound"):
            run_app(None, port=taken.getsockname()[1])


def test_a_missing_web_extra_is_one_line(monkeypatch):
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None if name == "uvicorn" else found(name))
    with pytest.raises(InputError, match=r"pege study needs uvicorn; pip install 'pege\[web\]'"):
        need_web("pege study")
