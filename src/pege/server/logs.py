"""Logs without text of anybody, as JSON or plain, a line each: of an error its type and place, never its message."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
import traceback
from typing import Any

log = logging.getLogger(__name__)


class JsonFormatter(logging.Formatter):
    """A record as one JSON object: time, level, logger, event, and the fields of ``extra={"fields": {...}}``."""

    def format(self, record: logging.LogRecord) -> str:
        """Give the line."""
        return json.dumps(_found(record))


class PlainFormatter(logging.Formatter):
    """The same as words: ``TIME LEVEL LOGGER: EVENT``, then what else there is as ``NAME=VALUE``."""

    def format(self, record: logging.LogRecord) -> str:
        """Give the line."""
        found = _found(record)
        head = f"{found.pop('time')} {found.pop('level')} {found.pop('logger')}: {found.pop('event')}"
        return " ".join([head, *(f"{k}={v}" for k, v in found.items())])


def _found(record: logging.LogRecord) -> dict[str, Any]:
    """What of a record is written."""
    when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    is_ours = record.name.split(".")[0] == "pege"
    # a library's message may carry what a person wrote; its template cannot
    event = record.getMessage() if is_ours else str(record.msg).partition("\n")[0][:200] if record.args else "message"
    found: dict[str, Any] = {
        "time": f"{when}.{int(record.msecs):03d}Z",
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": event,
        **getattr(record, "fields", {}),
    }
    if record.exc_info and record.exc_info[0] is not None:
        frames = traceback.extract_tb(record.exc_info[2])
        found["error"] = record.exc_info[0].__name__
        found["at"] = [f"{f.filename.rsplit('/', 1)[-1]}:{f.lineno} {f.name}" for f in frames[-8:]]
    return found


def log_as_json() -> None:
    """Let all loggers of this process write JSON lines on standard error."""
    _log_by(JsonFormatter())


def log_as_text() -> None:
    """Let all loggers of this process write plain lines on standard error."""
    _log_by(PlainFormatter())


def _log_by(formatter: logging.Formatter) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("pege").setLevel(logging.INFO)
    for name in ("uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
    logging.captureWarnings(True)  # pydantic's quote what they were given
    threading.excepthook = sys.unraisablehook = _log_uncaught


def _log_uncaught(found: Any) -> None:
    """Log that a thread ended, or what could not be raised anywhere."""
    log.error("uncaught", exc_info=(found.exc_type, found.exc_value, found.exc_traceback))
