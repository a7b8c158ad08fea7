"""What tests of the server start is ended with them."""

from __future__ import annotations

import contextlib

import pytest
from chat_served import Process, database_of

from pege.server.chat.store import Store


@pytest.fixture
def start():
    """Start `pege serve` as a process, see `chat_served.Process`."""
    with contextlib.ExitStack() as stack:
        yield lambda *args, **settings: stack.enter_context(contextlib.closing(Process(*args, **settings)))


@pytest.fixture
def store(tmp_path):
    """The store of kept dialogs, in a file of the test's own."""
    found = Store(database_of(tmp_path))
    yield found
    found.close()
