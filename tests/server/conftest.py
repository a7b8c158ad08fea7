"""What tests of the server start is ended with them."""

from __future__ import annotations

import contextlib

import pytest
from chat_served import Process


@pytest.fixture
def start():
    """Start `pege serve` as a process, see `chat_served.Process`."""
    with contextlib.ExitStack() as stack:
        yield lambda *args, **settings: stack.enter_context(contextlib.closing(Process(*args, **settings)))
