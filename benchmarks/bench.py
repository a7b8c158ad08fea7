"""All benchmarks into one table, docs/results/bench.md: what `make bench` runs, some hours on two cores.

    python benchmarks/bench.py [--repeats 5] [--dialogs 100] [--output docs/results/bench.md]

Each part leaves its rows in `runs/bench`, with the machine they are from, the libraries and a hash of the code; the
same command, stopped, resumes after the last finished part. What was made by others is measured anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import score
import train
import trim
from cyclopts import App, Parameter
from rows import Row, processor, table

import loss
import pege
import selfchat
from pege.io import read_json, versions, write_json, write_text

LIBRARIES = ("torch", "transformers", "peft", "trl", "liger-kernel", "cut-cross-entropy", "xllamacpp", "rjieba")

SHARED = ("real", "rows", "timing", "train", "llama")  # files of all parts

app = App(help="All benchmarks into one table.", default_parameter=Parameter(negative=()))


@app.default
def main(
    *,
    repeats: int = 5,
    dialogs: int = 100,
    turns: int = 10,
    utterances: int = 1_000_000,
    folder: Path = Path("runs/bench"),
    output: Path = Path("docs/results/bench.md"),
) -> None:
    """Measure what is not measured yet, write the table."""
    machine = {"processor": processor(), "versions": versions(LIBRARIES)}
    sizes = {**machine, "repeats": repeats}

    def once(name: str, made_of: dict[str, Any], part: Callable[[], Any]) -> Any:
        file = folder / f"{name}.json"
        made_of = {**made_of, "source": source_of(name.partition("-")[0])}
        if file.is_file() and (found := read_json(file))["made_of"] == made_of:
            return found["measured"]
        measured = part()
        write_json(file, {"made_of": made_of, "measured": measured})
        print(f"measured: {name}", flush=True)
        return measured

    def rows_of(name: str, made_of: dict[str, Any], part: Callable[[], list[Row]]) -> list[Row]:
        return [Row(**r) for r in once(name, made_of, lambda: [vars(r) for r in part()])]

    rows = rows_of("score", {**sizes, "utterances": utterances}, lambda: score.measure(utterances, repeats))
    rows += rows_of(
        "train", sizes, lambda: [r for bf16 in (False, True) for r in train.measure(32, 8, repeats, bf16=bf16)]
    )
    rows += rows_of("trim", sizes, lambda: trim.measure(16, repeats))
    rows += rows_of("loss", sizes, lambda: loss.measure(repeats))
    chats = selfchat.Chats(dialogs, turns, "float32")
    made_of = {**machine, "dialogs": dialogs, "turns": turns, "fewer": chats.fewer}

    def rate(way: selfchat.Way, seed: int) -> float:  # hours by themselves, so each play is a part
        return float(once(f"selfchat-{seed}-{way}", made_of, lambda: chats.rate(way, seed)))

    rows += chats.measure(selfchat.WAYS, repeats, rate)
    text = "# Benchmarks\n\nWritten by `make bench`; what the rows say: [performance.md](../performance.md).\n\n"
    text += table(rows)
    write_text(output, text)
    print(text)


def source_of(part: str) -> str:
    """Hash all code that a part's figures are made by: the package, the part's own file, what the parts share."""
    here = Path(__file__).parent
    files = [*sorted(Path(pege.__file__).parent.rglob("*.py")), *(here / f"{name}.py" for name in (part, *SHARED))]
    return hashlib.sha256(b"\0".join(f.read_bytes() for f in files)).hexdigest()


if __name__ == "__main__":
    app()
