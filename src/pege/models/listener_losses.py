"""The two terms of the loss that MoEL and MIME share: the response's, with smoothed targets, and the emotion's."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from pege.models.padding import IGNORED


def token_losses(logits: Tensor, labels: Tensor, *, smoothing: float, pad_token_id: int) -> tuple[Tensor, Tensor]:
    """Give the response's loss to minimise, summed over tokens, and its mean NLL, to report.

    The smoothed target has 1 - smoothing on the label, smoothing / (V - 2) on every other token but padding; the
    loss is the Kullback-Leibler divergence from it, as published. Without smoothing it is the NLL.

    Args:
        logits: (B, T, V).
        labels: (B, T), -100 where nothing is learned.
        smoothing: in [0, 1).
        pad_token_id: never a label.

    Returns:
        The sum, a scalar; the mean NLL of the labels, a scalar, 0 where there are none.
    """
    kept = labels != IGNORED
    log_probs = logits[kept].float().log_softmax(dim=-1)  # (N, V)
    log_prob = log_probs.gather(1, labels[kept][:, None]).squeeze(1)  # (N,)
    nll = -log_prob.sum()
    mean = (nll / max(len(log_prob), 1)).detach()
    if not smoothing:
        return nll, mean
    other = smoothing / (logits.shape[-1] - 2)
    others = log_probs.sum(dim=-1) - log_prob - log_probs[:, pad_token_id]
    entropy = -(1 - smoothing) * math.log(1 - smoothing) - smoothing * math.log(other)
    return (-(1 - smoothing) * log_prob - other * others - entropy).sum(), mean


def emotion_loss(logits: Tensor, emotion: Tensor) -> Tensor:
    """Give the mean cross-entropy of the emotion.

    Args:
        logits: (B, E).
        emotion: classes (B,), or probabilities (B, E).
    """
    return F.cross_entropy(logits.float(), emotion if emotion.ndim == 1 else emotion.float())


def as_probabilities(emotion: Tensor, n_emotions: int) -> Tensor:
    """Give probabilities (B, E) of classes (B,), or themselves."""
    return F.one_hot(emotion, n_emotions).float() if emotion.ndim == 1 else emotion.float()


def count_tokens(labels: Tensor) -> Tensor:
    """Count the labels that are learned, at least 1."""
    return torch.clamp((labels != IGNORED).sum(), min=1)
