"""Raw dialogs to PosEmoDial-like rows: read, cut, filter, split (sec. 3 of the paper; one process, streaming)."""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from tqdm import tqdm

from pege.corpus.filters import cut_windows, end_reason, length_reason, speaker_reason, start_reason, topic_reason
from pege.corpus.readers import check_row, read_raw
from pege.dialog import Dialog, Emotion, Utterance
from pege.errors import InputError
from pege.io import Quarantine, as_object, start_run, write_json, write_rows

log = logging.getLogger(__name__)
_BATCH = 512  # conversations whose utterances are classified together


class Classifier(Protocol):
    """What the emotion filters need."""

    @property
    def name(self) -> str:
        """What reports call it."""

    def predict(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Give (N, 3): p(negative), p(neutral), p(positive)."""


class CorpusConfig(BaseModel):
    """What a corpus depends on."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    input: tuple[str, ...]
    """Files, globs, hf:NAME[:SPLIT], or `chitchat`."""
    layout: str | None = None
    """Of the files; guessed from their names unless named."""
    filters: Literal["posemodial", "none"] = "posemodial"
    """The paper's filters, or none beside length: for a base-chat."""
    window: int | None = Field(None, ge=3)
    """Cut long conversations into sessions of at most so many utterances."""
    trailing: Literal["drop", "cut"] = "drop"
    """A dialog that ends with the agent is dropped, as the paper has it, or loses that utterance."""
    min_utterances: int = Field(3, ge=2)
    """Of a dialog, at least."""
    max_utterances: int = Field(30, ge=2)
    """Of a dialog, at most."""
    max_chars: int = Field(600, ge=1)
    """Of one utterance."""
    start_threshold: float = Field(0.5, ge=0, le=1)
    """What the likeliest class of the first utterance must exceed (filter 2)."""
    end_threshold: float = Field(0.9, ge=0, le=1)
    """What P(positive) of the last utterance must exceed (filter 3)."""
    validation_share: float = Field(0.05, ge=0, lt=1)
    """Of the dialogs."""
    limit: int | None = Field(None, ge=1)
    """Stop after so many kept dialogs."""
    seed: int = 0
    """Of the split."""


def build_corpus(
    config: CorpusConfig, output: Path | str, classifier: Classifier, *, keep_dropped: bool = False
) -> dict[str, Any]:
    """Build a corpus folder: ``train.jsonl``, ``validation.jsonl``, ``report.json``, and what was refused.

    In the report ``input = kept + dropped + quarantined``, counted in sessions: a conversation that was cut counts as
    its sessions, or as one where none was found (``no-session``).

    Raises:
        InputError: nothing to read, nothing kept.
    """
    folder = start_run(Path(output), config.model_dump(mode="json"), packages=("torch",))
    sides: dict[str, list[dict[str, Any]]] = {"train": [], "validation": []}
    dropped: list[dict[str, Any]] = []
    reasons: Counter[str] = Counter()
    n_kept = 0
    with Quarantine(folder / "quarantine.jsonl") as quarantine:
        dialogs = _read_dialogs(config, quarantine)
        progress = tqdm(total=config.limit, unit="dialog", desc="kept" if config.limit else "read")
        for batch in iter(lambda: list(itertools.islice(dialogs, _BATCH)), []):
            kept_before = n_kept
            for dialog, reason in _sessions(batch, config, classifier):
                if n_kept == config.limit:
                    break
                if reason is None:
                    sides[side_of(dialog.id, config)].append(as_object(dialog))
                    n_kept += 1
                else:
                    reasons[reason] += 1
                    if keep_dropped:
                        dropped.append({**as_object(dialog), "reason": reason})
            progress.update(n_kept - kept_before if config.limit else len(batch))
            if n_kept == config.limit:
                break
        progress.close()
        n_quarantined = quarantine.n_rows
    if not n_kept:
        raise InputError(f"no dialog was kept ({dict(reasons)})", where=folder, fix="loosen the filters")
    for side, rows in sides.items():
        write_rows(folder / f"{side}.jsonl", rows)
    if keep_dropped:
        write_rows(folder / "dropped.jsonl", dropped)
    report = {
        "input": n_kept + sum(reasons.values()) + n_quarantined,
        "kept": n_kept,
        "dropped": dict(reasons.most_common()),
        "quarantined": n_quarantined,
        "train": len(sides["train"]),
        "validation": len(sides["validation"]),
        "classifier": classifier.name,
    }
    write_json(folder / "report.json", report)
    return report


def _read_dialogs(config: CorpusConfig, quarantine: Quarantine) -> Iterator[Dialog]:
    for file, line, raw in read_raw(config.input, layout=config.layout):
        dialog = check_row(raw, file, line)
        if isinstance(dialog, InputError):
            quarantine.add(file, line, dialog.what, None if isinstance(raw, InputError) else raw)
        elif config.trailing == "cut" and len(dialog.messages) > 1 and dialog.messages[-1].role == "assistant":
            yield dialog.model_copy(update={"messages": dialog.messages[:-1]})
        else:
            yield dialog


def _sessions(
    dialogs: list[Dialog], config: CorpusConfig, classifier: Classifier
) -> Iterator[tuple[Dialog, str | None]]:
    """Give each session of some conversations, with a reason where it is dropped, its emotion where it is kept."""
    pieces = list(_cut(dialogs, config, classifier)) if config.window else [(d, None) for d in dialogs]
    waiting: list[Dialog] = []
    for dialog, reason in pieces:
        reason = reason or _cheap_reason(dialog, config)
        if reason:
            yield dialog, reason
        else:
            waiting.append(dialog)
    if not waiting:
        return
    first = _emotions(classifier, [d.texts[0] for d in waiting])
    last = _emotions(classifier, [d.texts[-1] for d in waiting])
    for dialog, start, end in zip(waiting, first, last, strict=True):
        reason = None
        if config.filters == "posemodial":
            reason = start_reason(start, threshold=config.start_threshold) or end_reason(
                end, threshold=config.end_threshold
            )
        yield dialog.model_copy(update={"emotion": start}), reason


def _cheap_reason(dialog: Dialog, config: CorpusConfig) -> str | None:
    reason = length_reason(
        dialog,
        min_utterances=config.min_utterances,
        max_utterances=config.max_utterances,
        max_chars=config.max_chars,
    )
    if reason or config.filters == "none":
        return reason
    return speaker_reason(dialog) or topic_reason(dialog)


def _cut(dialogs: list[Dialog], config: CorpusConfig, classifier: Classifier) -> Iterator[tuple[Dialog, str | None]]:
    texts = [t for d in dialogs for t in d.texts]
    if config.filters == "posemodial":
        ends_well = (classifier.predict(texts)[:, 2] > config.end_threshold).tolist()
    else:
        ends_well = [True] * len(texts)
    place = 0
    for dialog in dialogs:
        n = len(dialog.messages)
        window = config.window or n
        shortest = config.min_utterances if config.filters == "posemodial" else window - (window + 1) % 2
        spans = cut_windows(n, ends_well[place : place + n], window=window, min_utterances=shortest)
        place += n
        if not spans:
            yield dialog, "no-session"
        for k, (start, stop) in enumerate(spans):
            messages = tuple(
                Utterance(role="assistant" if (i - start) % 2 else "user", content=dialog.messages[i].content)
                for i in range(start, stop)
            )
            yield dialog.model_copy(update={"id": f"{dialog.id}#{k}", "messages": messages}), None


def _emotions(classifier: Classifier, texts: Sequence[str]) -> list[Emotion]:
    return [
        Emotion(negative=round(n, 4), neutral=round(z, 4), positive=round(p, 4))
        for n, z, p in classifier.predict(texts).tolist()
    ]


def side_of(dialog_id: str, config: CorpusConfig) -> str:
    """Give ``train`` or ``validation`` by a hash of the conversation's id: sessions of one never part."""
    digest = hashlib.sha256(f"{config.seed}|{dialog_id.partition('#')[0]}".encode()).digest()
    return "validation" if int.from_bytes(digest[:4]) / 2**32 < config.validation_share else "train"


def corpus_stats(dialogs: Iterable[Dialog]) -> dict[str, Any]:
    """Sessions and utterances by starting emotion (Table 2 of the paper)."""
    sessions: Counter[str] = Counter()
    utterances: Counter[str] = Counter()
    for dialog in dialogs:
        emotion = dialog.emotion
        start = (
            "unknown"
            if emotion is None
            else max(("negative", "neutral", "positive"), key=lambda c: getattr(emotion, c))
        )
        sessions[start] += 1
        utterances[start] += len(dialog.messages)
    return {
        "sessions": dict(sessions),
        "utterances": dict(utterances),
        "n_sessions": sum(sessions.values()),
        "n_utterances": sum(utterances.values()),
    }
