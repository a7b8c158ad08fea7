"""``pege lexicon build | show | coverage | compare``."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cyclopts import App, Parameter

from pege.dialog import Dialog
from pege.errors import InputError
from pege.io import read_rows, write_json
from pege.lexicon import compare_lexicons, extend_lexicon, load_lexicon, text_coverage, token_coverage

app = App(name="lexicon", help="VAD lexicons: look words up, measure coverage, compare, build.")
app.default_parameter = Parameter(negative=(), consume_multiple=True)


@app.command
def show(*words: str, lexicon: str = "pege", json: bool = False) -> None:
    """Show valence, arousal and dominance of words, in [0, 1].

    Args:
        words: what to look up.
        lexicon: one of ours (pege-en, pege-zh, pege) or a file.
        json: print one JSON object.
    """
    found = load_lexicon(lexicon)
    rows: dict[str, Any] = {}
    for word in words:
        vad = found.vad(word.lower())
        mark = None if vad is None or found.marks is None else str(found.marks[found.words[word.lower()]])
        rows[word] = None if vad is None else {"vad": [round(float(x), 4) for x in vad], "mark": mark}
    if json:
        print(jsonlib.dumps({"lexicon": f"{found.name}-{found.version}", "words": rows}, ensure_ascii=False))
        return
    print(f"{found.name}-{found.version}: {len(found)} words, mean {' '.join(f'{x:.3f}' for x in found.mean)}")
    for word, row in rows.items():
        shown = "not in the lexicon" if row is None else " ".join(f"{x:.3f}" for x in row["vad"])
        print(f"{word:<16} {shown}  {(row or {}).get('mark') or ''}".rstrip())


@app.command
def coverage(
    *files: Path, tokenizer: str | None = None, lexicon: str = "pege-en", language: str = "en", json: bool = False
) -> None:
    """Report how much of running text, and of a tokenizer's vocabulary, a lexicon knows.

    Args:
        files: rows whose utterances are the running text.
        tokenizer: a run, `base`, or a hub name: shares of its vocabulary and of its tokens by step.
        lexicon: one of ours or a file.
        language: of the text.
        json: print one JSON object.
    """
    found = load_lexicon(lexicon)
    texts = list(_texts(files))
    if not texts and tokenizer is None:
        raise InputError("nothing to cover", fix="name files of rows, or a --tokenizer")
    result: dict[str, Any] = {"lexicon": f"{found.name}-{found.version}"}
    if texts:
        result["text"] = text_coverage(texts, found, language)
    if tokenizer:
        loaded = _load_tokenizer(tokenizer)
        table = extend_lexicon(found, loaded)
        result["vocabulary"] = table.shares()
        if texts:
            result["tokens"] = token_coverage(texts, table, loaded)
    if json:
        print(jsonlib.dumps(result))
        return
    print(result["lexicon"])
    for part, shares in result.items():
        if isinstance(shares, dict):
            print(f"{part:<11} " + "  ".join(f"{k} {v:.3f}" if v <= 1 else f"{k} {v:.0f}" for k, v in shares.items()))


@app.command
def compare(a: str, b: str, /, *, json: bool = False) -> None:
    """Give Pearson r by dimension on the words two lexicons share, and by mark of the first.

    Below 3 shared words there is no r: null in JSON.

    Args:
        a: one of ours or a file.
        b: one of ours or a file.
        json: print one JSON object.
    """
    result = compare_lexicons(load_lexicon(a), load_lexicon(b))
    if json:
        print(jsonlib.dumps(result))
        return
    for group, row in result.items():
        shown = "  ".join(f"{k} {'-' if v is None else f'{v:.3f}'}" for k, v in row.items() if k != "n_words")
        print(f"{group:<9} {row['n_words']:>6.0f} words  r: {shown}")


@app.command
def build(
    *, ratings: Path, vectors: Path, output: Path, leave_out: Path | None = None, n_words: int = 30_000, seed: int = 0
) -> None:
    """Extend ratings of words to many more, by regression from word vectors.

    Args:
        ratings: word, valence, arousal, dominance in [0, 1].
        vectors: .npz of words and values (examples/lexicon_vectors.py makes ours).
        leave_out: words of grammar that do not belong in a lexicon, one a line.
        output: the lexicon, .tsv.gz; OUTPUT.json beside it says how well held-out ratings were met.
        n_words: of the result, at most.
        seed: of the folds.
    """
    from pege.lexicon.build import build_lexicon, read_vectors, write_lexicon

    grammar = _read_words(leave_out) if leave_out else set()
    extension = build_lexicon(
        load_lexicon(ratings, value_range=(0.0, 1.0)),
        read_vectors(vectors),
        leave_out=grammar,
        n_words=n_words,
        seed=seed,
    )
    write_lexicon(output, extension)
    report = {
        "n_rated": int((extension.marks == "rated").sum()),
        "n_inferred": int((extension.marks == "inferred").sum()),
        "held_out_r": extension.held_out_r,
    }
    write_json(output.with_name(output.name + ".json"), report)
    print(jsonlib.dumps(report))


def _load_tokenizer(name: str) -> Any:
    from transformers import AutoTokenizer

    from pege.models.causal import resolve_model

    try:
        return AutoTokenizer.from_pretrained(resolve_model(name))
    except (OSError, ValueError) as e:
        if isinstance(e, InputError):
            raise
        first = str(e).strip().splitlines()[0]
        raise InputError(
            f"has no tokenizer ({first})", where=name, fix="name a run folder, 'base', or a hub model"
        ) from e


def _read_words(path: Path) -> set[str]:
    try:
        return set(path.read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError) as e:
        raise InputError(f"cannot be read ({e})", where=path, fix="name a text file of words, one a line") from e


def _texts(files: tuple[Path, ...]) -> Iterator[str]:
    for file in files:
        for dialog in read_rows(file, Dialog):
            yield from dialog.texts
