"""An owner's alert at a hit of the crisis check: a command, a web address, or both; no text of anybody's."""

from __future__ import annotations

import logging
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
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
        self._pool = ThreadPoolExecutor(_N_AT_ONCE, thread_name_prefix="pege-alert")
        self._room = threading.Semaphore(_N_AT_ONCE + _N_WAITING)

    def __call__(self, kind: str) -> None:
        """Tell of a hit: ``self-harm``, ``harm-to-others``, ``abuse`` or ``check-failed``."""
        if not (self._command or self._url):
            return
        if not self._room.acquire(blocking=False):
            log.error("too many alerts wait; one was not told")
            return
        self._pool.submit(self._tell, kind, datetime.now(UTC)).add_done_callback(lambda _: self._room.release())

    def close(self) -> None:
        """Wait until all is told."""
        self._pool.shutdown()

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
