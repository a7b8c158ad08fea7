"""``pege corpus build | stats``."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from pege.corpus import CorpusConfig, build_corpus, corpus_stats
from pege.dialog import Dialog
from pege.errors import InputError
from pege.io import read_rows

app = App(name="corpus", help="Raw dialogs to a corpus: build, count.")
app.default_parameter = Parameter(negative=(), consume_multiple=True)


@app.command
def build(*, output: Path, settings: Annotated[CorpusConfig, Parameter(name="*")], keep_dropped: bool = False) -> None:
    """Build a corpus: read, cut, filter by emotion, split.

    Args:
        output: folder of the corpus.
        settings: what it depends on.
        keep_dropped: write the dropped dialogs with their reasons.
    """
    from pege.emotion import load_emotion_classifier

    report = build_corpus(settings, output, load_emotion_classifier(), keep_dropped=keep_dropped)
    print(jsonlib.dumps(report))


@app.command
def stats(folder: Path, /, *, json: bool = False) -> None:
    """Count sessions and utterances by starting emotion (Table 2).

    Args:
        folder: a corpus folder.
        json: print one JSON object.
    """
    files = [folder / f"{side}.jsonl" for side in ("train", "validation") if (folder / f"{side}.jsonl").is_file()]
    if not files:
        raise InputError("holds no corpus", where=folder, fix="name a folder of `pege corpus build`")
    found = corpus_stats(d for f in files for d in read_rows(f, Dialog))
    if json:
        print(jsonlib.dumps(found))
        return
    print(f"{'start':<10}{'sessions':>10}{'utterances':>12}")
    for start in found["sessions"]:
        print(f"{start:<10}{found['sessions'][start]:>10}{found['utterances'][start]:>12}")
    print(f"{'all':<10}{found['n_sessions']:>10}{found['n_utterances']:>12}")
