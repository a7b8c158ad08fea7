"""A PostgreSQL cluster of its own, for the tests of both web apps."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def silent_server(*, for_s):
    """What takes connections and says nothing, and is gone after a while; gives its URL as that of a PostgreSQL."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(256)  # the kernel takes them
        end = threading.Timer(for_s, lambda: listener.shutdown(socket.SHUT_RDWR))
        end.start()
        try:
            yield f"postgresql://pege@127.0.0.1:{listener.getsockname()[1]}/pege"
        finally:
            end.cancel()


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
