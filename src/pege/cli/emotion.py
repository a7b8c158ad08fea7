"""`pege emotion`: train a classifier, measure one, and give the emotion of lines of text."""

from __future__ import annotations

import json as jsonlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from cyclopts import App, Parameter

from pege.emotion import LABELS, TextClassifier, load_classifier, read_labelled
from pege.emotion.options import TrainOptions
from pege.errors import InputError
from pege.io import write_json

app = App(name="emotion", help="Emotion of an utterance: p(negative), p(neutral), p(positive).")

_LINES_AT_ONCE = 512
_BYTES_OF_LINE = 64_000  # read of a line; the rest is skipped


@app.command
def predict(*, model: str = "default", json: bool = False) -> None:
    """Give the emotion of each line of standard input; one line out for each line in.

    Args:
        model: a folder that `pege emotion train` or `pege emotion cascade` wrote, or `default`.
        json: print one JSON object a line instead of a table.
    """
    classifier = load_classifier(model)
    if not json:
        print("".join(f"{label:>8}  " for label in classifier.labels) + "text")
    for texts in _batches(_lines(sys.stdin.buffer)):
        _print_probabilities(classifier, texts, as_json=json)


def _print_probabilities(classifier: TextClassifier, texts: list[str], *, as_json: bool) -> None:
    for text, row in zip(texts, classifier.predict(texts).tolist(), strict=True):
        if as_json:
            print(jsonlib.dumps(dict(zip(classifier.labels, (round(p, 6) for p in row), strict=True))))
        else:
            shown = " ".join("".join(c if c.isprintable() else " " for c in text).split())
            cells = (f"{p:{max(8, len(c))}.3f}  " for p, c in zip(row, classifier.labels, strict=True))
            print("".join(cells) + (shown if len(shown) <= 80 else shown[:79] + "…"))
    sys.stdout.flush()


def _lines(source: BinaryIO) -> Iterator[str]:
    """Lines of any length and any bytes; what is no UTF-8 becomes U+FFFD, what is over the limit is skipped."""
    while raw := source.readline(_BYTES_OF_LINE):
        rest = raw
        while rest and not rest.endswith(b"\n"):
            rest = source.readline(_BYTES_OF_LINE)
        yield raw.decode("utf-8", errors="replace").rstrip("\r\n")


