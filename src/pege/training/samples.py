"""Rows to tensors: one sample a dialog, every response of the agent learned in one pass (design sec. 6)."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np
import torch
from torch import Tensor

from pege.dialog import Dialog, Emotion
from pege.emotion import load_emotion_classifier, with_emotions
from pege.errors import InputError
from pege.io import read_rows
from pege.lexicon import Lexicon
from pege.metrics.pege import utterance_vads
from pege.models.padding import IGNORED, pad_rows
from pege.models.prompt import encode_dialog


class Guidance(TypedDict):
    """What the loss takes from a dialog's first utterance."""

    user_vad: list[float]  # (3,) u of Eq. 1
    p_positive: float
    p_negative: float


class Sample(Guidance):
    """One training input of S tokens, before padding."""

    input_ids: list[int]  # (S,)
    labels: list[int]  # (S,) the token itself where it is learned, else IGNORED; the trainer shifts
    n_utterances: list[int]  # (S,) c of Eq. 2: utterances before the one the token belongs to, >= 1


def read_dialogs(paths: Iterable[str | Path]) -> list[Dialog]:
    """Read all rows of some files.

    Raises:
        InputError: a file that is not there, a bad row, no rows at all.
    """
    dialogs = [d for path in paths for d in read_rows(path, Dialog)]
    if not dialogs:
        raise InputError("no dialogs", where=", ".join(map(str, paths)), fix="name files of rows (docs/rows.md)")
    return dialogs


def ready_dialogs(paths: Iterable[str | Path], at_most: int | None, rng: random.Random) -> list[Dialog]:
    """Read rows, draw at most so many of them, and give those that lack the emotion of u1 that of our classifier.

    Raises:
        InputError: see `read_dialogs`.
    """
    dialogs = read_dialogs(paths)
    if at_most is not None and at_most < len(dialogs):
        dialogs = rng.sample(dialogs, at_most)
    return with_emotions(dialogs, lambda texts: load_emotion_classifier().emotions(texts))


def make_samples(
    dialogs: Iterable[Dialog],
    tokenizer: Any,
    lexicon: Lexicon,
    *,
    sides: Literal["agent", "both", "rest"] = "agent",
    count: Literal["utterances", "turns"] = "utterances",
    emotion_input: bool = True,
    only_last: bool = False,
    max_length: int = 512,
) -> Iterator[Sample]:
    """Give one sample a dialog. Every dialog carries its emotion.

    The user's last utterance is left out where only the agent is learned: nothing follows it (design sec. 6). A dialog
    in which nothing is learned gives no sample.

    Args:
        dialogs: with ``emotion``.
        tokenizer: of the model.
        lexicon: for u, the mean VAD of the first utterance's words; its mean where it has none of them.
        sides: ``agent``, or ``both`` for a base-chat, which learns all but the first utterance; ``rest`` is the same.
        count: c in utterances, as the paper has it, or in turns of two.
        emotion_input: whether the probabilities stand in the prompt.
        only_last: learn the last utterance of ``messages`` alone.
        max_length: tokens; a longer sample loses its oldest turns, and is cut at the end only if one turn is longer.
    """
    for dialog, emotion, guidance in with_guidance(dialogs, lexicon):
        messages = dialog.messages
        if sides == "agent" and messages[-1].role == "user":
            messages = messages[:-1]
        if len(messages) < 2:
            continue
        encoded = encode_dialog(tokenizer, messages, emotion if emotion_input else None, max_length=max_length)
        ids = encoded.ids[:max_length]
        labels, n_before = [IGNORED] * len(ids), [1] * len(ids)
        for k, (start, stop) in enumerate(encoded.spans, start=encoded.n_dropped):
            if k == 0 or (sides == "agent" and messages[k].role == "user") or (only_last and k < len(messages) - 1):
                continue
            stop = min(stop, len(ids))
            labels[start:stop] = ids[start:stop]
            n_before[start:stop] = [k if count == "utterances" else (k + 1) // 2] * max(stop - start, 0)
        if all(label == IGNORED for label in labels):
            continue
        yield Sample(input_ids=ids, labels=labels, n_utterances=n_before, **guidance)


def with_guidance(dialogs: Iterable[Dialog], lexicon: Lexicon) -> Iterator[tuple[Dialog, Emotion, Guidance]]:
    """Give each dialog that has an emotion, with it and u: the mean VAD of its first utterance, else the lexicon's."""
    known = [(d, d.emotion) for d in dialogs if d.emotion is not None]
    vads = np.empty((len(known), 3))
    languages = np.array([d.language for d, _ in known], dtype=object)
    for language in dict.fromkeys(languages):
        rows = np.flatnonzero(languages == language)
        vads[rows] = utterance_vads([known[k][0].texts[0] for k in rows], lexicon, language)
    vads = np.where(np.isnan(vads), lexicon.mean, vads)
    for (dialog, emotion), vad in zip(known, vads.tolist(), strict=True):
        yield dialog, emotion, Guidance(user_vad=vad, p_positive=emotion.positive, p_negative=emotion.negative)


def collate(samples: Sequence[Sample], *, pad_id: int) -> dict[str, Tensor]:
    """Pad samples on the right into a batch: (B, S) tensors, ``user_vad`` (B, 3), probabilities (B,)."""
    return {
        "input_ids": pad_rows([s["input_ids"] for s in samples], pad_id),
        "attention_mask": pad_rows([[1] * len(s["input_ids"]) for s in samples], 0),
        "labels": pad_rows([s["labels"] for s in samples], IGNORED),
        "n_utterances": pad_rows([s["n_utterances"] for s in samples], 1),
        **collate_guidance(samples),
    }


def collate_guidance(samples: Sequence[Guidance]) -> dict[str, Tensor]:
    """Give ``user_vad`` (B, 3), ``p_positive`` and ``p_negative`` (B,) of a batch, float32."""
    return {
        "user_vad": torch.tensor([s["user_vad"] for s in samples], dtype=torch.float32),
        "p_positive": torch.tensor([s["p_positive"] for s in samples], dtype=torch.float32),
        "p_negative": torch.tensor([s["p_negative"] for s in samples], dtype=torch.float32),
    }
