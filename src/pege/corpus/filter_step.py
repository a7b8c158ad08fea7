"""The fourth step, per shard: sessions out of conversations, and the filters of sec. 3.2, cheap to dear."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pege.corpus.clean_step import CLEAN
from pege.corpus.config import CorpusConfig
from pege.corpus.hashing import Hashing, band_table, response_hashes
from pege.corpus.shards import CONVERSATION, DROPPED, KEPT, Drops, flatten, keep_rows
from pege.corpus.windows import cut_windows
from pege.emotion import LABELS


class Classifier(Protocol):
    """What gives probabilities of classes."""

    @property
    def name(self) -> str:
        """What reports call it."""

    def predict(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Give (N, classes); for emotion p(negative), p(neutral), p(positive)."""


@dataclass(frozen=True)
class Models:
    """What the dear filters ask; loaded once a worker, and only where a filter needs it."""

    emotion: Callable[[], Classifier]
    offensive: Callable[[], Classifier]
    recogniser: Callable[[], Any]
    topics: Callable[[pa.Array], pa.Array]


@dataclass(frozen=True)
class _Sessions:
    """Sessions with what the filters need of them."""

    table: pa.Table
    texts: pa.Array  # all utterances, flat
    offsets: NDArray[np.int64]  # (N + 1,)

    @classmethod
    def of(cls, table: pa.Table) -> _Sessions:
        return cls(table, *flatten(table))

    def first(self) -> list[str]:
        return self.texts.take(pa.array(self.offsets[:-1])).to_pylist()  # type: ignore[no-any-return]

    def last(self) -> list[str]:
        return self.texts.take(pa.array(self.offsets[1:] - 1)).to_pylist()  # type: ignore[no-any-return]

    def drop_where(self, reasons: pa.Array, details: Sequence[str | None] | None = None) -> Drops:
        """Drop each session at its first utterance with a reason. Reasons: one an utterance, null for none."""
        hits = np.flatnonzero(reasons.is_valid().to_numpy(zero_copy_only=False))
        owners = np.searchsorted(self.offsets, hits, side="right") - 1
        rows, first = np.unique(owners, return_index=True)
        chosen = hits[first]
        seen = [self.texts[int(k)].as_py()[:200] if details is None else details[int(k)] for k in chosen]
        return Drops(
            rows.tolist(),
            [reasons[int(k)].as_py() for k in chosen],
            [int(k - self.offsets[r]) for k, r in zip(chosen, rows, strict=True)],
            seen,
        )


def filter_shard(
    table: pa.Table,
    frequent: NDArray[np.uint64],
    config: CorpusConfig,
    models: Models,
    hashing: Hashing,
) -> tuple[dict[str, pa.Table], dict[str, Any]]:
    """Filter one shard of clean conversations.

    Args:
        table: ``CLEAN`` rows.
        frequent: hashes of responses that occur too often.
        config: filters and thresholds.
        models: what the filters ask.
        hashing: as in the clean step.

    Returns:
        Tables ``kept`` (``KEPT``), ``dropped`` (``DROPPED``) and ``bands`` (a hash a band of each kept session), and
        counts: conversations read, sessions kept and dropped; with the name of the classifier that was asked.
    """
    dropped: list[pa.Table] = []
    n_conversations = table.num_rows
    table = _cut(table, config, models, dropped) if config.window else table.select(CONVERSATION.names)
    table = _without(table, _frequent_responses(table, frequent, config, hashing), dropped)
    for name in config.filters:
        table = _without(table, FILTERS_BY_NAME[name](_Sessions.of(table), config, models), dropped)
    kept = _with_emotions(table, models)
    refused = pa.concat_tables(dropped) if dropped else DROPPED.empty_table()
    counts = {
        "conversations": n_conversations,
        "kept": kept.num_rows,
        "dropped": refused.num_rows,
        "classifier": models.emotion().name,
    }
    return {"kept": kept, "dropped": refused, "bands": band_table(kept, config, hashing)}, counts


def _without(table: pa.Table, drops: Drops, dropped: list[pa.Table]) -> pa.Table:
    """Move the dropped rows out of a table."""
    if not drops.rows:
        return table
    dropped.append(drops.table(table.select(CONVERSATION.names)))
    is_kept = np.ones(table.num_rows, dtype=np.bool_)
    is_kept[drops.rows] = False
    return keep_rows(table, is_kept)


# ---- what the third step found


def _frequent_responses(table: pa.Table, frequent: NDArray[np.uint64], config: CorpusConfig, hashing: Hashing) -> Drops:
    texts, offsets = flatten(table)
    if not frequent.size or not len(texts):
        return Drops([], [], [], [])
    found = response_hashes(texts, offsets, config, hashing)
    sessions = _Sessions(table, texts, offsets)
    return sessions.drop_where(
        _reasons(len(texts), found.positions[np.isin(found.hashes, frequent)], "frequent-response")
    )


