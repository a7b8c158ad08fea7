"""Rows that agents say, batch by batch, in a file that a stopped run goes on with."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel
from tqdm import tqdm

from pege.dialog import Dialog
from pege.errors import InputError
from pege.io import as_object, read_json, versions, write_atomic, write_json

log = logging.getLogger(__name__)
OnUtterances = Callable[[int], object]
Row = TypeVar("Row", bound=BaseModel)


def is_done(output: Path, wanted: dict[str, Any]) -> bool:
    """Whether the rows of these settings are written; needs no model.

    Raises:
        InputError: a name that is no .jsonl file; a file there that no run wrote, or one of other settings.
    """
    if output.suffix != ".jsonl" or output.is_dir():
        raise InputError("is no .jsonl file", where=output, fix="name a file of rows, FILE.jsonl")
    there = next((p for p in (output, _part(output)) if p.is_file() and p.stat().st_size), None)
    if there is None:
        return False
    other = "delete it or name another --output"
    if not _about(output).is_file():
        raise InputError("is there already, and not of this command", where=there, fix=other)
    different = _different(read_json(_about(output)), wanted)
    if different:
        begun = "was made" if there == output else "was begun"
        raise InputError(f"{begun} with another {', '.join(different)}", where=there, fix=other)
    if there == output:
        log.info("%s is done; name another --output to do it again", output)
    return there == output


def write_batches(
    output: Path,
    wanted: dict[str, Any],
    sizes: Sequence[int],
    make: Callable[[int, OnUtterances], Sequence[Row]],
    *,
    n_utterances: Sequence[int],
    about: Callable[[Sequence[Row]], dict[str, Any]],
    row: type[Row] = Dialog,  # type: ignore[assignment]
) -> Path:
    """Make batches of rows into a file; stopped at any moment, the same call goes on with the next batch.

    Rows are kept in ``OUTPUT.part`` until the last one. ``OUTPUT.run.json`` beside it holds settings and versions, and
    in the end what ``about`` says of all rows.

    Args:
        output: the file, .jsonl.
        wanted: all that the rows depend on.
        sizes: rows of each batch.
        make: the rows of a batch by its number; it tells how many utterances were said, each time.
        n_utterances: utterances that each batch says, for the bar.
        about: figures of all rows.
        row: what a row is, a dialog unless named.

    Raises:
        InputError: see `is_done`.
    """
    if is_done(output, wanted):
        return output
    rows, n_done = _finished_rows(_part(output), sizes)
    write_json(_about(output), {**wanted, "versions": versions(("torch", "transformers"))})
    start = time.perf_counter()
    _keep_rows(_part(output), rows)
    bar = tqdm(total=sum(n_utterances), initial=sum(n_utterances[:n_done]), unit="utterance")
    with _part(output).open("a", encoding="utf-8") as out, bar:
        for batch in range(n_done, len(sizes)):
            for made in make(batch, bar.update):
                rows.append(as_object(made))
                out.write(json.dumps(rows[-1], ensure_ascii=False) + "\n")
            out.flush()
    found = about([row.model_validate(r) for r in rows])
    seconds = {"seconds_last_start": round(time.perf_counter() - start, 1)}
    write_json(_about(output), {**wanted, "versions": versions(("torch", "transformers")), **seconds, **found})
    _part(output).replace(output)
    return output


def _different(there: Any, wanted: dict[str, Any]) -> list[str]:
    """Names of the settings that are not the same, those within a setting by their own."""
    if not isinstance(there, dict):
        return list(wanted)
    found: list[str] = []
    for name, value in wanted.items():
        if isinstance(value, dict):
            known = there.get(name)
            removed = dict.fromkeys(known or ()) if isinstance(known, dict) else {}
            found += _different(known, removed | value)
        elif there.get(name) != value:
            found.append(name)
    return found


def _part(output: Path) -> Path:
    return output.with_name(output.name + ".part")


def _about(output: Path) -> Path:
    return output.with_name(output.name + ".run.json")


def _finished_rows(part: Path, sizes: Sequence[int]) -> tuple[list[dict[str, Any]], int]:
    """Rows of whole batches that an earlier start left, and the number of these batches."""
    if not part.is_file():
        return [], 0
    lines = part.read_text(encoding="utf-8").split("\n")[:-1]  # what follows the last newline was cut off
    n_rows = n_batches = 0
    while n_batches < len(sizes) and n_rows + sizes[n_batches] <= len(lines):
        n_rows += sizes[n_batches]
        n_batches += 1
    return [json.loads(line) for line in lines[:n_rows]], n_batches


def _keep_rows(part: Path, rows: list[dict[str, Any]]) -> None:
    with write_atomic(part) as temporary:
        temporary.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
