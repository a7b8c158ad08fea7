"""What the two web apps share: bind address, body size limit, security headers, rate limit, escaped pages.

Nothing here knows of dialogs or ratings. Imports of the web extra stay inside functions.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pege.errors import InputError

if TYPE_CHECKING:
    from jinja2 import Environment
    from starlette.applications import Starlette
    from starlette.requests import HTTPConnection, Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

LOCALHOST = "127.0.0.1"  # no server of ours is open to a network unless told
MAX_BODY_BYTES = 64 * 1024
BODY_S = 30.0  # from the head of a request to the end of its body
FAILED_KEYS_PER_MINUTE = 10  # of an address
THIS_MACHINE = ("127.0.0.1", "::1")
# Only our own files run, and nothing inline: a dialog's text that slips into a page as markup still does nothing.
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": CONTENT_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",  # a personal link must not leave in a Referer
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}


def need_web(feature: str) -> None:
    """Check that the packages of the web extra are installed.

    Raises:
        InputError: they are not.
    """
    import importlib.util

    wanted = ("fastapi", "uvicorn", "sqlalchemy", "alembic", "itsdangerous", "limits", "multipart")
    missing = [name for name in wanted if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"{feature} needs {', '.join(missing)}", fix="pip install 'pege[web]'")


class SecurityHeaders:
    """ASGI middleware: the headers above on every response, unless the response has set its own."""

    def __init__(self, app: ASGIApp, *, headers: dict[str, str] | None = None) -> None:
        self.app, self.headers = app, {**HEADERS, **(headers or {})}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a connection on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                ours = ((n.encode(), v.encode()) for n, v in self.headers.items() if n.encode() not in given)
                message["headers"] = [*message["headers"], *ours]
            await send(message)

        await self.app(scope, receive, send_with_headers)


class BodyLimit:
    """ASGI middleware: a body above ``max_bytes`` is answered with 413, whatever its Content-Length claims.

    One that is not there after ``limit_s`` seconds is answered with 408. Both end the connection.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int = MAX_BODY_BYTES, limit_s: float = BODY_S) -> None:
        self.app, self.max_bytes, self.limit_s = app, max_bytes, limit_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a connection on, or refuse its body."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        from starlette.responses import PlainTextResponse

        # The body is read before the app runs: so none of it is acted on, and no place is taken, before it is whole.
        body, more, refused = bytearray(), True, None
        try:
            async with asyncio.timeout(self.limit_s):
                while more and len(body) <= self.max_bytes:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return
                    body += message.get("body", b"")
                    more = message.get("more_body", False)
        except TimeoutError:
            refused = PlainTextResponse("The request came too slowly.\n", 408, {"connection": "close"})
        if len(body) > self.max_bytes:
            refused = PlainTextResponse("The request is too large.\n", 413, {"connection": "close"})
        if refused is not None:
            await refused(scope, receive, send)
            return
        given = False

        async def receive_again() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": bytes(body), "more_body": False}

        await self.app(scope, receive_again, send)


def secure_app(
    app: Starlette,
    *,
    max_body_bytes: int = MAX_BODY_BYTES,
    body_s: float = BODY_S,
    headers: dict[str, str] | None = None,
    hosts: Sequence[str] = ("*",),
) -> None:
    """Put the shared middleware around an app.

    Args:
        app: a FastAPI or Starlette app.
        max_body_bytes: of a request.
        body_s: seconds in which its body must be there.
        headers: over the shared security headers, lower-case names.
        hosts: names the app answers to; a page elsewhere whose name is pointed at this machine gets a 400.
    """
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    app.add_middleware(BodyLimit, max_bytes=max_body_bytes, limit_s=body_s)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    app.add_middleware(SecurityHeaders, headers=headers)  # the last added is the outermost: also on refusals


class RateLimit:
    """A moving window per key, in this process's memory.

    Args:
        per_minute: how many requests of a key go through in any minute, at least 1.
    """

    def __init__(self, per_minute: int) -> None:
        from limits import RateLimitItemPerMinute
        from limits.storage import MemoryStorage
        from limits.strategies import MovingWindowRateLimiter

        self._rate = RateLimitItemPerMinute(per_minute)
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def allows(self, key: str) -> bool:
        """Count one request of a key; whether it is within the limit."""
        return bool(self._limiter.hit(self._rate, key))

    def is_open(self, key: str) -> bool:
        """Whether one more request of a key would be within the limit; counts none."""
        return bool(self._limiter.test(self._rate, key))

    def retry_s(self, key: str) -> int:
        """Seconds after which a request of a key goes through again, at least 1, for ``Retry-After``."""
        import math
        import time

        reset_time: float = self._limiter.get_window_stats(self._rate, key).reset_time
        return max(1, math.ceil(reset_time - time.time()))