def _reasons(n: int, positions: NDArray[np.int64], reason: str) -> pa.Array:
    """(n,) with a reason at some positions, null elsewhere."""
    marked = np.zeros(n, dtype=np.bool_)
    marked[positions] = True
    return pa.array(np.where(marked, reason, ""), mask=~marked)


# ---- windows


def _cut(table: pa.Table, config: CorpusConfig, models: Models, dropped: list[pa.Table]) -> pa.Table:
    """Cut conversations into sessions that start and end with the same speaker, and end well where filter 3 runs."""
    texts, offsets = flatten(table)
    window = config.window or 0
    ends_well = np.ones(len(texts), dtype=np.bool_)
    shortest = window - (window + 1) % 2
    if "end" in config.filters:
        ends_well = _predict(models.emotion, texts.to_pylist())[:, 2] > config.end_threshold
        shortest = config.min_utterances
    spans: list[tuple[int, int, int]] = []  # conversation, start, stop
    for row, (start, stop) in enumerate(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)):
        found = cut_windows(stop - start, ends_well[start:stop].tolist(), window=window, min_utterances=shortest)
        spans += [(row, start + a, start + b) for a, b in found]
    is_cut = np.zeros(table.num_rows, dtype=np.bool_)
    is_cut[[row for row, _, _ in spans]] = True
    n = int((~is_cut).sum())
    rows = np.flatnonzero(~is_cut).tolist()
    _without(table, Drops(rows, ["no-session"] * n, [None] * n, [None] * n), dropped)
    sessions = _session_table(table, spans)
    flaws = sessions.column("flaws").combine_chunks().flatten()
    return _without(sessions, _Sessions.of(sessions).drop_where(flaws), dropped).select(CONVERSATION.names)


def _session_table(table: pa.Table, spans: list[tuple[int, int, int]]) -> pa.Table:
    """Give ``CLEAN`` rows of sessions; ids and keys get the session's number."""
    number: dict[int, int] = {}
    names = []
    for row, _, _ in spans:
        names.append(number.get(row, 0))
        number[row] = names[-1] + 1
    sessions = table.take(pa.array([row for row, _, _ in spans], pa.int64()))
    lengths = [b - a for _, a, b in spans]
    positions = np.array([k for _, a, b in spans for k in range(a, b)], dtype=np.int64)
    offsets = pa.array(np.concatenate(([0], np.cumsum(lengths))), pa.int32())
    for name in ("texts", "flaws"):
        flat = table.column(name).combine_chunks().flatten().take(pa.array(positions))
        column = pa.ListArray.from_arrays(offsets, flat)
        sessions = sessions.set_column(sessions.schema.get_field_index(name), CLEAN.field(name), column)
    for name, form in (("id", "{}#{}"), ("key", "{}-{:04d}")):
        values = [form.format(v, k) for v, k in zip(sessions.column(name).to_pylist(), names, strict=True)]
        column = pa.array(values, CLEAN.field(name).type)  # without any session the type cannot be guessed
        sessions = sessions.set_column(sessions.schema.get_field_index(name), CLEAN.field(name), column)
    return sessions


# ---- the filters; each gives the sessions that it drops


def _by_topic(sessions: _Sessions, config: CorpusConfig, models: Models) -> Drops:
    """Filter 4, ``topic``: trade, renting, job hunting, blind dates, ..."""
    topics = models.topics(sessions.texts)
    reasons = _reasons(len(topics), np.flatnonzero(topics.is_valid().to_numpy(zero_copy_only=False)), "topic")
    return sessions.drop_where(reasons, topics.to_pylist())


def _by_contact(sessions: _Sessions, config: CorpusConfig, models: Models) -> Drops:
    """Filter 5, the patterns: ``phone``, ``email``, ``handle``, ``id-number``."""
    from pege.corpus.personal import CONTACT_RULES

    reasons = pa.nulls(len(sessions.texts), pa.string())
    for name, has in CONTACT_RULES.items():
        found = has(sessions.texts).to_numpy(zero_copy_only=False)
        reasons = _first(reasons, _reasons(len(found), np.flatnonzero(found), name))
    return sessions.drop_where(reasons)


def _first(a: pa.Array, b: pa.Array) -> pa.Array:
    import pyarrow.compute as pc

    return pc.coalesce(a, b)


