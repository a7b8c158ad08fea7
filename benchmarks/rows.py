"""What the benchmarks share: the machine, how a table is shown and put into a page, and the rows of `make bench`."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pege.io import write_text


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        work: what is done.
        way: how, ours first.
        rates: of each repeat, in ``unit``.
        unit: e.g. ``dialogs/s``; or ``s``, where less is better.
        ours: rates of our way in the same work; None in our own row.
        goal: what the ratio, or the rate in our own row, should be; None without one.
        note: behind the way.
    """

    work: str
    way: str
    rates: Sequence[float]
    unit: str
    ours: Sequence[float] | None = None
    goal: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """How many times as fast ours is."""
        if self.ours is None:
            return None
        ratio = statistics.median(self.ours) / statistics.median(self.rates)
        return 1 / ratio if self.unit == "s" else ratio

    def line(self) -> str:
        """Give the line of the Markdown table."""
        ratio = self.ratio
        cell = "-" if ratio is None else f"{ratio:.2f}"
        rate = f"{_number(statistics.median(self.rates))} {self.unit}"
        spread = f"{_number(min(self.rates))} - {_number(max(self.rates))} ({len(self.rates)})"
        way = f"{self.way} ({self.note})" if self.note else self.way
        return f"| {self.work} | {way} | {rate} | {spread} | {cell} | {self._met()} |"

    def _met(self) -> str:
        if self.goal is None:
            return "-"
        if self.ratio is not None:
            return f"{_number(self.goal)} or more: {'met' if self.ratio >= self.goal else 'not met'}"
        found = statistics.median(self.rates)
        if self.unit == "s":
            return f"{_number(self.goal)} s or less: {'met' if found <= self.goal else 'not met'}"
        return f"{_number(self.goal)} or more: {'met' if found >= self.goal else 'not met'}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(rows: Sequence[Row]) -> str:
    """Give the machine and all rows as Markdown."""
    import torch

    head = (
        f"{processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"Python {platform.python_version()}, torch {torch.__version__}. "
        "Rates are medians; the spread is from the slowest repeat to the fastest (repeats)."
    )
    lines = [head, "", "| work | way | rate | spread | ours is faster, times | goal |", "|---|---|---|---|---|---|"]
    return "\n".join([*lines, *(r.line() for r in rows)]) + "\n"


def show(text: str, output: Path | None) -> None:
    """Print a table; write it to a file where one is named."""
    print(text)
    if output:
        write_text(output, text)


def fill_page(page: Path, marks: tuple[str, str], text: str) -> None:
    """Put lines between the two marks of a page, each of which is a line of its own."""
    before, _, rest = page.read_text(encoding="utf-8").partition(marks[0])
    _, _, behind = rest.partition(marks[1])
    write_text(page, f"{before}{marks[0]}\n{text.rstrip()}\n{marks[1]}{behind}")


def processor() -> str:
    """Name the processor, as well as the system knows it; where it says so, with its family, for names hide much."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    found = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines))}
    name = found.get("model name") or platform.processor() or platform.machine()
    return f"{name} (family {found['cpu family']}, model {found['model']})" if "cpu family" in found else name