def client_address(connection: HTTPConnection) -> str:
    """Address that a request or a WebSocket comes from; behind a proxy that `run_app` trusts, what its headers say."""
    return connection.client.host if connection.client else "unknown"


def is_same_origin(connection: HTTPConnection, base_url: str | None = None) -> bool:
    """Whether a request that changes something comes from a page of this server, by ``Origin`` where it is sent.

    Args:
        connection: the request.
        base_url: where people reach the server, if it is known; a proxy may send another ``Host`` than theirs.
    """
    given = connection.headers.get("origin")
    if given is None:
        return True
    origin = _origin(given)
    return origin is not None and (
        (base_url is not None and origin == _origin(base_url))
        or given.partition("://")[2] == connection.headers.get("host")
    )


def _origin(url: str) -> tuple[str, str | None, int | None] | None:
    """Scheme, host and port of an address, the scheme's own port where none is named; None where it is no address."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return None


async def read_fields(request: Request, *, most: int) -> dict[str, str]:
    """Give the fields of a form, of which there are ``most`` at most; files are none."""
    async with request.form(max_files=0, max_fields=most) as form:
        return {k: v for k, v in form.items() if isinstance(v, str)}


def referring_path(connection: HTTPConnection) -> str:
    """Give the path of the page that a request says it comes from, to go back to; ``/`` where it names none."""
    from urllib.parse import urlsplit

    try:
        path = urlsplit(connection.headers.get("referer", "")).path
    except ValueError:  # no address at all
        return "/"
    return path if path.startswith("/") and not path.startswith("//") else "/"


def browser_language(connection: HTTPConnection) -> str | None:
    """The language that a browser wants most, where it is one of ours: ``en`` or ``zh``."""
    first = connection.headers.get("accept-language", "").lower().split(",")[0]
    return next((language for language in ("en", "zh") if first.startswith(language)), None)


@functools.cache
def page_words(file: Path, language: str) -> dict[str, str]:
    """Pages' own words in a language: of a YAML mapping of languages."""
    import yaml

    found = yaml.safe_load(file.read_text(encoding="utf-8"))[language]
    return {str(k): str(v) for k, v in found.items()}


def static_files(folder: Path) -> ASGIApp:
    """Give the files of a folder, and those that all apps share (``assets/pages/shared``)."""
    from starlette.staticfiles import StaticFiles

    return StaticFiles(directory=folder, packages=[("pege", "assets/pages/shared")])


def page_templates(folder: Path) -> Environment:
    """Give the templates of a folder; all that is put into them is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def trust_proxies(proxies: Sequence[str]) -> dict[str, Any]:
    """Give the settings of uvicorn by which ``X-Forwarded-For`` and ``-Proto`` of these peers hold, and of no others.

    Args:
        proxies: addresses and networks, e.g. ``10.0.0.0/8``.

    Raises:
        InputError: one is neither; a name or ``*`` would let anybody say where a request comes from.
    """
    for proxy in proxies:
        try:
            ipaddress.ip_network(proxy)
        except ValueError as e:
            raise InputError(
                f"{proxy!r} is no address and no network",
                where="--forwarded_allow_ips",
                fix="e.g. 10.0.0.2 or 10.0.0.0/8",
            ) from e
    return {"proxy_headers": bool(proxies), "forwarded_allow_ips": list(proxies)}


def run_app(
    app: Any,
    *,
    host: str = LOCALHOST,
    port: int,
    on_start: Callable[[str], None] = lambda _: None,
    proxies: Sequence[str] = THIS_MACHINE,
    **settings: Any,
) -> None:
    """Serve an app until Ctrl-C or SIGTERM, which answers what is asked and ends the process with exit code 0.

    Requests are not logged: their paths hold personal links.

    Args:
        app: the ASGI app.
        host: address to bind; others than loopback are warned about.
        port: to bind; 0 is any that is free.
        on_start: called with ``http://HOST:PORT`` when the port is bound.
        proxies: those before the server, see `trust_proxies`.
        settings: further ones of ``uvicorn.Config``.

    Raises:
        InputError: the port cannot be bound, or a proxy is no address.
    """
    import signal
    import socket
    import sys

    import uvicorn

    settings |= trust_proxies(proxies)
    if not is_loopback(host):
        log.warning("bound to %s: open to the network; put a proxy with TLS before it", host)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as e:
        listener.close()
        raise InputError(f"port {port} of {host} cannot be bound ({e})", where="--port", fix="name another") from e
    on_start(f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}")
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, lifespan="auto", **settings
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn sends it on, once it has drained
    with listener:
        uvicorn.Server(config).run(sockets=[listener])
