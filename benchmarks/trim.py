"""What a trimmed vocabulary saves: training and self-chat with the base model and with what `pege trim` makes of it.

    python benchmarks/trim.py [--model base] [--dialogs 32] [--repeats 5]

The vocabulary is trimmed to all dialogs of `chitchat`, the demo's source; both models then train on the same of them
(PEGE loss, LoRA, a repeat is an epoch) and play the same self-chats, in turns. `--model` takes another, as
`pege trim --model`; its size is that of all files of its folder.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from cyclopts import App, Parameter
from rows import Row, show, table
from timing import time_steps
from train import pege_epoch, some_dialogs

from pege.emotion import load_emotion_classifier, with_emotions
from pege.models.causal import load_model
from pege.models.trim import trim_model
from pege.selfchat import load_starters
from selfchat import in_flight, make_agents, n_tokens_said


def measure(n_dialogs: int, repeats: int, *, name: str = "base", starters: int = 16, turns: int = 3) -> list[Row]:
    """Train and chat with both models in turns."""
    every = some_dialogs(None)
    with tempfile.TemporaryDirectory() as folder:
        small, whole = Path(folder) / "small", Path(folder) / "whole"
        found = trim_model(name, (t for d in every for t in d.texts), small)
        for part in load_model(name):
            part.save_pretrained(whole)
        found |= {"mb_after": _megabytes(small), "mb_before": _megabytes(whole)}
        note = (
            "{n_after:,} of {n_before:,} tokens, {n_parameters_after:,} of {n_parameters_before:,} parameters, "
            "{mb_after:,.0f} of {mb_before:,.0f} MB"
        )
        models = {f"trimmed to {note.format(**found)}": str(small), "whole": str(whole)}
        epochs = {
            name: pege_epoch(every[:n_dialogs], 8, f"{folder}/run", bf16=False, model=spec)
            for name, spec in models.items()
        }
        seconds = time_steps(epochs, repeats)
        rates = {name: [n_dialogs / s for s in times] for name, times in seconds.items()}
        rows = _rows("training, a smaller vocabulary", "dialogs/s", rates)
        rows += _rows("self-chat, a smaller vocabulary", "tokens/s", _chats(models, starters, turns, repeats))
    return rows


def _megabytes(folder: Path) -> float:
    return sum(f.stat().st_size for f in folder.iterdir()) / 1e6


def _rows(work: str, unit: str, rates: dict[str, list[float]]) -> list[Row]:
    ours = next(iter(rates.values()))
    return [Row(work, name, r, unit, None if r is ours else ours) for name, r in rates.items()]


def _chats(models: dict[str, str], n_starters: int, turns: int, repeats: int) -> dict[str, list[float]]:
    rows = with_emotions(load_starters("en")[:n_starters], load_emotion_classifier().emotions, anew=True)
    sides: dict[str, Any] = {}
    for name, spec in models.items():
        model, tokenizer = load_model(spec, dtype="float32")
        sides[name] = make_agents(model, tokenizer, keep_cache=True), tokenizer
    rates: dict[str, list[float]] = {name: [] for name in models}
    for repeat in range(repeats + 1):
        for name, (agents, tokenizer) in sides.items():
            start = time.perf_counter()
            talks = in_flight(agents, rows, turns, repeat)
            seconds = time.perf_counter() - start
            if repeat:
                rates[name].append(n_tokens_said(talks, tokenizer) / seconds)
    return rates


app = App(help="A trimmed vocabulary beside the whole one.", default_parameter=Parameter(negative=()))


@app.default
def main(*, model: str = "base", dialogs: int = 32, repeats: int = 5, output: Path | None = None) -> None:
    """Print the table; write it to a file where one is named."""
    show(table(measure(dialogs, repeats, name=model)), output)


if __name__ == "__main__":
    app()
