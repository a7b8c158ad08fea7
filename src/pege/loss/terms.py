"""What surrounds the kernel: the weights of Eq. 2-4, the targets of PEGE-target, the output, the checks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from pege.errors import InputError

Number: TypeAlias = float | Tensor


@dataclass(frozen=True)
class PegeOutput:
    """A loss and its terms; ``loss = nll + alpha * peg - beta * ner`` (Eq. 5).

    Attributes:
        loss: scalar; the one to call ``backward`` on.
        nll: scalar, mean negative log-likelihood.
        peg: scalar, mean weighted distance (Eq. 3; for PEGE-target the mean distance from the target).
        ner: scalar, mean weighted norm (Eq. 4).
        n_tokens: tokens that count, an int.
        ed: (T,) distance ED_t of each token (Eq. 1), detached; 0 at ignored positions.

    All means divide by ``n_tokens``, or by ``num_items_in_batch`` where it was given.
    """

    loss: Tensor
    nll: Tensor
    peg: Tensor
    ner: Tensor
    n_tokens: int
    ed: Tensor


@dataclass(frozen=True)
class Guidance:
    """Per token: where the expected VAD should lie and how much each term weighs.

    PEGE and PEGE-target are two ways to fill it; the kernel knows nothing else.

    Attributes:
        target: (T, 3), u or tau.
        distance_weight: (T,), factor of ``||target - v||``.
        norm_weight: (T,), factor of ``||v||``.
    """

    target: Tensor
    distance_weight: Tensor
    norm_weight: Tensor

    def at(self, tokens: slice | Tensor) -> Guidance:
        """Give that of some tokens."""
        return Guidance(self.target[tokens], self.distance_weight[tokens], self.norm_weight[tokens])


@dataclass(frozen=True)
class Job:
    """What a kernel needs beside hidden states, output matrix and bias; of the T tokens that count.

    Attributes:
        labels: (T,) int64.
        table: (4, V), a row of ones, then O; float32, or float64 where the hidden states are.
        guidance: of these tokens.
        alpha: weight of L_peg.
        beta: weight of L_ner.
        softcap: of the logits, or None.
        n_items: what sums are divided by, a scalar tensor.
        needs_hidden: the hidden states want a gradient.
        needs_weight: the output matrix wants one.
        needs_bias: the bias wants one.
        filter_eps: softmax that may be left out of the gradients, as a share of all that is not the labels'; in [0, 1).
        filter_rows: whether it is left out of the gradient of the output matrix too.
        low_eps: softmax whose products may be in bfloat16, as a share of the same; in [0, 1).
    """

    labels: Tensor
    table: Tensor
    guidance: Guidance
    alpha: float
    beta: float
    softcap: float | None
    n_items: Tensor
    needs_hidden: bool
    needs_weight: bool
    needs_bias: bool
    filter_eps: float
    filter_rows: bool
    low_eps: float

    @property
    def wants_gradient(self) -> bool:
        """Tell whether anything wants one."""
        return self.needs_hidden or self.needs_rows

    @property
    def needs_rows(self) -> bool:
        """Tell whether the output matrix or the bias wants one."""
        return self.needs_weight or self.needs_bias


@dataclass(frozen=True)
class Gradients:
    """What a kernel leaves for ``backward``; None where nobody asked.

    Attributes:
        hidden: (T, H).
        weight: (V, H).
        bias: (V,).
    """

    hidden: Tensor | None
    weight: Tensor | None
    bias: Tensor | None


def context_weight(n_utterances: Number, p_positive: Number, *, period: int = 7) -> Tensor:
    """Weight of the distance term at one response (Eq. 2 and 3): p + (1 - p) cos(pi min(c, M) / M).

    Above 0 it draws the response to the user's VAD (empathy), below 0 it pushes away (elicitation).

    Args:
        n_utterances: c, utterances in the context, >= 1; a number or (T,).
        p_positive: p(positive) of the first utterance, in [0, 1]; a number or (T,).
        period: M, the count from which the weight no longer changes, >= 1.

    Returns:
        A weight in [-1, 1], the shape of the arguments broadcast; float64 where an argument is, else float32.

    Raises:
        InputError: a count or a period below 1.
    """
    if period < 1:
        raise InputError(f"period is {period}", fix="it counts utterances: name 1 or more")
    doubles = [v for v in (n_utterances, p_positive) if isinstance(v, Tensor) and v.dtype == torch.float64]
    dtype = torch.float64 if doubles else torch.float32
    count, p = (torch.as_tensor(v).detach().to(dtype) for v in (n_utterances, p_positive))
    if count.numel() and bool((count < 1).any()):
        raise InputError(f"n_utterances holds {count.min().item():g}", fix="a context has at least 1 utterance")
    return p + (1 - p) * _phase(count, period)


def _phase(count: Tensor, period: int) -> Tensor:
    return torch.cos(math.pi * count.clamp(max=period) / period)  # f(c), Eq. 2


def pege_guidance(
    user_vad: Tensor, p_positive: Number, p_negative: Number, n_utterances: Number, *, period: int, like: Tensor
) -> Guidance:
    """Fill the kernel for PEGE (Eq. 1-4): the user's VAD, weight ``context_weight``, norm weight p(negative).

    Args:
        user_vad: (T, 3) or (3,).
        p_positive: (T,) or a number; so ``p_negative`` and ``n_utterances``.
        p_negative: p(negative) of the first utterance, in [0, 1].
        n_utterances: utterances in the context, >= 1.
        period: M.
        like: (T,) float tensor that gives length, dtype and device.
    """
    count, p = _per_token(n_utterances, like, "n_utterances"), _per_token(p_positive, like, "p_positive")
    return Guidance(
        target=_per_token(user_vad, like[:, None].expand(-1, 3), "user_vad"),
        distance_weight=context_weight(count, p, period=period),
        norm_weight=_per_token(p_negative, like, "p_negative"),
    )


def target_guidance(
    user_vad: Tensor, positive_vad: Tensor, p_positive: Number, n_utterances: Number, *, period: int, like: Tensor
) -> Guidance:
    """Fill the kernel for PEGE-target (design sec. 4): a target on the way from the user to a positive anchor.

    lambda = p + (1 - p) (1 - f(c)) / 2 and tau = (1 - lambda) u + lambda a.

    Args:
        user_vad: u, (T, 3) or (3,).
        positive_vad: a, the anchor, (3,).
        p_positive: (T,) or a number.
        n_utterances: (T,) or a number, >= 1.
        period: M.
        like: (T,) float tensor that gives length, dtype and device.
    """
    count, p = _per_token(n_utterances, like, "n_utterances"), _per_token(p_positive, like, "p_positive")
    weight = context_weight(count, p, period=period)
    # context_weight = p + (1 - p) f, so (1 - p) (1 - f) / 2 = (1 - context_weight) / 2
    share = (p + (1 - weight) / 2)[:, None]
    user = _per_token(user_vad, like[:, None].expand(-1, 3), "user_vad")
    target = (1 - share) * user + share * positive_vad.to(like)
    return Guidance(target=target, distance_weight=torch.ones_like(like), norm_weight=torch.zeros_like(like))


def guidance_gradient(expected_vad: Tensor, guidance: Guidance, alpha: float, beta: float) -> Tensor:
    """Gradient of the guided terms by the expected VAD, with the subgradient 0 where a norm is 0 (design sec. 4).

    g_t = alpha w_t (v_t - u) / ED_t - beta p_t v_t / |v_t|

    Args:
        expected_vad: v_t, (T, 3).
        guidance: of the same T tokens.
        alpha: of L_peg.
        beta: of L_ner.

    Returns:
        (T, 3).
    """
    pull = (alpha * guidance.distance_weight)[:, None] * _unit(expected_vad - guidance.target)
    push = (beta * guidance.norm_weight)[:, None] * _unit(expected_vad)
    return pull - push


def _unit(vectors: Tensor) -> Tensor:
    """Give vectors over their norms, 0 where the norm is 0. (T, 3) -> (T, 3)."""
    norms = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    return torch.where(norms > 0, vectors / norms.clamp_min(torch.finfo(norms.dtype).tiny), 0.0)


def _per_token(value: Number, like: Tensor, name: str) -> Tensor:
    value = torch.as_tensor(value, dtype=like.dtype, device=like.device).detach()
    try:
        return value.expand_as(like)
    except RuntimeError:
        raise InputError(
            f"{name} has shape {tuple(value.shape)}", fix=f"it is {tuple(like.shape)}, a value per token"
        ) from None


def check_shapes(hidden: Tensor, weight: Tensor, labels: Tensor, token_vad: Tensor, bias: Tensor | None) -> None:
    """Check what every loss takes.

    Raises:
        InputError: a tensor whose shape does not fit the others; labels that are no integers.
    """
    if hidden.ndim != 2 or weight.ndim != 2 or hidden.shape[1] != weight.shape[1]:
        raise InputError(
            f"hidden is {tuple(hidden.shape)} and weight {tuple(weight.shape)}", fix="give (T, H) and (V, H)"
        )
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise InputError(f"labels is of {labels.dtype}", fix="give integers, int64 or int32")
    if labels.shape != hidden.shape[:1]:
        raise InputError(
            f"labels is {tuple(labels.shape)}", fix=f"give one label per token, ({hidden.shape[0]},), already shifted"
        )
    if token_vad.shape != (weight.shape[0], 3):
        raise InputError(f"token_vad is {tuple(token_vad.shape)}", fix=f"give (V, 3) = ({weight.shape[0]}, 3)")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise InputError(f"bias is {tuple(bias.shape)}", fix=f"give (V,) = ({weight.shape[0]},)")


def counted_positions(labels: Tensor, n_vocabulary: int, ignore_index: int) -> Tensor:
    """Indices of the labels that count.

    Raises:
        InputError: a label outside [0, V) that is not ``ignore_index``.
    """
    positions = (labels != ignore_index).nonzero().squeeze(1)
    if positions.numel():
        low, high = torch.aminmax(labels[positions])
        if low < 0 or high >= n_vocabulary:
            bad = low if low < 0 else high
            raise InputError(f"label {int(bad)}", fix=f"labels lie in [0, {n_vocabulary}) or are {ignore_index}")
    return positions


def divisor(n_tokens: int, num_items_in_batch: Number | None, like: Tensor) -> Tensor:
    """What sums are divided by: the tokens of the global batch where given, else those here; at least 1."""
    value = n_tokens if num_items_in_batch is None else num_items_in_batch
    return torch.as_tensor(value, dtype=like.dtype, device=like.device).clamp_min(1)