def _by_offensive_word(sessions: _Sessions, config: CorpusConfig, models: Models) -> Drops:
    """Filter 6, the word list: ``offensive-word``."""
    from pege.corpus.offensive import offensive_words

    found = offensive_words(sessions.texts).to_numpy(zero_copy_only=False)
    return sessions.drop_where(_reasons(len(found), np.flatnonzero(found), "offensive-word"))


def _by_start(sessions: _Sessions, config: CorpusConfig, models: Models) -> Drops:
    """Filter 2, ``unclear-start``: no class of the first utterance is likely enough."""
    likeliest = _predict(models.emotion, sessions.first()).max(axis=1, initial=0)
    rows = np.flatnonzero(likeliest <= config.start_threshold).tolist()
    return Drops(rows, ["unclear-start"] * len(rows), [0] * len(rows), [f"max p {likeliest[k]:.3f}" for k in rows])


def _by_end(sessions: _Sessions, config: CorpusConfig, models: Models) -> Drops:
    """Filter 3, ``not-positive-end``: P(positive) of the last utterance is too low."""
    positive = _predict(models.emotion, sessions.last())[:, 2]
    rows = np.flatnonzero(positive <= config.end_threshold).tolist()
    places = (np.diff(sessions.offsets) - 1).tolist()
    details = [f"p(positive) {positive[k]:.3f}" for k in rows]
    return Drops(rows, ["not-positive-end"] * len(rows), [places[k] for k in rows], details)


def _by_offense(sessions: _Sessions, config: CorpusConfig, models: Models) -> Drops:
    """Filter 6, ``offensive``: an utterance that the classifier takes for offensive language."""
    p = _predict(models.offensive, sessions.texts.to_pylist())[:, 1]
    hits = np.flatnonzero(p > config.offensive_threshold)
    return sessions.drop_where(_reasons(len(p), hits, "offensive"), [f"p(offensive) {x:.3f}" for x in p])


def _by_person(sessions: _Sessions, config: CorpusConfig, models: Models) -> Drops:
    """Filter 5, the recogniser: ``person``, ``institution``, ``address``."""
    if not len(sessions.texts):
        return Drops([], [], [], [])
    found = models.recogniser().find(sessions.texts.to_pylist())
    reasons = pa.array([e[0].kind if e else None for e in found], pa.string())
    return sessions.drop_where(reasons, [e[0].text if e else None for e in found])


def _predict(classifier: Callable[[], Classifier], texts: list[str]) -> NDArray[np.float64]:
    return classifier().predict(texts) if texts else np.zeros((0, 3))


#: name of a filter in the config -> what it drops
FILTERS_BY_NAME: dict[str, Callable[[_Sessions, CorpusConfig, Models], Drops]] = {
    "topic": _by_topic,
    "contact": _by_contact,
    "offensive-word": _by_offensive_word,
    "start": _by_start,
    "end": _by_end,
    "offensive": _by_offense,
    "personal": _by_person,
}


def _with_emotions(table: pa.Table, models: Models) -> pa.Table:
    """Attach p(negative), p(neutral), p(positive) of the first utterance, four decimals."""
    p = np.round(_predict(models.emotion, _Sessions.of(table).first()), 4)
    for k, name in enumerate(LABELS):
        table = table.append_column(KEPT.field(name), pa.array(p[:, k]))
    return table


def load_models(config: CorpusConfig, *, emotion: Classifier | None = None) -> Models:
    """Give what a worker loads, each at its first use.

    Args:
        config: names of classifier, recogniser and topics.
        emotion: a classifier at hand, in place of the config's.
    """

    @functools.cache
    def load_emotion() -> Classifier:
        from pege.emotion import load_emotion_classifier

        found: Classifier = emotion or load_emotion_classifier(config.classifier)
        return found

    @functools.cache
    def load_offensive() -> Classifier:
        from pege.corpus.offensive import load_offensive_classifier

        return load_offensive_classifier()

    @functools.cache
    def load_entities() -> Any:
        from pege.corpus.entities import load_recogniser

        return load_recogniser(config.recogniser, keep_places=config.keep_places, allow=config.allow)

    def topics(texts: pa.Array) -> pa.Array:
        from pege.corpus.topics import load_topics, topic_of

        return topic_of(texts, load_topics(config.topics))

    return Models(load_emotion, load_offensive, load_entities, topics)


def check_models(config: CorpusConfig) -> None:
    """Load what a config names by itself, so that a misspelt name is told before anything is read or written.

    Raises:
        InputError: no such classifier, topics, recogniser or names.
    """
    models = load_models(config)
    if config.classifier != "default":
        models.emotion()
    if config.topics is not None and "topic" in config.filters:
        models.topics(pa.array([], pa.string()))
    if (config.recogniser, config.allow) != ("default", None) and "personal" in config.filters:
        models.recogniser()
