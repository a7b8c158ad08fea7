"""All benchmarks into one table, docs/results/bench.md: what `make bench` runs, about two hours on two cores.

    python benchmarks/bench.py [--repeats 5] [--dialogs 100] [--output docs/results/bench.md]

Each part leaves its rows in `runs/bench`, with the machine they are from, the libraries and its own file; stopped, the
same command resumes after the last finished part. What was made by others is measured anew.
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
import selfchat
from pege.io import read_json, versions, write_json, write_text

LIBRARIES = ("torch", "transformers", "peft", "trl", "liger-kernel", "cut-cross-entropy", "xllamacpp", "rjieba")

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
    sizes = {"processor": processor(), "repeats": repeats, "versions": versions(LIBRARIES)}
    chats = {**sizes, "dialogs": dialogs, "turns": turns}

    def once(name: str, made_of: dict[str, Any], part: Callable[[], list[Row]]) -> list[dict[str, Any]]:
        file = folder / f"{name}.json"
        source = Path(__file__).with_name(f"{name.partition('-')[0]}.py")
        made_of = {**made_of, "source": hashlib.sha256(source.read_bytes()).hexdigest()}
        if file.is_file() and (found := read_json(file))["made_of"] == made_of:
            return list(found["rows"])
        rows = [vars(r) for r in part()]
        write_json(file, {"made_of": made_of, "rows": rows})
        print(f"measured: {name}")
        return rows

    rows = once("score", {**sizes, "utterances": utterances}, lambda: score.measure(utterances, repeats))
    rows += once(
        "train", sizes, lambda: [r for bf16 in (False, True) for r in train.measure(32, 8, repeats, bf16=bf16)]
    )
    rows += once("trim", sizes, lambda: trim.measure(16, repeats))
    rows += once("loss", sizes, lambda: loss.measure(repeats))
    # an hour by itself, so each of its repeats is a part
    rows += merged(
        [
            once(
                f"selfchat-{seed}",
                {**chats, "seed": seed},
                lambda seed=seed: selfchat.measure(dialogs, turns, 1, "float32", 4, True, first_seed=seed),
            )
            for seed in range(1, repeats + 1)
        ]
    )
    text = "# Benchmarks\n\nWritten by `make bench`; what the rows say: [performance.md](../performance.md).\n\n"
    text += table([Row(**r) for r in rows])
    write_text(output, text)
    print(text)


def merged(repeats: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Give the rows of several repeats as one's, which have the rates of all."""
    found = []
    for same in zip(*repeats, strict=True):
        rates = [x for row in same for x in row["rates"]]
        ours = None if same[0]["ours"] is None else [x for row in same for x in row["ours"]]
        found.append({**same[0], "rates": rates, "ours": ours})
    return found


if __name__ == "__main__":
    app()
