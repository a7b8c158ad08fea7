"""Plain and JSON logs without text of anybody; tests/server/test_streaming.py has more of the JSON ones."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

import pytest

from pege.server.logs import JsonFormatter, PlainFormatter


def record_of(message, *values, name="uvicorn.error"):
    try:
        raise ValueError("the person wrote: secret words")
    except ValueError:
        return logging.LogRecord(name, logging.ERROR, "x.py", 1, message, values, sys.exc_info())


def test_a_plain_line_has_no_words_of_an_error_or_of_a_librarys_message():
    line = PlainFormatter().format(record_of("said %s\nmore", "secret words"))
    assert "\n" not in line
    assert "error uvicorn.error: said %s error=ValueError at=['test_logs.py:" in line
    assert "record_of" in line
    assert "secret" not in line


def test_a_plain_line_of_ours_has_its_message_and_fields():
    ours = logging.LogRecord("pege.server", logging.INFO, "x.py", 1, "response of %s", ("base",), None)
    ours.fields = {"outcome": "done", "seconds": 1.5}
    assert PlainFormatter().format(ours).endswith("Z info pege.server: response of base outcome=done seconds=1.5")


@pytest.mark.parametrize("message", ["", "secret words"])
def test_a_message_without_values_may_be_anything_and_is_left_out(message):
    assert json.loads(JsonFormatter().format(record_of(message)))["event"] == "message"
    assert "uvicorn.error: message" in PlainFormatter().format(record_of(message))


CODE = """
import logging, threading, warnings
from pege.server import logs
logs.{0}()

class Falls:
    def __del__(self):
        raise ValueError("secret words")

def fall():
    secret = "secret words"
    raise ValueError(secret)

def ask(asgi):
    import asyncio, logging
    logging.getLogger("uvicorn.error").error("Exception in ASGI application", exc_info=ValueError("secret words"))

thread = threading.Thread(target=fall)
thread.start()
thread.join()
Falls()
warnings.warn("secret words")
ask(None)
"""


@pytest.mark.parametrize("how", ["log_as_json", "log_as_text"])
def test_nothing_that_a_process_writes_by_itself_has_words_of_an_error(how):
    done = subprocess.run([sys.executable, "-c", CODE.format(how)], capture_output=True, text=True, check=True)
    assert "secret" not in done.stderr + done.stdout
    assert done.stderr.count("ValueError") == 3
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 4
