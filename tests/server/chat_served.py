"""The web chat for the tests: agents that say what they are told, the app, a server in a thread or a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import uvicorn

from pege.agent import GuardedAgent
from pege.agent.ask import End
from pege.dialog import Emotion
from pege.server.app import make_app, make_service
from pege.server.config import ServerConfig

BASE = "http://127.0.0.1:8000"
HOSTILE = "<img src=x onerror=alert(1)><script>alert(1)</script>\"'></p>{{ 7 * 7 }} javascript:alert(1)"
CRISES = {"en": "I want to kill myself tonight", "zh": "我不想活了，想自杀"}


class Says:
    """Gives its texts in turn, a word at a time, each after a wait; keeps what it was asked, and what was given up.

    It stands where the model does: the crisis check is before it and the output filter behind it.
    """

    name, n_waiting, can_support = "says", 0, False

    def __init__(self, *texts, wait_s=0.0):
        self.texts, self.wait_s, self.asked = list(texts) or ["I am here for you. Tell me more."], wait_s, []
        self.error, self.n_given_up = None, 0

    async def stream(self, context, settings):
        self.asked.append([u.content for u in context.utterances])
        if self.error:
            raise self.error
        text = self.texts[(len(self.asked) - 1) % len(self.texts)]
        try:
            for word in re.findall(r"\S+\s*", text):
                await asyncio.sleep(self.wait_s)
                yield word
            yield End()
        except (GeneratorExit, asyncio.CancelledError):
            self.n_given_up += 1
            raise

    def respond(self, contexts, *, seed=None):
        raise AssertionError("the service asks the source")

    def close(self, timeout_s):
        pass


def emotions(texts):
    return [Emotion(negative=0.8, neutral=0.15, positive=0.05) for _ in texts]


def app_of(agent, store=None, **config):
    """The whole server's app, as `pege serve` makes it; without a store as with `--chat=false`."""
    config = ServerConfig(**{"requests_per_minute": 100_000, **config})
    service = make_service(GuardedAgent(agent, emotions=emotions), config)
    service.source.close(1)
    service.source = service._support = agent
    return make_app(service, config, store=store)


@contextlib.contextmanager
def served(agent, store=None, **config):
    """A server in a thread; gives its address."""
    server = uvicorn.Server(uvicorn.Config(app_of(agent, store, **config), port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


class Process:
    """`pege serve` in a process of its own, its dialogs kept in a folder; without a run a proxy to an agent of the test.

    No file of the process may grow beyond ``limit_bytes``.
    """

    def __init__(self, agent, folder, *flags, run=None, limit_bytes=None):
        self._engine = contextlib.ExitStack()
        run = run or f"{self._engine.enter_context(served(agent))}/v1#says"
        command = [sys.executable, "-m", "pege", "serve", str(run), "--port", "0"]
        limit = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
        self.process = subprocess.Popen(
            [*command, "--database", database_of(folder), *flags],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            preexec_fn=limit if limit_bytes else None,
        )
        self.base = self.process.stdout.readline().removesuffix("/v1\n")
        for _ in range(600):
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.base}/healthz", timeout=1).status_code == 200:
                    return
            assert self.process.poll() is None
            time.sleep(0.05)
        raise RuntimeError("the server does not answer")

    def send(self, number):
        """Send a signal, wait for the end, and give the exit code."""
        self.process.send_signal(number)
        return self.end()

    def end(self):
        return self.process.wait(60)

    def close(self):
        """Kill it where it still runs."""
        with self._engine, self.process.stdout:
            self.send(signal.SIGKILL)


def form_token(text):
    return re.search(r'name="csrf" content="([^"]+)"', text)[1]


def database_of(folder):
    return f"sqlite:///{Path(folder) / 'chat.db'}"
