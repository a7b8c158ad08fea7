"""`pege emotion`: train a classifier, measure one, and give the emotion of lines of text."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from cyclopts import App, Parameter
from pydantic import ValidationError

from pege.emotion import LABELS, EmotionClassifier, load_emotion_classifier, read_labelled
from pege.errors import InputError
from pege.io import why_invalid, write_json

app = App(name="emotion", help="Emotion of an utterance: p(negative), p(neutral), p(positive).")

_log = logging.getLogger(__name__)
_LINES_AT_ONCE = 512
_BYTES_OF_LINE = 64_000  # read of a line; the rest is skipped


@app.command
def predict(*, model: str = "default", json: bool = False) -> None:
    """Give the emotion of each line of standard input; one line out for each line in.

    Args:
        model: a folder that `pege emotion train` wrote, or `default`.
        json: print one JSON object a line instead of a table.
    """
    classifier = load_emotion_classifier(model)
    if not json:
        print(f"{'negative':>8}  {'neutral':>8}  {'positive':>8}  text")
    for texts in _batches(_lines(sys.stdin.buffer)):
        _print_emotions(classifier, texts, as_json=json)


def _print_emotions(classifier: EmotionClassifier, texts: list[str], *, as_json: bool) -> None:
    for text, row in zip(texts, classifier.predict(texts).tolist(), strict=True):
        if as_json:
            print(json.dumps(dict(zip(LABELS, (round(p, 6) for p in row), strict=True))))
        else:
            shown = " ".join("".join(c if c.isprintable() else " " for c in text).split())
            print("  ".join(f"{p:8.3f}" for p in row) + "  " + (shown if len(shown) <= 80 else shown[:79] + "…"))
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
        model: a folder that `pege emotion train` wrote, or `default`.
        file: label<TAB>text, .tsv or .tsv.gz.
        alias: what other labels mean, e.g. joy=positive; with nothing after the sign they are left out.
        json: print one JSON object.
    """
    from pege.emotion.evaluation import evaluate

    found = evaluate(load_emotion_classifier(model), read_labelled(file, aliases=_aliases(alias)))
    _print_evaluation(found, as_json=json)


@app.command
def train(
    *,
    train: Annotated[tuple[Path, ...], Parameter(consume_multiple=True)],
    validation: Annotated[tuple[Path, ...], Parameter(consume_multiple=True)],
    output: Path,
    alias: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = (),
    word_vectors: Path | None = None,
    name: str = "textcnn",
    vocabulary_size: int = 16_000,
    embedding_size: int = 128,
    widths: Annotated[tuple[int, ...], Parameter(consume_multiple=True)] = (2, 3, 4, 5),
    n_filters: int = 100,
    dropout: float = 0.5,
    n_epochs: int = 6,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    label_smoothing: float = 0.05,
    seed: int = 0,
    json: bool = False,
) -> None:
    """Train a classifier on labelled text and save it with its temperature.

    Args:
        train: label<TAB>text files, .tsv or .tsv.gz.
        validation: the same, for the choice of the epoch and for the temperature.
        output: folder for the classifier.
        alias: what other labels mean, e.g. joy=positive; with nothing after the sign they are left out.
        word_vectors: what the embeddings of words start from, word2vec's text format, plain or .gz.
        name: what signatures call it.
        vocabulary_size: pieces of the tokenizer, at most.
        embedding_size: numbers per piece.
        widths: pieces that a convolution sees at once.
        n_filters: convolutions per width.
        dropout: share of features dropped in training.
        n_epochs: passes over the training texts.
        batch_size: texts a step.
        learning_rate: of AdamW.
        label_smoothing: share of a target spread over the classes.
        seed: of initialisation, order and dropout.
        json: print the evaluation on the validation texts as one JSON object.
    """
    aliases = _aliases(alias)
    labelled, held_out = read_labelled(train, aliases=aliases), read_labelled(validation, aliases=aliases)
    from pege.emotion.train import TrainOptions, train_emotion_classifier

    try:
        options = TrainOptions(
            name=name,
            vocabulary_size=vocabulary_size,
            embedding_size=embedding_size,
            widths=widths,
            n_filters=n_filters,
            dropout=dropout,
            n_epochs=n_epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            label_smoothing=label_smoothing,
            seed=seed,
        )
    except ValidationError as e:
        raise InputError(why_invalid(e), where="pege emotion train") from e
    found = train_emotion_classifier(labelled, held_out, output, options=options, word_vectors=word_vectors)
    write_json(output / "training.json", {"options": options.model_dump(mode="json"), "validation": found})
    _print_evaluation(found, as_json=json)


def _aliases(pairs: tuple[str, ...]) -> dict[str, str]:
    for pair in pairs:
        if "=" not in pair:
            raise InputError(f"{pair!r} is no alias", where="--alias", fix="write it as joy=positive")
    return dict(pair.split("=", 1) for pair in pairs)


def _print_evaluation(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(found))
        return
    print(f"{found['name']}  n {found['n']}")
    print(f"macro-F1 {found['macro_f1']:.4f}  accuracy {found['accuracy']:.4f}  ECE {found['ece']:.4f} (15 bins)")
    print(f"\n{'':>10}{'precision':>11}{'recall':>9}{'F1':>9}{'n':>9}")
    for label, row in found["classes"].items():
        print(f"{label:>10}{row['precision']:>11.4f}{row['recall']:>9.4f}{row['f1']:>9.4f}{row['n']:>9d}")
    print("\nconfusion (rows: true, columns: predicted)\n" + " " * 10 + "".join(f"{c:>10}" for c in found["labels"]))
    for label, counts in zip(found["labels"], found["confusion"], strict=True):
        print(f"{label:>10}" + "".join(f"{n:>10d}" for n in counts))
