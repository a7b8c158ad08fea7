"""Whether a response belongs to what the user just said, by the likelihood that a language model gives it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from pege import __version__
from pege.dialog import Dialog, Emotion, Utterance
from pege.errors import InputError, did_you_mean
from pege.lexicon import load_lexicon
from pege.metrics.judges import Columns, Judge
from pege.models.attention import run_tree, takes_trees
from pege.models.causal import OUR_KINDS, fast_device, run_settings
from pege.models.head import head_of, run_to_head
from pege.models.padding import IGNORED
from pege.training.config import TrainConfig
from pege.training.kinds import collator_for, load_for_training, samples_for
from pege.training.trainer import GUIDANCE

_BATCH_SIZE = 32
_DTYPES = ("float32", "bfloat16", "float16")
_UNKNOWN = Emotion(negative=0.0, neutral=1.0, positive=0.0)  # the judge reads no emotion; the samples want one


def relevance_judge(spec: str) -> Judge:
    """Judge responses by a language model, any that `pege train --model` takes.

    The model gives each response of the agent two likelihoods: after what the user said last, and after what the user
    of the next dialog said at that turn; all that stood before is the same. ``fits`` is the share of a dialog's
    responses that are likelier after the first, a tie counting one half: 0.5 is chance. ``gain`` is the mean
    difference, in nats a token.

    Args:
        spec: ``MODEL``, or ``MODEL#DTYPE`` for another type of numbers than the one it is stored in.

    Raises:
        InputError: no such model or type; from ``measure``, a turn that one dialog alone has, a response that the
            model's length cuts off.
    """
    name, _, dtype = spec.partition("#")
    if dtype not in ("", *_DTYPES):
        raise InputError(f"no type of numbers {dtype!r}", where=spec, fix=did_you_mean(dtype, _DTYPES))
    settings: dict[str, Any] = {k: v for k, v in run_settings(name).items() if k == "max_length"}
    settings["dtype"] = dtype or "auto"
    config = TrainConfig(model=name, data=("-",), emotion_input=False, **settings)
    model, tokenizer = load_for_training(config)
    model.to(fast_device())
    lexicon = load_lexicon("pege")

    shares = model.config.model_type not in OUR_KINDS and takes_trees(model)
    nll_of = _shared_nll if shares else functools.partial(_padded_nll, collate=collator_for(model, tokenizer))

    def measure(dialogs: Sequence[Dialog], _: str) -> Columns:
        samples = [samples_of(dialogs, i) for i in range(len(dialogs))]
        nll = nll_of(model, samples)
        gain = nll[1::2] - nll[::2]
        fits = (gain > 0) + 0.5 * (gain == 0)
        n = np.array([len(of_dialog) // 2 for of_dialog in samples])
        row = np.repeat(np.arange(len(dialogs)), n)
        return {name: np.bincount(row, values) / n for name, values in {"fits": fits, "gain": gain}.items()}

    def samples_of(dialogs: Sequence[Dialog], i: int) -> list[Any]:
        """Two a response of dialog i: as it was, and after what another user said."""
        dialog, asked = dialogs[i], []
        for k in range(1, len(dialog.messages), 2):
            before, (said, response) = dialog.messages[: k - 1], dialog.messages[k - 1 : k + 1]
            asked.append(_with(dialog, *before, said, response))
            asked.append(_with(dialog, *before, _said_elsewhere(dialogs, i, k - 1), response))
        samples = samples_for(model, tokenizer, asked, lexicon, config, only_last=True)
        if len(samples) != len(asked):
            raise InputError("an utterance alone is longer than the model reads", where=name, fix="cut the dialogs")
        return samples

    return Judge("relevance", lambda _: f"relevance|model:{spec}|against:next-dialog|v:{__version__}", measure)


def _said_elsewhere(dialogs: Sequence[Dialog], i: int, k: int) -> Utterance:
    """Utterance k of the next dialog that has another there."""
    for other in (*dialogs[i + 1 :], *dialogs[:i]):
        if k < len(other.messages) and other.messages[k].content != dialogs[i].messages[k].content:
            return other.messages[k]
    raise InputError(f"no other dialog has another utterance {k + 1}", where=dialogs[i].id, fix="judge more dialogs")


def _with(dialog: Dialog, *messages: Utterance) -> Dialog:
    return dialog.model_copy(update={"messages": messages, "emotion": dialog.emotion or _UNKNOWN})


@torch.inference_mode()
def _padded_nll(
    model: Any, samples: Sequence[Sequence[Any]], *, collate: Callable[..., dict[str, Any]]
) -> NDArray[np.float64]:
    """Mean NLL a token of the learned tokens of all dialogs' samples, (B,), in batches of about the same length."""
    flat = [sample for of_dialog in samples for sample in of_dialog]
    found = np.empty(len(flat))
    order = sorted(range(len(flat)), key=lambda k: len(flat[k]["input_ids"]))
    for start in tqdm(range(0, len(order), _BATCH_SIZE), desc="relevance", unit="batch", delay=2):
        rows = order[start : start + _BATCH_SIZE]
        batch = {n: v.to(model.device) for n, v in collate([flat[k] for k in rows]).items()}
        hidden, _ = run_to_head(model, **{k: v for k, v in batch.items() if k not in GUIDANCE})
        found[rows] = _mean_nll(model, list(hidden), list(batch["labels"]))
    return found


@torch.inference_mode()
def _shared_nll(model: Any, samples: Sequence[Sequence[Any]]) -> NDArray[np.float64]:
    """The same, (B,), where what the beginnings of a dialog's samples share is computed once."""
    found = []
    for of_dialog in tqdm(samples, desc="relevance", unit="dialog", delay=2):
        hidden = run_tree(model, [s["input_ids"] for s in of_dialog])
        labels = [torch.tensor(s["labels"], device=model.device) for s in of_dialog]
        found.append(_mean_nll(model, hidden, labels))
    return np.concatenate(found)


def _mean_nll(model: Any, hidden: Sequence[Tensor], labels: Sequence[Tensor]) -> NDArray[np.float64]:
    """Mean NLL a token of each row's learned tokens, (B,), from its (S, H) and (S,)."""
    learned = [row[1:] != IGNORED for row in labels]
    states = torch.cat([h[:-1][is_learned] for h, is_learned in zip(hidden, learned, strict=True)])
    targets = torch.cat([row[1:][is_learned] for row, is_learned in zip(labels, learned, strict=True)])
    losses = cross_entropy(head_of(model).logits(states), targets, reduction="none").double()
    parts = torch.split(losses, [int(is_learned.sum()) for is_learned in learned])
    return np.array([float(part.mean()) for part in parts])
