"""What was found for a text, remembered by the text's hash: the text itself is kept nowhere."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

_T = TypeVar("_T")
N_REMEMBERED = 10_000


class Remembered(Generic[_T]):
    """A function of a text that is asked once a text, of the last ``N_REMEMBERED``; for any number of threads.

    Args:
        find: what it raises is raised, and not remembered.
    """

    def __init__(self, find: Callable[[str], _T]) -> None:
        self._find, self._known, self._lock = find, dict[bytes, _T](), threading.Lock()

    def __call__(self, text: str) -> _T:
        """Give what was found for a text."""
        key = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        with self._lock:
            if key in self._known:
                return self._known[key]
        found = self._find(text)
        with self._lock:
            while len(self._known) >= N_REMEMBERED:
                self._known.pop(next(iter(self._known)))
            self._known[key] = found
        return found
