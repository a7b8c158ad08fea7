"""The loss as it stands in the paper (Eq. 1-6), with full (T, V) tensors and autograd: the reference."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pege.loss.terms import (
    Guidance,
    Number,
    PegeOutput,
    check_shapes,
    counted_positions,
    divisor,
    pege_guidance,
    target_guidance,
)


def pege_loss(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    token_vad: Tensor,
    user_vad: Tensor,
    p_positive: Number,
    p_negative: Number,
    n_utterances: Number,
    alpha: float = 5.0,
    beta: float = 2.0,
    period: int = 7,
    bias: Tensor | None = None,
    softcap: float | None = None,
    ignore_index: int = -100,
    num_items_in_batch: Number | None = None,
) -> PegeOutput:
    """L = L_nll + alpha L_peg - beta L_ner (Eq. 5). Arguments: `pege.loss.pege_loss`; all terms carry gradients."""
    like = _work_tensor(hidden, labels)
    guidance = pege_guidance(user_vad, p_positive, p_negative, n_utterances, period=period, like=like)
    return _guided_loss(
        hidden, weight, labels, token_vad, guidance, alpha, beta, bias, softcap, ignore_index, num_items_in_batch
    )


def target_loss(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    token_vad: Tensor,
    user_vad: Tensor,
    positive_vad: Tensor,
    p_positive: Number,
    n_utterances: Number,
    alpha: float = 0.5,
    period: int = 7,
    bias: Tensor | None = None,
    softcap: float | None = None,
    ignore_index: int = -100,
    num_items_in_batch: Number | None = None,
) -> PegeOutput:
    """Give L = L_nll + alpha L_target (design sec. 4). Arguments as in `pege.loss.target_loss`."""
    like = _work_tensor(hidden, labels)
    guidance = target_guidance(user_vad, positive_vad, p_positive, n_utterances, period=period, like=like)
    return _guided_loss(
        hidden, weight, labels, token_vad, guidance, alpha, 0.0, bias, softcap, ignore_index, num_items_in_batch
    )


def _work_tensor(hidden: Tensor, labels: Tensor) -> Tensor:
    dtype = torch.promote_types(hidden.dtype, torch.float32)
    return torch.zeros(labels.shape[0], dtype=dtype, device=hidden.device)


def _guided_loss(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    token_vad: Tensor,
    guidance: Guidance,
    alpha: float,
    beta: float,
    bias: Tensor | None,
    softcap: float | None,
    ignore_index: int,
    num_items_in_batch: Number | None,
) -> PegeOutput:
    check_shapes(hidden, weight, labels, token_vad, bias)
    counted = counted_positions(labels, weight.shape[0], ignore_index)
    dtype = guidance.target.dtype

    logits = F.linear(hidden[counted], weight.to(hidden.dtype)).to(dtype)  # (T, H) @ (H, V) -> (T, V)
    if bias is not None:
        logits = logits + bias.to(dtype)
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    probs = logits.softmax(-1)  # s_t
    expected_vad = probs @ token_vad.to(probs)  # v_t: (T, V) @ (V, 3) -> (T, 3)
    distance = torch.linalg.vector_norm(guidance.target[counted] - expected_vad, dim=-1)  # ED_t, Eq. 1
    norm = torch.linalg.vector_norm(expected_vad, dim=-1)

    n_items = divisor(counted.numel(), num_items_in_batch, logits)
    nll = F.cross_entropy(logits, labels[counted].long(), reduction="sum") / n_items
    peg = (guidance.distance_weight[counted] * distance).sum() / n_items  # Eq. 3
    ner = (guidance.norm_weight[counted] * norm).sum() / n_items  # Eq. 4
    ed = torch.zeros_like(guidance.distance_weight).index_copy(0, counted, distance.detach())
    return PegeOutput(nll + alpha * peg - beta * ner, nll, peg, ner, counted.numel(), ed)
