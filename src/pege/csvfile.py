"""CSV files with a header: read with the line of what is wrong, written so that no spreadsheet runs what they hold."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, TypeVar

from pege.errors import InputError
from pege.io import write_atomic

T = TypeVar("T")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # what a spreadsheet takes for the start of a formula
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


class CsvRows:
    """Rows of an open CSV file, each once: ``(line it begins at, column -> cell)``; rows of empty cells are left out.

    Attributes:
        path: of the file, for messages.
        header: names of the columns.
        line: that the row being read begins at, from 1.
    """

    def __init__(self, file: IO[str], path: Path | str) -> None:
        self._reader = csv.reader(file, strict=True)  # else a quote that is never closed takes the rest of the file
        self.path, self.line = path, 1
        self.header: list[str] = []

    def read_header(self) -> None:
        """Read the first row.

        Raises:
            InputError: a column that is named twice.
        """
        self.header = [_unguarded(c) for c in next(self._reader, [])]
        if twice := {n for n in self.header if n and self.header.count(n) > 1}:
            raise InputError(f"has the column {min(twice)!r} twice", where=f"{self.path}:1", fix="keep one")

    def __iter__(self) -> Iterator[tuple[int, dict[str, str]]]:
        width = len(self.header)
        self.line = self._reader.line_num + 1
        for row in self._reader:
            cells = [_unguarded(c) for c in row]
            if any(cells[width:]):  # empty ones are what spreadsheets leave behind
                raise InputError(
                    f"has {len(cells)} cells, the header {width}",
                    where=f"{self.path}:{self.line}",
                    fix="put a cell that holds a comma between quotes",
                )
            if any(cells):
                yield self.line, dict(zip(self.header, cells + [""] * (width - len(cells)), strict=False))
            self.line = self._reader.line_num + 1


def read_csv(path: Path | str, parse: Callable[[CsvRows], list[T]], *, holds: str, fix: str) -> list[T]:
    """Read a CSV file with a header, in UTF-8 with or without a byte-order mark.

    Args:
        path: of the file; errors name it.
        parse: the rows to what they say; raises InputError.
        holds: what the file is of, in the plural.
        fix: what to do where there is none.

    Raises:
        InputError: no such file, not UTF-8, a quote that is not closed, a row longer than the header, nothing in it; or
            of ``parse``.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            rows = CsvRows(file, path)
            try:
                rows.read_header()
                found = parse(rows)
            except csv.Error as e:
                raise InputError(
                    f"a quote is opened in the row that begins here and not closed as CSV wants it ({e})",
                    where=f"{path}:{rows.line}",
                    fix='close it, or double it where it is text: ""',
                ) from e
    except (OSError, UnicodeDecodeError) as e:
        why = e.strerror if isinstance(e, OSError) else e
        raise InputError(f"cannot be read ({why})", where=path, fix="give a CSV file in UTF-8") from e
    if not found:
        raise InputError(f"holds no {holds}", where=path, fix=fix)
    return found


def write_csv(path: Path | str, header: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a CSV file whole or not at all; text that a spreadsheet would run as a formula gets an apostrophe before.

    Numbers stay as they are; `read_csv` takes the apostrophe off again.
    """
    with write_atomic(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(_Lines(out))
        writer.writerow([_guarded(name) for name in header])
        writer.writerows([_guarded(cell) for cell in row] for row in rows)


class _Lines:
    """Lines that end as others here do; with that end named to it, the writer would not quote a carriage return."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out

    def write(self, line: str) -> int:
        return self._out.write(line.removesuffix("\r\n") + "\n")


def _guarded(cell: object) -> object:
    if not isinstance(cell, str) or not cell.lstrip("'").startswith(_FORMULA) or _NUMBER.fullmatch(cell):
        return cell
    return f"'{cell}"


def _unguarded(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and cell.lstrip("'").startswith(_FORMULA) else cell
