"""Which dialogs are near-duplicates of which: pairs joined into groups, the first of each stays."""

from __future__ import annotations


class Linked:
    """Groups of keys, by union-find; the smallest key of a group is its first, whatever the order of the pairs."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def join(self, a: str, b: str) -> None:
        """Put two keys into one group."""
        first, other = sorted((self._find(a), self._find(b)))
        self._parent[other] = first

    def others(self) -> dict[str, str]:
        """Key of each duplicate -> key of the dialog that stays, in order."""
        return {k: first for k in sorted(self._parent) if (first := self._find(k)) != k}

    def _find(self, key: str) -> str:
        root = key
        while (above := self._parent.setdefault(root, root)) != root:
            root = above
        while self._parent[key] != root:
            self._parent[key], key = root, self._parent[key]
        return root
