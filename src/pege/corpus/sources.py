"""What a build reads: local paths and globs, remote addresses, hub datasets, packages."""

from __future__ import annotations

import glob
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pege.corpus.readers import READERS, read_raw
from pege.corpus.rows import RawRow
from pege.errors import InputError, did_you_mean
from pege.io import read_json, write_json

SOURCES_FILE = "sources.json"


@dataclass(frozen=True)
class Source:
    """One input.

    Attributes:
        name: its place among the inputs, ``0000``, ``0001``, ...: it orders shards and keys.
        spec: a path, a remote address, ``hf:NAME[:SPLIT]`` or ``chitchat``.
        layout: of `READERS`; None where the name tells it.
    """

    name: str
    spec: str
    layout: str | None = None


def find_sources(
    inputs: Iterable[str], *, layout: str | None = None, listing: Callable[[str], list[str]]
) -> list[Source]:
    """Give every input that some paths, globs and addresses name, local ones sorted.

    Args:
        inputs: what a person wrote.
        layout: of all of them.
        listing: gives the files of a remote address or glob.

    Raises:
        InputError: nothing there, an unknown layout.
    """
    if layout is not None and layout not in READERS:
        raise InputError(f"unknown layout {layout!r}", fix=did_you_mean(layout, READERS))
    specs: list[str] = []
    for pattern in inputs:
        if pattern == "chitchat" or (pattern.startswith("hf:") and not pattern.startswith("hf://")):
            found = [pattern]
        elif "://" in pattern:
            found = listing(pattern)
        else:
            # a folder is named by itself, as ConvoKit's corpora are
            found = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207
            if not found and Path(pattern).exists():
                found = [pattern]
        if not found:
            raise InputError("no such file", where=pattern)
        specs += found
    return [Source(f"{k:04d}", spec, layout) for k, spec in enumerate(specs)]


def write_sources(sources: Iterable[Source], folder: Path) -> None:
    """Keep what a build reads, so that the next start can see whether it is the same."""
    write_json(folder / SOURCES_FILE, _as_rows(sources))


def check_same(sources: Iterable[Source], folder: Path) -> None:
    """See that a build's input is what it was when it began: shards are named by its order.

    Raises:
        InputError: a file that is new, gone, or of another size.
    """
    if not (folder / SOURCES_FILE).is_file():
        return
    before, now = (dict(rows) for rows in (read_json(folder / SOURCES_FILE), _as_rows(sources)))
    changed = [spec for spec in (*before, *now) if before.get(spec, "") != now.get(spec, "")]
    if changed:
        fix = "name another --output, or delete the folder"
        raise InputError("is new, gone or changed since the build began", where=changed[0], fix=fix)


def _as_rows(sources: Iterable[Source]) -> list[list[Any]]:
    """Spec and size in bytes of each input; null where only the reader knows."""
    return [[s.spec, Path(s.spec).stat().st_size if Path(s.spec).is_file() else None] for s in sources]


def read_source(source: Source, *, opening: Callable[[str], IO[bytes] | Any]) -> Iterator[RawRow]:
    """Read one input; a remote file is fetched into a temporary one first.

    Args:
        source: see there.
        opening: opens a remote address for reading bytes.

    Raises:
        InputError: it cannot be read, or its layout is not plain.
    """
    if "://" not in source.spec:
        yield from read_raw([glob.escape(source.spec)] if Path(source.spec).exists() else [source.spec],
                            layout=source.layout)  # fmt: skip
        return
    with tempfile.TemporaryDirectory(prefix="pege-") as folder:
        local = Path(folder) / Path(source.spec).name
        try:
            with opening(source.spec) as remote, local.open("wb") as copy:
                shutil.copyfileobj(remote, copy)
        except (OSError, ValueError) as e:
            raise InputError(f"cannot be fetched ({e})", where=source.spec, fix="check address and credentials") from e
        yield from read_raw([glob.escape(str(local))], layout=source.layout)
