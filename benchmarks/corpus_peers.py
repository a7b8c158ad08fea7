"""The builder's peers in `corpus.py`: a plain loop in one process, and a pipeline of datatrove.

Both run the rules of `configs/corpus.yaml` in the builder's order; what each worked with is named where it is made.
The models are the builder's own, asked in batches by all. Near-duplicates are left out: their hashes differ.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import pyarrow as pa
from datatrove.data import Document, DocumentsPipeline
from datatrove.executor.local import LocalPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from plain_rules import PlainRules, Texts

from pege.corpus.cleaning import active_rules, clean
from pege.corpus.codepoints import as_texts
from pege.corpus.config import CorpusConfig
from pege.corpus.filter_step import load_models
from pege.corpus.offensive import offensive_words
from pege.corpus.personal import CONTACT_RULES
from pege.corpus.topics import load_topics, topic_of
from pege.io import read_json, read_rows, write_json, write_rows

BATCH = 1_000  # dialogs that a model is asked about at once
Rules = Literal["plain", "columns"]
Reasons = list[str | None]


class ColumnRules(PlainRules):
    """The same rules by the builder's functions over columns: a batch of dialogs at once."""

    def clean(self, dialogs: Sequence[Texts]) -> list[tuple[Texts, str | None]]:
        """See `PlainRules`."""
        texts, flaws = clean(as_texts(itertools.chain(*dialogs)), active_rules(self.config.cleaning))
        rewritten = zip(_split(texts.to_pylist(), dialogs), _split(flaws.to_pylist(), dialogs), strict=True)
        return [(t, self.misshapen(len(t)) or next(filter(None, f), None)) for t, f in rewritten]

    def cheap(self, dialogs: Sequence[Texts]) -> Reasons:
        """See `PlainRules`."""
        reasons: Reasons = [None] * len(dialogs)
        for reason_of in (self._topic, self._contact, self._offensive):
            left = [k for k, reason in enumerate(reasons) if reason is None]
            some = [dialogs[k] for k in left]
            for k, found in zip(left, _split(reason_of(as_texts(itertools.chain(*some))), some), strict=True):
                reasons[k] = next(filter(None, found), None)
        return reasons

    def _topic(self, texts: pa.Array) -> Reasons:
        return [topic and "topic" for topic in topic_of(texts, load_topics(self.config.topics)).to_pylist()]

    def _contact(self, texts: pa.Array) -> Reasons:
        found: Reasons = [None] * len(texts)
        for name, has in reversed(CONTACT_RULES.items()):
            found = [name if hit else before for hit, before in zip(has(texts).to_pylist(), found, strict=True)]
        return found

    def _offensive(self, texts: pa.Array) -> Reasons:
        return ["offensive-word" if hit else None for hit in offensive_words(texts).to_pylist()]


def _split(values: list[Any], dialogs: Sequence[Texts]) -> list[list[Any]]:
    """Give a flat list of one value an utterance by dialogs."""
    source = iter(values)
    return [list(itertools.islice(source, len(texts))) for texts in dialogs]


class ModelRules:
    """The filters that ask a model, each over a batch of dialogs."""

    def __init__(self, config: CorpusConfig) -> None:
        import torch

        torch.set_num_threads(1)
        self.config, self.models = config, load_models(config)

    def start(self, dialogs: Sequence[Texts]) -> Reasons:
        """Filter 2."""
        likeliest = self.models.emotion().predict([d[0] for d in dialogs]).max(axis=1)
        return ["unclear-start" if p <= self.config.start_threshold else None for p in likeliest]

    def end(self, dialogs: Sequence[Texts]) -> Reasons:
        """Filter 3."""
        positive = self.models.emotion().predict([d[-1] for d in dialogs])[:, 2]
        return ["not-positive-end" if p <= self.config.end_threshold else None for p in positive]

    def offensive(self, dialogs: Sequence[Texts]) -> Reasons:
        """Filter 6."""
        p = self.models.offensive().predict(list(itertools.chain(*dialogs)))[:, 1] > self.config.offensive_threshold
        return ["offensive" if any(hits) else None for hits in _split(p.tolist(), dialogs)]

    def personal(self, dialogs: Sequence[Texts]) -> Reasons:
        """Filter 5."""
        found = self.models.recogniser().find(list(itertools.chain(*dialogs)))
        kinds = [names[0].kind if names else None for names in found]
        return [next(filter(None, some), None) for some in _split(kinds, dialogs)]

    def emotion(self, dialogs: Sequence[Texts]) -> list[list[float]]:
        """p(negative), p(neutral), p(positive) of each first utterance, four decimals."""
        return self.models.emotion().predict([d[0] for d in dialogs]).round(4).tolist()  # type: ignore[no-any-return]


MODEL_FILTERS = ("start", "end", "offensive", "personal")
_Made = TypeVar("_Made")


def once(make: Callable[[CorpusConfig], _Made], config: CorpusConfig) -> _Made:
    """Make rules or load models once a process, whichever steps ask for them."""
    return _once(make, config.model_dump_json())  # type: ignore[no-any-return]


