"""Whether a response belongs to what the user just said, by the likelihood that a language model gives it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from pege import __version__
from pege.dialog import Dialog, Emotion, Utterance
from pege.errors import InputError
from pege.lexicon import load_lexicon
from pege.metrics.judges import Columns, Judge
from pege.models.causal import head_of, run_settings, run_to_head
from pege.models.padding import IGNORED
from pege.training.config import TrainConfig
from pege.training.kinds import collator_for, load_for_training, samples_for
from pege.training.trainer import GUIDANCE

_BATCH_SIZE = 32
_UNKNOWN = Emotion(negative=0.0, neutral=1.0, positive=0.0)  # the judge reads no emotion; the samples want one


def relevance_judge(name: str) -> Judge:
    """Judge responses by a language model, any that `pege train --model` takes.

    The model gives each response of the agent two likelihoods: after what the user said last, and after what the user
    of the next dialog said at that turn; all that stood before is the same. ``fits`` is the share of a dialog's
    responses that are likelier after the first, a tie counting one half: 0.5 is chance. ``gain`` is the mean
    difference, in nats a token.

    Raises:
        InputError: no such model; from ``measure``, a turn that one dialog alone has, a response that the model's
            length cuts off.
    """
    config = TrainConfig(
        model=name,
        data=("-",),
        emotion_input=False,
        **{k: v for k, v in run_settings(name).items() if k == "max_length"},
    )
    model, tokenizer = load_for_training(config)
    lexicon = load_lexicon("pege")

    def nll_of(dialogs: Sequence[Dialog]) -> NDArray[np.float64]:
        samples = samples_for(model, tokenizer, dialogs, lexicon, config, only_last=True)
        if len(samples) != len(dialogs):
            raise InputError("an utterance alone is longer than the model reads", where=name, fix="cut the dialogs")
        collate, found = collator_for(model, tokenizer), np.empty(len(samples))
        order = sorted(range(len(samples)), key=lambda k: len(samples[k]["input_ids"]))
        for start in tqdm(range(0, len(order), _BATCH_SIZE), desc="relevance", unit="batch", delay=2):
            rows = order[start : start + _BATCH_SIZE]
            found[rows] = _mean_nll(model, collate([samples[k] for k in rows]))
        return found

    def measure(dialogs: Sequence[Dialog], _: str) -> Columns:
        own, other, row = [], [], []
        for i, dialog in enumerate(dialogs):
            for k in range(1, len(dialog.messages), 2):
                before, (said, response) = dialog.messages[: k - 1], dialog.messages[k - 1 : k + 1]
                own.append(_with(dialog, *before, said, response))
                other.append(_with(dialog, *before, _said_elsewhere(dialogs, i, k - 1), response))
                row.append(i)
        gain = nll_of(other) - nll_of(own)
        fits = (gain > 0) + 0.5 * (gain == 0)
        n = np.bincount(row, minlength=len(dialogs))
        return {name: np.bincount(row, values) / n for name, values in {"fits": fits, "gain": gain}.items()}

    return Judge("relevance", lambda _: f"relevance|model:{name}|against:next-dialog|v:{__version__}", measure)


def _said_elsewhere(dialogs: Sequence[Dialog], i: int, k: int) -> Utterance:
    """Utterance k of the next dialog that has another there."""
    for other in (*dialogs[i + 1 :], *dialogs[:i]):
        if k < len(other.messages) and other.messages[k].content != dialogs[i].messages[k].content:
            return other.messages[k]
    raise InputError(f"no other dialog has another utterance {k + 1}", where=dialogs[i].id, fix="judge more dialogs")


def _with(dialog: Dialog, *messages: Utterance) -> Dialog:
    return dialog.model_copy(update={"messages": messages, "emotion": dialog.emotion or _UNKNOWN})


@torch.inference_mode()
def _mean_nll(model: Any, batch: dict[str, Any]) -> NDArray[np.float64]:
    """Mean NLL a token of each row's learned tokens, (B,)."""
    hidden, _ = run_to_head(model, **{k: v for k, v in batch.items() if k not in GUIDANCE})
    labels, head = batch["labels"][:, 1:], head_of(model)
    learned = labels != IGNORED
    logits = torch.nn.functional.linear(hidden[:, :-1][learned] * head.scale, head.weight, head.bias).float()
    if head.softcap:
        logits = head.softcap * torch.tanh(logits / head.softcap)
    losses = torch.zeros(labels.shape, dtype=torch.float64)
    losses[learned] = cross_entropy(logits, labels[learned], reduction="none").double()
    return np.asarray(losses.sum(1) / learned.sum(1).clamp(min=1))
