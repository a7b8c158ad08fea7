"""A real server for the tests: `pege study serve` in a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time

import httpx

from postgres import free_port


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
