"""Utterances scored a second by one core, English and Chinese; start-up of the commands.

    python benchmarks/score.py [--utterances 1000000] [--repeats 5]

Utterances are drawn by a seed from real dialogs (``PEGE_DATA/dialogs``), the sources of a kind alike: English; Chinese
everyday talk, and Chinese counselling, whose utterances are five times as long. Without that folder English is of the
package ``chitchat_dataset``, and Chinese is left out. Scoring is Eq. 7's mean VAD of each utterance
(`pege.metrics.pege.utterance_vads`), on one core where the system lets us choose. Peers: the same by one utterance
after the other; for Chinese also rjieba, a compiled segmenter, whose words are not quite jieba's (the share of
utterances is in the row).
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cyclopts import App, Parameter
from real import DIALOGS, read_dialogs
from rows import Row, show, table

from pege.lexicon import load_lexicon
from pege.metrics.pege import utterance_vad, utterance_vads
from pege.words import chinese_words, segmenter

_MOST_READ = 100_000  #: utterances of a source


@dataclass(frozen=True)
class Kind:
    """Real dialogs of a kind, and how many of their utterances a core should score a second."""

    lang: str
    sources: tuple[str, ...]
    goal: float | None


KINDS = {
    "en": Kind("en", ("dailydialog.en", "empathetic-dev.en", "esconv.en", "meld.en"), 200_000.0),
    "zh, everyday talk": Kind("zh", ("cped.zh", "dailydialog.zh"), 50_000.0),
    "zh, counselling": Kind("zh", ("smilechat.zh", "emollm.zh"), None),
}


def utterances_of_kinds(n: int) -> Iterator[tuple[str, Kind, list[str]]]:
    """Name each kind whose dialogs are there, with n of its utterances."""
    for name, kind in KINDS.items():
        if texts := make_utterances(kind, n):
            yield name, kind, texts
        else:
            print(f"{name}: left out, for there is no folder {DIALOGS}; PEGE_DATA names the one above", flush=True)


def make_utterances(kind: Kind, n: int) -> list[str]:
    """N utterances, each of a source drawn first; none where there are no dialogs of the kind."""
    inputs = [str(DIALOGS / f"{s}.jsonl.gz") for s in kind.sources]
    if not DIALOGS.is_dir():
        inputs = ["chitchat"] if kind.lang == "en" else []
    rng, said = random.Random(0), []
    for source in inputs:
        texts = (t for _, dialog in read_dialogs([source]) for t in dialog.texts)
        said.append(list(itertools.islice(texts, _MOST_READ)))
    return [rng.choice(rng.choice(said)) for _ in range(n)] if said else []


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Stay on one core, where the system lets us choose."""
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    if cores:
        os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        if cores:
            os.sched_setaffinity(0, cores)


def measure_scoring(n: int, repeats: int) -> list[Row]:
    """Score columns, and a part of them one by one."""
    rows = []
    for name, kind, texts in utterances_of_kinds(n):
        lang = kind.lang
        lexicon = load_lexicon(f"pege-{lang}")
        few, cut = texts[: max(n // 50, 100)], segmenter(lang)
        ours, plain, other = [], [], []
        n_other = 0
        utterance_vads(texts[:5_000], lexicon, lang)
        utterance_vad(texts[0], lexicon, cut)
        for _ in range(repeats):
            start = time.perf_counter()
            utterance_vads(texts, lexicon, lang)
            ours.append(n / (time.perf_counter() - start))
            start = time.perf_counter()
            for text in few:
                utterance_vad(text, lexicon, cut)
            plain.append(len(few) / (time.perf_counter() - start))
            if lang == "zh":
                import rjieba

                rjieba.cut(few[0])
                start = time.perf_counter()
                found = [rjieba.cut(t) for t in few]
                other.append(len(few) / (time.perf_counter() - start))
                n_other = sum(
                    [w for w in a if any(c.isalnum() for c in w)] != chinese_words(t)
                    for a, t in zip(found, few, strict=True)
                )
        work, unit = f"scoring, {name}", "utterances/s"
        n_characters = sum(map(len, texts)) / n
        note = f"{n:,} utterances of {n_characters:.0f} characters, one core"
        rows.append(Row(work, "pege, columns", ours, unit, None, kind.goal, note))
        rows.append(Row(work, "an utterance at a time", plain, unit, ours))
        if other:
            note = f"segmenting only; other words in {n_other} of {len(few)}"
            rows.append(Row(work, "rjieba", other, unit, ours, None, note))
    return rows


def measure_start(repeats: int) -> list[Row]:
    """Seconds of whole commands, from a fresh process each."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "chats.jsonl"
        texts = make_utterances(KINDS["en"], 2_000)
        with file.open("w", encoding="utf-8") as out:
            for k in range(100):
                said = texts[20 * k : 20 * k + 20]
                messages = [{"role": ("user", "assistant")[j % 2], "content": t} for j, t in enumerate(said)]
                out.write(json.dumps({"id": str(k), "lang": "en", "messages": messages}) + "\n")
        commands = {"pege --help": (["--help"], 0.3), "pege score, 100 dialogs": (["score", str(file)], 1.5)}
        for name, (arguments, goal) in commands.items():
            seconds = []
            for repeat in range(repeats + 1):
                start = time.perf_counter()
                subprocess.run([sys.executable, "-m", "pege", *arguments], check=True, capture_output=True)
                if repeat:
                    seconds.append(time.perf_counter() - start)
            rows.append(Row("start-up", name, seconds, "s", None, goal))
    return rows


def measure(utterances: int, repeats: int) -> list[Row]:
    """All rows."""
    with one_core():
        scoring = measure_scoring(utterances, repeats)
    return [*scoring, *measure_start(repeats)]


app = App(help="Scoring and start-up.", default_parameter=Parameter(negative=()))


@app.default
def main(*, utterances: int = 1_000_000, repeats: int = 5, output: Path | None = None) -> None:
    """Print the table; write it to a file where one is named."""
    text = table(measure(utterances, repeats))
    show(text, output)


if __name__ == "__main__":
    app()
