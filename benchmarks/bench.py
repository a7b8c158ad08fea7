"""All benchmarks into one table, docs/results/bench.md: what `make bench` runs, about two hours on two cores.

    python benchmarks/bench.py [--repeats 5] [--dialogs 100] [--output docs/results/bench.md]

The loss has a table of its own (`benchmarks/loss.py`), which is written behind ours in the same file.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import score
import train
from cyclopts import App, Parameter
from rows import table

import selfchat
from pege.io import write_text

app = App(help="All benchmarks into one table.", default_parameter=Parameter(negative=()))


@app.default
def main(
    *,
    repeats: int = 5,
    dialogs: int = 100,
    turns: int = 10,
    utterances: int = 1_000_000,
    no_loss: bool = False,
    output: Path = Path("docs/results/bench.md"),
) -> None:
    """Write the table."""
    rows = score.measure(utterances, repeats)
    rows += train.measure(32, 8, repeats, bf16=False)
    rows += selfchat.measure(dialogs, turns, repeats, "float32", 4, True)
    text = "# Benchmarks\n\nWritten by `make bench`; what the rows say: [performance.md](../performance.md).\n\n"
    text += table(rows)
    if not no_loss:
        with tempfile.TemporaryDirectory() as folder:
            own = Path(folder) / "loss.md"
            command = [sys.executable, str(Path(__file__).with_name("loss.py")), "--output", str(own)]
            subprocess.run([*command, "--repeats", str(repeats)], check=True)
            text += f"\n## Loss\n\n{own.read_text(encoding='utf-8')}"
    write_text(output, text)
    print(text)


if __name__ == "__main__":
    app()
