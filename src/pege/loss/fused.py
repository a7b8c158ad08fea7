"""The loss: value and gradient of Eq. 1-5 in one go, without a (T, V) tensor (design sec. 4).

`pege.loss.tiles` does the work in plain torch, `pege.loss.triton_kernel` on a GPU. The gradients are made with the
value, so ``backward`` only scales what ``forward`` left; it may run again on a retained graph, but has no derivative of
its own. `pege.loss.eager` is the same formula in plain sight.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from pege.errors import InputError
from pege.loss import tiles
from pege.loss.terms import (
    Gradients,
    Guidance,
    Job,
    Number,
    PegeOutput,
    check_shapes,
    counted_positions,
    divisor,
    pege_guidance,
    target_guidance,
)

FILTER_EPS = 1e-5  # an error of about 1e-6 to 1e-5 of the gradients' size; up to 4e-5 under a soft cap
LOW_EPS = 1.5e-3  # an error of about 5e-6 of the gradients' size
_LEAST_PRODUCT = 2**30  # multiplications; below, a product in bfloat16 saves nothing that is felt


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
    filter_eps: float | None = None,
    low_eps: float | None = None,
) -> PegeOutput:
    """Give L = L_nll + alpha L_peg - beta L_ner (Eq. 5), each summed over the tokens that count over their number.

    Args:
        hidden: last hidden states, (T, H); float64, float32, bfloat16 or float16.
        weight: output matrix, (V, H); trained where it requires a gradient, else frozen.
        labels: next tokens, already shifted, (T,) int64 or int32.
        token_vad: O, VAD per token of the vocabulary, (V, 3) in [0, 1]; a constant.
        user_vad: u, mean VAD of the first utterance, (T, 3) or (3,).
        p_positive: p(positive) of the first utterance, (T,) or a number in [0, 1].
        p_negative: p(negative) of the first utterance, (T,) or a number in [0, 1].
        n_utterances: c, utterances in the context, (T,) or a number >= 1.
        alpha: weight of L_peg.
        beta: weight of L_ner.
        period: M of Eq. 2.
        bias: added to the logits, (V,), or None.
        softcap: logits become ``softcap * tanh(logits / softcap)`` (Gemma), or None.
        ignore_index: label of a position that does not count.
        num_items_in_batch: replaces the divisor: the tokens of the global batch, so that gradient accumulation and
            data parallelism leave the loss as it is. A divisor below 1 counts as 1.
        filter_eps: softmax that may be left out of the gradients, as a share of all that is not the labels', on average
            over the tokens: columns that together have less of it, and are no label, give none. 0 is exact. None is
            `FILTER_EPS`; 0 in float64 and on GPUs. Where the output matrix is trained, None leaves out of the gradient
            of the hidden states alone, and nothing without ``low_eps``: a row of the matrix that gets no gradient at
            all is moved by Adam as far as any other, nor a bias. The loss is exact in any case.
        low_eps: softmax whose products may be in bfloat16, as the same share; of float32 hidden states and matrix. 0:
            none. None is `LOW_EPS` on CPUs with instructions for it, in products that are large enough to gain by
            it, unless ``filter_eps`` was given as 0. Loss and terms are off by as much as float32 rounds them.

    Returns:
        The loss, whose ``backward`` fills the gradients of hidden, weight and bias, and its terms, detached.

    Raises:
        InputError: shapes that do not fit, a label outside the vocabulary or no integer, a count below 1.
    """
    like = torch.zeros(labels.shape[0], dtype=_work_dtype(hidden), device=hidden.device)
    guidance = pege_guidance(user_vad, p_positive, p_negative, n_utterances, period=period, like=like)
    return _guided_loss(
        hidden, weight, labels, token_vad, guidance, alpha, beta, bias, softcap, ignore_index, num_items_in_batch,
        filter_eps, low_eps,
    )  # fmt: skip


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
    filter_eps: float | None = None,
    low_eps: float | None = None,
) -> PegeOutput:
    """Give PEGE-target, L = L_nll + alpha L_target (design sec. 4; ours, not the paper's).

    The target moves from the user's VAD to a positive anchor as the dialog goes on. Arguments as in `pege_loss`, and

    Args:
        hidden: (T, H).
        weight: (V, H).
        labels: (T,) int64 or int32.
        token_vad: (V, 3).
        user_vad: (T, 3) or (3,).
        positive_vad: the anchor, (3,) in [0, 1]; see `pege.lexicon.positive_anchor`.
        p_positive: (T,) or a number.
        n_utterances: (T,) or a number.
        alpha: weight of L_target; large values collapse into happy words.
        period: M.
        bias: (V,) or None.
        softcap: as above.
        ignore_index: as above.
        num_items_in_batch: as above.
        filter_eps: as above.
        low_eps: as above.

    Returns:
        As `pege_loss`; ``peg`` is L_target, ``ner`` is 0, ``ed`` the distance from the target.
    """
    like = torch.zeros(labels.shape[0], dtype=_work_dtype(hidden), device=hidden.device)
    guidance = target_guidance(user_vad, positive_vad, p_positive, n_utterances, period=period, like=like)
    return _guided_loss(
        hidden, weight, labels, token_vad, guidance, alpha, 0.0, bias, softcap, ignore_index, num_items_in_batch,
        filter_eps, low_eps,
    )  # fmt: skip


def _work_dtype(hidden: Tensor) -> torch.dtype:
    return torch.promote_types(hidden.dtype, torch.float32)


@functools.cache
def _has_bfloat16() -> bool:
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    can = torch.cpu.get_capabilities()
    return any(can.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))  # the last is ARM's


def _exactness(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    filter_eps: float | None,
    low_eps: float | None,
) -> dict[str, Any]:
    """Give the fields of `Job` that trade digits for time; see `pege_loss`."""
    for name, value in (("filter_eps", filter_eps), ("low_eps", low_eps)):
        if value is not None and not 0 <= value < 1:
            raise InputError(f"{name} is {value}", fix="a probability below 1; 0 is exact")
    is_single = hidden.dtype == weight.dtype == torch.float32
    if low_eps is None:
        is_worth = labels.numel() * weight.numel() >= _LEAST_PRODUCT and not hidden.is_cuda
        is_worth = is_worth and _has_bfloat16()
        low_eps = LOW_EPS if is_worth and filter_eps != 0 else 0.0
    if not is_single:
        low_eps = 0.0
    rows = filter_eps is not None or not any(t is not None and t.requires_grad for t in (weight, bias))
    if filter_eps is None:
        is_exact = hidden.dtype == torch.float64 or hidden.is_cuda or not (low_eps or rows)
        filter_eps = 0.0 if is_exact else FILTER_EPS
    return {"filter_eps": filter_eps, "filter_rows": rows and filter_eps > 0, "low_eps": low_eps}


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
    filter_eps: float | None,
    low_eps: float | None,
) -> PegeOutput:
    if torch.is_autocast_enabled(hidden.device.type) and hidden.dtype != torch.float64:  # as torch's autocast
        hidden = hidden.to(torch.get_autocast_dtype(hidden.device.type))
    exactness = _exactness(hidden, weight, bias, labels, filter_eps, low_eps)
    check_shapes(hidden, weight, labels, token_vad, bias)
    counted = counted_positions(labels, weight.shape[0], ignore_index)
    if counted.numel() < labels.numel():
        hidden = hidden[counted]
    dtype = _work_dtype(hidden)
    table = torch.ones((4, len(token_vad)), dtype=dtype, device=hidden.device)
    table[1:] = token_vad.detach().T  # (V, 3) -> (4, V)
    needs = [torch.is_grad_enabled() and t is not None and t.requires_grad for t in (hidden, weight, bias)]
    job = Job(
        labels=labels[counted].long(),
        table=table,
        guidance=guidance.at(counted),
        alpha=alpha,
        beta=beta,
        softcap=softcap,
        n_items=divisor(counted.numel(), num_items_in_batch, table),
        needs_hidden=needs[0],
        needs_weight=needs[1],
        needs_bias=needs[2],
        **exactness,
    )
    with torch.autocast(hidden.device.type, enabled=False):
        outputs: tuple[Tensor, ...] = _GuidedLoss.apply(hidden, weight, bias, job)  # type: ignore[no-untyped-call]
    loss, nll, peg, ner, distance = outputs
    ed = torch.zeros_like(guidance.distance_weight).index_copy(0, counted, distance)
    return PegeOutput(loss, nll, peg, ner, counted.numel(), ed)


class _GuidedLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, job: Job) -> tuple[Tensor, ...]:
        sums, distance, gradients = _kernel(hidden)(hidden, weight, bias, job)
        dtype = distance.dtype
        nll, peg, ner = (sums / job.n_items).to(dtype)
        loss = nll + job.alpha * peg - job.beta * ner
        ctx.save_for_backward(gradients.hidden, gradients.weight, gradients.bias)
        ctx.dtypes = (hidden.dtype, weight.dtype, None if bias is None else bias.dtype)
        ctx.mark_non_differentiable(nll, peg, ner, distance)
        return loss, nll, peg, ner, distance

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("the fused loss has no second derivative (create_graph); take pege.loss.eager's")
        found = ctx.saved_tensors
        if grads[0] != 1:  # a copy, for the graph may be retained; the usual 1 saves it
            found = tuple(None if g is None else g * grads[0] for g in found)
        scaled = [None if g is None else g.to(dtype) for g, dtype in zip(found, ctx.dtypes, strict=True)]
        return *scaled, None


def _kernel(hidden: Tensor) -> Callable[..., tuple[Tensor, Tensor, Gradients]]:
    """Pick what does the work: the kernel of `triton_kernel` on a GPU, tiles of plain torch elsewhere."""
    if hidden.is_cuda and hidden.dtype in (torch.float32, torch.bfloat16) and find_spec("triton"):
        from pege.loss import triton_kernel

        return triton_kernel.run
    return tiles.run