@functools.cache
def _once(make: Callable[[CorpusConfig], Any], config: str) -> Any:
    return make(CorpusConfig.model_validate_json(config))


RULES: dict[Rules, type[PlainRules]] = {"plain": PlainRules, "columns": ColumnRules}


def texts_of(row: dict[str, Any]) -> Texts:
    """Check a row as plainly as a script would: utterances with text, alternating, the user first."""
    messages = row["messages"]
    for k, message in enumerate(messages):
        if message["role"] != ("user", "assistant")[k % 2] or not message["content"].strip():
            raise ValueError(f"{row['id']}: message {k}")
    return [m["content"] for m in messages]


def _key(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def _responses(texts: Texts, rules: PlainRules) -> set[tuple[int, int]]:
    """Keys of the longer responses, each with that of the dialog: a copy of a dialog counts once."""
    responses = rules.long_responses(texts)
    dialog = _key(rules.words_of(texts)) if responses else 0
    return {(_key(t), dialog) for t in responses}


def _frequent(pairs: set[tuple[int, int]], config: CorpusConfig) -> set[int]:
    return {key for key, n in Counter(key for key, _ in pairs).items() if n > config.max_response_count}


def _is_frequent(texts: Texts, frequent: set[int], rules: PlainRules) -> bool:
    return any(_key(t) in frequent for t in rules.long_responses(texts))


# ---- a plain loop


def run_plain(config: CorpusConfig, files: Sequence[Path], output: Path) -> None:
    """Read, clean and count row by row; then filter row by row, the models in batches. One process.

    Writes ``kept.jsonl.gz`` and ``report.json``; between the two passes the clean dialogs lie in a file.
    """
    rules, models = PlainRules(config), ModelRules(config)
    reasons: Counter[str] = Counter()
    pairs: set[tuple[int, int]] = set()

    def cleaned() -> Iterator[dict[str, Any]]:
        for path in files:
            for row in _lines(path):
                [(texts, reason)] = rules.clean([texts_of(row)])
                if reason:
                    reasons[reason] += 1
                    continue
                pairs.update(_responses(texts, rules))
                yield {"id": row["id"], "texts": texts}

    write_rows(output / "clean.jsonl.gz", cleaned())
    frequent = _frequent(pairs, config) if config.frequent_words else set()

    def left() -> Iterator[dict[str, Any]]:
        for row in _lines(output / "clean.jsonl.gz"):
            is_frequent = _is_frequent(row["texts"], frequent, rules)
            if reason := "frequent-response" if is_frequent else rules.cheap([row["texts"]])[0]:
                reasons[reason] += 1
            else:
                yield row

    def kept() -> Iterator[dict[str, Any]]:
        for batch in _batched(left(), BATCH):
            for name in MODEL_FILTERS:
                found = getattr(models, name)([r["texts"] for r in batch])
                reasons.update(filter(None, found))
                batch = [row for row, reason in zip(batch, found, strict=True) if not reason]
                if not batch:
                    break
            for row, emotion in zip(batch, models.emotion([r["texts"] for r in batch]) if batch else (), strict=True):
                yield {"id": row["id"], "texts": row["texts"][:-1], "emotion": emotion}

    n_kept = write_rows(output / "kept.jsonl.gz", kept())
    write_json(output / "report.json", {"kept": n_kept, "dropped": dict(reasons)})


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def _batched(rows: Iterator[Any], n: int) -> Iterator[list[Any]]:
    while batch := list(itertools.islice(rows, n)):
        yield batch


# ---- datatrove


def _as_document(self: Any, row: dict[str, Any], path: str, line: int | str) -> dict[str, Any]:
    texts = row["metadata"]["texts"] if "metadata" in row else texts_of(row)
    return {"id": row["id"], "text": texts[0], "metadata": {"texts": texts}}


class _Rule(BaseFilter):  # type: ignore[misc]
    """A filter of datatrove around one of our rules; its statistics count the reasons."""

    def __init__(self, name: str, config: CorpusConfig, kind: Rules = "columns") -> None:
        super().__init__(batch_size=BATCH if kind == "columns" else 1)
        self.name, self.config, self.kind = name, config, kind

    @functools.cached_property
    def rules(self) -> PlainRules:
        """Made in the process that asks: a step travels to it."""
        return once(RULES[self.kind], self.config)

    @functools.cached_property
    def models(self) -> ModelRules:
        """See `rules`."""
        return once(ModelRules, self.config)

    def reasons(self, documents: list[Document]) -> Reasons:
        """Why each is dropped, if it is."""
        raise NotImplementedError

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """See `BaseFilter`."""
        return self.filter_batch([doc])[0]

    def filter_batch(self, batch: list[Document]) -> list[bool | tuple[bool, str]]:
        """See `BaseFilter`."""
        return [(False, reason) if reason else True for reason in self.reasons(batch)]


class Clean(_Rule):
    """Rewrites the utterances, and drops what the rules of cleaning refuse."""

    def __init__(self, config: CorpusConfig, kind: Rules) -> None:
        super().__init__("clean", config, kind)

    def reasons(self, documents: list[Document]) -> Reasons:
        """See `_Rule`."""
        found = self.rules.clean([d.metadata["texts"] for d in documents])
        for document, (texts, _) in zip(documents, found, strict=True):
            document.text, document.metadata["texts"] = texts[0] or " ", texts
        return [reason for _, reason in found]


class CountResponses(PipelineStep):  # type: ignore[misc]
    """Counts the longer responses of a task, and writes the counts at its end."""

    type, name = "count", "responses"

    def __init__(self, config: CorpusConfig, folder: Path) -> None:
        super().__init__()
        self.config, self.folder = config, folder

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        """See `PipelineStep`."""
        pairs: set[tuple[int, int]] = set()
        rules = once(PlainRules, self.config)
        for document in data:
            pairs.update(_responses(document.metadata["texts"], rules))
            yield document
        write_json(self.folder / f"{rank:05d}.json", sorted(pairs))


class Cheap(_Rule):
    """Responses that occur too often, then the filters without a model."""

    def __init__(self, config: CorpusConfig, kind: Rules, frequent: set[int]) -> None:
        super().__init__("cheap", config, kind)
        self.frequent = frequent

    def reasons(self, documents: list[Document]) -> Reasons:
        """See `_Rule`."""
        dialogs = [d.metadata["texts"] for d in documents]
        often = [bool(self.frequent) and _is_frequent(d, self.frequent, self.rules) for d in dialogs]
        found = iter(self.rules.cheap([d for d, is_often in zip(dialogs, often, strict=True) if not is_often]))
        return ["frequent-response" if is_often else next(found) for is_often in often]


class AskModel(_Rule):
    """One of the filters that ask a model."""

    def __init__(self, config: CorpusConfig, name: str) -> None:
        super().__init__(name, config)

    def reasons(self, documents: list[Document]) -> Reasons:
        """See `_Rule`."""
        ask: Callable[[list[Texts]], Reasons] = getattr(self.models, self.name)
        return ask([d.metadata["texts"] for d in documents])


class Finish(_Rule):
    """Attaches the emotion of the first utterance and deletes the last one."""

    def __init__(self, config: CorpusConfig) -> None:
        super().__init__("finish", config)

    def reasons(self, documents: list[Document]) -> Reasons:
        """See `_Rule`; drops nothing."""
        emotions = self.models.emotion([d.metadata["texts"] for d in documents])
        for document, emotion in zip(documents, emotions, strict=True):
            document.metadata |= {"texts": document.metadata["texts"][:-1], "emotion": emotion}
        return [None] * len(documents)


def run_datatrove(config: CorpusConfig, folder: Path, output: Path, *, workers: int, kind: Rules) -> None:
    """Two pipelines of as many tasks as workers: clean and count; then filter.

    Args:
        config: the rules.
        folder: of the input.
        output: gets ``kept/*.jsonl.gz`` and ``report.json``.
        workers: tasks, all at once.
        kind: ``plain``: a document at a time, as its own filters are written; ``columns``: batches of documents
            through the builder's functions.
    """

    def run(name: str, source: Path, steps: list[Any], target: Path) -> None:
        reader = JsonlReader(str(source), adapter=_as_document, add_file_path=False)
        pipeline = [reader, *steps, JsonlWriter(str(target))]
        LocalPipelineExecutor(pipeline, tasks=workers, workers=workers, logging_dir=str(output / name)).run()

    (output / "counts").mkdir(parents=True)
    run("1", folder, [Clean(config, kind), CountResponses(config, output / "counts")], output / "clean")
    pairs = {(key, dialog) for path in (output / "counts").iterdir() for key, dialog in read_json(path)}
    filters = [AskModel(config, name) for name in MODEL_FILTERS]
    cheap = Cheap(config, kind, _frequent(pairs, config) if config.frequent_words else set())
    run("2", output / "clean", [cheap, *filters, Finish(config)], output / "kept")
    reasons: Counter[str] = Counter()
    for name in ("1", "2"):
        for step in read_json(output / name / "stats.json"):
            for key, value in step["stats"].items():
                if key.startswith("dropped_"):
                    reasons[key.removeprefix("dropped_")] += int(value["total"] if isinstance(value, dict) else value)
    write_json(output / "report.json", {"dropped": dict(reasons)})


def kept_of(output: Path) -> dict[str, Texts]:
    """Id -> utterances of what the builder or a peer kept."""
    from pege.dialog import Dialog

    if (output / "train").is_dir():
        sides = [d for side in ("train", "validation") for d in read_rows(output / side, Dialog)]
        return {dialog.id: dialog.texts for dialog in sides}
    found: dict[str, Texts] = {}
    for path in [*output.glob("kept.jsonl.gz"), *sorted(output.glob("kept/*.jsonl.gz"))]:
        for row in _lines(path):
            found[row["id"]] = row.get("metadata", row)["texts"]
    return found
