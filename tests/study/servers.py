"""Real servers for the tests: `pege study serve` in a process of its own, and a PostgreSQL cluster."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Served:
    """`pege study serve` on a port of its own; can be killed and started again."""

    def __init__(self, folder, *, database=None, per_minute=100_000):
        self.port = free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        self._command = [sys.executable, "-m", "pege", "study", "serve", str(folder), "--port", str(self.port)]
        self._command += ["--requests-per-minute", str(per_minute)]
        self._environment = {**os.environ, **({"PEGE_STUDY_DATABASE": database} if database else {})}
        self._log = folder.parent / "serve.log"
        self.start()

    def start(self):
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self._command, env=self._environment, stdout=log, stderr=log)
        for _ in range(300):
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.base}/health", timeout=1).status_code == 200:
                    return
            if self.process.poll() is not None:
                raise RuntimeError(self._log.read_text())
            time.sleep(0.1)
        raise RuntimeError("the server does not answer")

    def kill(self):
        """As the power goes: no chance to tidy up."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=10)


@contextlib.contextmanager
def served(folder, **how):
    server = Served(folder, **how)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.stop()


def why_no_postgres():
    """A reason to skip, or None."""
    missing = [name for name in ("initdb", "postgres") if shutil.which(name) is None]
    return f"PostgreSQL is not installed: no {' and no '.join(missing)} on the PATH" if missing else None


@contextlib.contextmanager
def postgres_cluster():
    """A cluster of its own, on a free port of this machine, by a user without rights where we are root; gives its URL."""
    folder = Path(tempfile.mkdtemp(prefix="pege-pg-"))
    user = "nobody" if os.getuid() == 0 else None
    if user:
        shutil.chown(folder, user)
    port, data = free_port(), folder / "data"
    how = {"user": user, "cwd": folder, "env": {"PATH": os.environ["PATH"], "LC_ALL": "C"}}
    subprocess.run(
        ["initdb", "--pgdata", data, "--username", "pege", "--auth", "trust", "--encoding", "UTF8"],
        check=True, stdout=subprocess.DEVNULL, **how,
    )  # fmt: skip
    options = ["-p", str(port), "-k", folder, "-h", "127.0.0.1", "-c", "max_connections=120"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(["postgres", "-D", data, *options], stdout=log, stderr=log, **how)
    try:
        _wait_for(port, process)
        yield f"postgresql://pege@127.0.0.1:{port}/postgres"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(port, process):
    import psycopg

    for _ in range(200):
        try:
            psycopg.connect(f"postgresql://pege@127.0.0.1:{port}/postgres").close()
            return
        except psycopg.OperationalError:
            if process.poll() is not None:
                raise
            time.sleep(0.1)
    raise RuntimeError("PostgreSQL does not answer")
