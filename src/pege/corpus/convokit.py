"""ConvoKit corpora: a folder with ``utterances.jsonl``, read as threads (docs/rows.md)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pege.corpus.rows import RawRow
from pege.corpus.threads import read_posts
from pege.errors import InputError

_UTTERANCES = ("utterances.jsonl", "utterances.jsonl.gz", "utterances.jsonl.zst")
_COMPANIONS = ("corpus.json", "conversations.json", "speakers.json", "users.json", "index.json")


def find_utterances(path: Path) -> Path | None:
    """Give the file of utterances of a ConvoKit corpus, named by its folder or by that file; None where it is none."""
    if path.is_dir():
        return next((path / name for name in _UTTERANCES if (path / name).is_file()), None)
    is_one = path.name in _UTTERANCES and any((path.parent / name).is_file() for name in _COMPANIONS)
    return path if is_one else None


def read_convokit(path: Path) -> Iterator[RawRow]:
    """Read a ConvoKit corpus as rows of two-person sessions; the current and the older field names are known.

    Only the utterances are read: id, conversation_id (root), reply-to (reply_to), speaker (user), text.

    Args:
        path: the folder, or its file of utterances.

    Raises:
        InputError: a folder without utterances.
    """
    utterances = find_utterances(path) if path.is_dir() else path
    if utterances is None:
        raise InputError("is no ConvoKit corpus", where=path, fix="its folder holds utterances.jsonl")
    for _, line, row in read_posts(utterances, source="convokit"):
        yield f"{utterances.parent.name}/{utterances.name}", line, row