def _batches(lines: Iterator[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    for line in lines:
        batch.append(line)
        if len(batch) == _LINES_AT_ONCE or sys.stdin.isatty():
            yield batch
            batch = []
    if batch:
        yield batch


@app.command(name="eval")
def evaluate_command(model: str, file: Path, /, *, alias: tuple[str, ...] = (), json: bool = False) -> None:
    """Measure a classifier on labelled text: macro-F1, each class, calibration error, confusion.

    Args:
        model: a folder that `pege emotion train` or `pege emotion cascade` wrote, or `default`.
        file: label<TAB>text, .tsv or .tsv.gz.
        alias: what other labels mean, e.g. joy=positive; with nothing after the sign they are left out.
        json: print one JSON object.
    """
    from pege.emotion.evaluation import evaluate

    classifier = load_classifier(model)
    found = evaluate(classifier, read_labelled(file, aliases=_aliases(alias), labels=classifier.labels))
    _print_evaluation(found, as_json=json)


@app.command
def train(
    *,
    train: Annotated[tuple[Path, ...], Parameter(consume_multiple=True)],
    validation: Annotated[tuple[Path, ...], Parameter(consume_multiple=True)],
    output: Path,
    labels: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = LABELS,
    alias: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = (),
    word_vectors: Path | None = None,
    options: Annotated[TrainOptions | None, Parameter(name="*")] = None,
    json: bool = False,
) -> None:
    """Train a classifier on labelled text and save it with its temperature.

    Args:
        train: label<TAB>text files, .tsv or .tsv.gz.
        validation: the same, for the choice of the epoch and for the temperature.
        output: folder for the classifier.
        labels: the classes, e.g. clean offensive.
        alias: what other labels mean, e.g. joy=positive; with nothing after the sign they are left out.
        word_vectors: what the embeddings of words start from, word2vec's text format, plain or .gz.
        options: sizes and steps.
        json: print the evaluation on the validation texts as one JSON object.
    """
    options = options or TrainOptions()
    aliases = _aliases(alias)
    labelled, held_out = (read_labelled(files, aliases=aliases, labels=labels) for files in (train, validation))
    from pege.emotion.train import train_emotion_classifier

    found = train_emotion_classifier(labelled, held_out, output, options=options, word_vectors=word_vectors)
    write_json(output / "training.json", {"options": options.model_dump(mode="json"), "validation": found})
    _print_evaluation(found, as_json=json)


@app.command
def cascade(
    fast: str,
    encoder: str,
    /,
    *,
    validation: Annotated[tuple[Path, ...], Parameter(consume_multiple=True)],
    output: Path,
    alias: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = (),
    name: str = "cascade",
    tolerance: float = 0.005,
    for_class: str | None = None,
    json: bool = False,
) -> None:
    """Join a fast classifier and an encoder: the encoder is asked only where needed.

    Args:
        fast: a folder that `pege emotion train` wrote, or `default`.
        encoder: the folder of one that was trained with `--encoder`.
        validation: label<TAB>text files that choose how unsure is unsure.
        output: folder for the cascade, with both classifiers in it.
        alias: what other labels mean, e.g. joy=positive; with nothing after the sign they are left out.
        name: what signatures call it.
        tolerance: how far macro-F1 and precision may stay behind the encoder's on the validation texts; with
            --for-class, the share of what the encoder takes that may be lost.
        for_class: ask the encoder where this class is likely, so that p > 0.9 of it is always the encoder's word;
            positive for the corpus's end filter.
        json: print one JSON object.
    """
    from pege.emotion.cascade import train_cascade

    if not tolerance >= 0:
        raise InputError(f"{tolerance} is no tolerance", where="--tolerance", fix="0 or more")
    first, second = load_classifier(fast), load_classifier(encoder)
    texts = read_labelled(validation, aliases=_aliases(alias), labels=first.labels)
    found = train_cascade(first, second, texts, name=name, tolerance=tolerance, label=for_class)
    found.save(output)
    row = {"name": name, "threshold": found.config.threshold, "asked": found.share_unsure(texts.texts)}
    text = "{name}  threshold {threshold:.2f}  the encoder is asked about {asked:.1%} of the validation texts"
    print(jsonlib.dumps(row) if json else text.format(**row))


@app.command(name="compare")
def compare_command(
    models: Annotated[tuple[str, ...], Parameter(consume_multiple=True)],
    /,
    *,
    file: Annotated[tuple[Path, ...], Parameter(consume_multiple=True)],
    alias: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = (),
    threads: int | None = None,
    for_class: str | None = None,
    json: bool = False,
) -> None:
    """Measure classifiers on the same text: quality, agreement with the first, precision where sure, time.

    Args:
        models: folders, or `default`.
        file: label<TAB>text files.
        alias: what other labels mean, e.g. joy=positive; with nothing after the sign they are left out.
        threads: processor threads, all by default.
        for_class: precision where p of this class is above the paper's thresholds, instead of the largest p.
        json: print one JSON array.
    """
    from pege.emotion.evaluation import compare

    if threads is not None:
        _use_threads(threads)
    classifiers = [load_classifier(m) for m in models]
    rows = compare(classifiers, read_labelled(file, aliases=_aliases(alias), labels=classifiers[0].labels))
    if for_class is not None and for_class not in rows[0]["classes"]:
        raise InputError(f"no class {for_class!r}", where="--for-class", fix=f"one of {', '.join(rows[0]['classes'])}")
    if json:
        print(jsonlib.dumps(rows))
        return
    heads = ("model", "macro-F1", "agreement", "kappa", "p>0.5", "of texts", "p>0.9", "of texts", "texts/s")
    print(f"{rows[0]['n']} texts\n" + f"{heads[0]:<20}" + "".join(f"{h:>10}" for h in heads[1:]))
    for row in rows:
        above = (row if for_class is None else row["classes"][for_class])["precision_above"]
        sure = [v for t in above.values() for v in (t["precision"], t["share"])]
        values = (row["macro_f1"], row["agreement"], row["kappa"], *sure)
        print(f"{row['name'][:20]:<20}" + "".join(f"{v:>10.3f}" for v in values) + f"{row['texts_per_s']:>10,.0f}")


def _use_threads(n_threads: int) -> None:
    import torch

    if n_threads < 1:
        raise InputError(f"{n_threads} threads", where="--threads", fix="1 or more")
    torch.set_num_threads(n_threads)
    os.environ["RAYON_NUM_THREADS"] = str(n_threads)  # of the tokenizer, read at its first call


def _aliases(pairs: tuple[str, ...]) -> dict[str, str]:
    for pair in pairs:
        if "=" not in pair:
            raise InputError(f"{pair!r} is no alias", where="--alias", fix="write it as joy=positive")
    return dict(pair.split("=", 1) for pair in pairs)


def _print_evaluation(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(jsonlib.dumps(found))
        return
    print(f"{found['name']}  n {found['n']}")
    print(f"macro-F1 {found['macro_f1']:.4f}  accuracy {found['accuracy']:.4f}  ECE {found['ece']:.4f} (15 bins)")
    print(f"\n{'':>10}{'precision':>11}{'recall':>9}{'F1':>9}{'n':>9}")
    for label, row in found["classes"].items():
        print(f"{label:>10}{row['precision']:>11.4f}{row['recall']:>9.4f}{row['f1']:>9.4f}{row['n']:>9d}")
    for threshold, row in found["precision_above"].items():
        print(f"max p > {threshold}: precision {row['precision']:.4f} on {row['share']:.1%} of the texts")
    print("\nconfusion (rows: true, columns: predicted)\n" + " " * 10 + "".join(f"{c:>10}" for c in found["labels"]))
    for label, counts in zip(found["labels"], found["confusion"], strict=True):
        print(f"{label:>10}" + "".join(f"{n:>10d}" for n in counts))
