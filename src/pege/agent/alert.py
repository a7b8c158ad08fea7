"""An owner's alert at a hit of the crisis check: a command, a web address, or both; no text of anybody's."""

from __future__ import annotations

import atexit
import logging
import queue
import subprocess
import threading
from datetime import UTC, datetime

log = logging.getLogger(__name__)
_N_AT_ONCE, _N_WAITING = 4, 256
_ALERT_S, _COMMAND_S = 10.0, 60.0


class Alerts:
    """Tells of hits without waiting for it; what fails is only logged.

    A few are told at once and some hundreds wait; what is beyond is logged, so that a flood of hits starts no flood of
    programs.

    Args:
        command: a program and its arguments; the kind is put behind them.
        url: is sent kind and time as JSON.
    """

    def __init__(self, command: tuple[str, ...] = (), url: str | None = None) -> None:
        self._command, self._url = command, url
        self._waiting: queue.Queue[tuple[str, datetime]] = queue.Queue(_N_WAITING)
        for _ in range(_N_AT_ONCE):  # daemons: an alert that hangs does not keep the program from ending
            threading.Thread(target=self._work, name="pege-alert", daemon=True).start()
        atexit.register(self.close)

    def __call__(self, kind: str) -> None:
        """Tell of a hit: ``self-harm``, ``harm-to-others``, ``abuse`` or ``check-failed``."""
        try:
            self._waiting.put_nowait((kind, datetime.now(UTC)))
        except queue.Full:
            log.error("too many alerts wait; one was not told")

    def close(self, limit_s: float = 10.0) -> None:
        """Wait until all is told, so many seconds at most; what was not told by then is logged."""
        with self._waiting.all_tasks_done:
            self._waiting.all_tasks_done.wait_for(lambda: not self._waiting.unfinished_tasks, limit_s)
        if n := self._waiting.unfinished_tasks:
            log.error("%d alerts were not told", n)

    def _work(self) -> None:
        while True:
            kind, when = self._waiting.get()
            try:
                self._tell(kind, when)
            finally:
                self._waiting.task_done()

    def _tell(self, kind: str, when: datetime) -> None:
        if self._command:
            _run([*self._command, kind])
        if self._url:
            _send(self._url, {"kind": kind, "time": when.isoformat(timespec="seconds")})


def _run(call: list[str]) -> None:
    try:
        subprocess.run(call, timeout=_COMMAND_S, stdin=subprocess.DEVNULL, check=True)  # noqa: S603  # the owner names it
    except (OSError, subprocess.SubprocessError) as e:
        log.error("the alert command failed (%s)", type(e).__name__)


def _send(url: str, told: dict[str, str]) -> None:
    import httpx

    try:
        httpx.post(url, json=told, timeout=_ALERT_S).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as e:
        log.error("the alert could not be sent (%s)", type(e).__name__)
