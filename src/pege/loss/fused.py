"""The kernel: value and gradient of Eq. 1-5 in one pass, without a (T, V) tensor (design sec. 4).

Tokens are taken in chunks, the vocabulary in tiles. First pass over the tiles: logits, their exponential against the
tile's own maximum, and one product with ``[1, O]`` that gives the softmax's sum and the expected VAD together. Then
g_t is known, and the second pass turns the stored exponentials into

    dL/dz_t = s_t * (1 + O g_t - v_t . g_t) - onehot(y_t)

tile by tile, and multiplies them into the gradients of the hidden states, the output matrix and the bias. So
``backward`` only scales what ``forward`` left; it may run again on a retained graph, but has no derivative of its own.
`pege.loss.eager` is the same formula in plain sight.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pege.errors import InputError
from pege.loss.terms import (
    Gradients,
    Guidance,
    Job,
    Number,
    PegeOutput,
    check_shapes,
    counted_positions,
    divisor,
    guidance_gradient,
    pege_guidance,
    target_guidance,
)

CHUNK_TOKENS = 512  # tokens worked on at once; fewer where they would take more than the next line allows
CHUNK_NUMBERS = 2**26  # numbers held for a chunk, one per token and vocabulary entry, two with a soft cap: 256 MiB
FILTERED_TOKENS = 128  # the same where columns are filtered: the fewer tokens, the fewer columns any of them needs
TILE_COLUMNS = 4096  # vocabulary columns worked on at once, so that a tile of a chunk stays in cache

_WORTH_PICKING = 0.6  # share of a tile's columns


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
    filter_eps: float = 0.0,
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
        filter_eps: vocabulary columns whose softmax is nowhere above it in a chunk of 128 tokens, and that are no label
            there, give no gradient; 0 is exact. Loss and terms are exact in any case. For very large vocabularies: of
            the 49k columns of SmolLM2 hardly any lies below 1e-7 throughout a chunk, and the filter only costs.

    Returns:
        The loss, whose ``backward`` fills the gradients of hidden, weight and bias, and its terms, detached.

    Raises:
        InputError: shapes that do not fit, a label outside the vocabulary or no integer, a count below 1.
    """
    like = torch.zeros(labels.shape[0], dtype=_work_dtype(hidden), device=hidden.device)
    guidance = pege_guidance(user_vad, p_positive, p_negative, n_utterances, period=period, like=like)
    return _guided_loss(
        hidden, weight, labels, token_vad, guidance, alpha, beta, bias, softcap, ignore_index, num_items_in_batch,
        filter_eps,
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
    filter_eps: float = 0.0,
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

    Returns:
        As `pege_loss`; ``peg`` is L_target, ``ner`` is 0, ``ed`` the distance from the target.
    """
    like = torch.zeros(labels.shape[0], dtype=_work_dtype(hidden), device=hidden.device)
    guidance = target_guidance(user_vad, positive_vad, p_positive, n_utterances, period=period, like=like)
    return _guided_loss(
        hidden, weight, labels, token_vad, guidance, alpha, 0.0, bias, softcap, ignore_index, num_items_in_batch,
        filter_eps,
    )  # fmt: skip


def _work_dtype(hidden: Tensor) -> torch.dtype:
    return torch.promote_types(hidden.dtype, torch.float32)


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
    filter_eps: float,
) -> PegeOutput:
    if not 0 <= filter_eps < 1:
        raise InputError(f"filter_eps is {filter_eps}", fix="a probability below 1; 0 is exact")
    check_shapes(hidden, weight, labels, token_vad, bias)
    counted = counted_positions(labels, weight.shape[0], ignore_index)
    dtype = _work_dtype(hidden)
    table = F.pad(token_vad.detach().to(hidden.device, dtype), (1, 0), value=1.0)  # (V, 3) -> (V, 4)
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
        filter_eps=filter_eps,
    )
    if torch.is_autocast_enabled(hidden.device.type):
        hidden = hidden.to(torch.get_autocast_dtype(hidden.device.type))
    with torch.autocast(hidden.device.type, enabled=False):
        outputs: tuple[Tensor, ...] = _GuidedLoss.apply(hidden[counted], weight, bias, job)  # type: ignore[no-untyped-call]
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
    return _run


def _run(hidden: Tensor, weight: Tensor, bias: Tensor | None, job: Job) -> tuple[Tensor, Tensor, Gradients]:
    """Give the sums of nll, peg and ner, (3,); the distances, (T,); the gradients."""
    dtype = _work_dtype(hidden)
    gradients = Gradients(
        hidden=torch.zeros_like(hidden, dtype=dtype) if job.needs_hidden else None,
        weight=torch.zeros_like(weight, dtype=dtype) if job.needs_weight else None,
        bias=torch.zeros_like(bias, dtype=dtype) if job.needs_bias and bias is not None else None,
    )
    distance = torch.zeros(hidden.shape[0], dtype=dtype, device=hidden.device)
    sums = torch.zeros(3, dtype=torch.float64, device=hidden.device)  # nll, peg, ner
    n_numbers = weight.shape[0] * (1 if job.softcap is None else 2)  # held per token: exponentials, slopes
    n_wanted = FILTERED_TOKENS if job.filter_eps else CHUNK_TOKENS
    n_rows = max(1, min(n_wanted, CHUNK_NUMBERS // n_numbers))
    for start in range(0, hidden.shape[0], n_rows):
        rows = slice(start, start + n_rows)
        sums += _chunk(hidden[rows], weight, bias, job, rows, gradients, distance[rows])
    return sums, distance, gradients


def _chunk(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    job: Job,
    rows: slice,
    gradients: Gradients,
    distance_out: Tensor,
) -> Tensor:
    """Do one chunk of C tokens; add to the gradients, fill ``distance_out`` (C,), give the sums of nll, peg, ner."""
    chunk = _first_pass(hidden, weight, bias, job, job.labels[rows])
    guidance = job.guidance.at(rows)
    distance = torch.linalg.vector_norm(chunk.expected_vad - guidance.target, dim=1)  # ED_t, Eq. 1
    norm = torch.linalg.vector_norm(chunk.expected_vad, dim=1)
    distance_out.copy_(distance)
    if job.wants_gradient:
        g = guidance_gradient(chunk.expected_vad, guidance, job.alpha, job.beta)
        _second_pass(chunk, g, hidden, weight, job, rows, gradients)
    terms = (chunk.nll, guidance.distance_weight * distance, guidance.norm_weight * norm)
    return torch.stack(terms).sum(1)  # (3, C) -> (3,)


@dataclass(frozen=True)
class _FirstPass:
    """What the first pass over the tiles leaves for a chunk of C tokens."""

    nll: Tensor  # (C,) float64
    expected_vad: Tensor  # (C, 3) float64, v_t
    normalizer: Tensor  # (C,) float64, sum of the exponentials against the row's maximum
    rescale: Tensor  # (C, tiles), from a tile's maximum to the row's
    exponentials: list[Tensor]  # a (C, tile) a tile, where a gradient is wanted
    slopes: list[Tensor | None]  # derivative of the soft cap, (C, tile), or None


def _tiles(n_vocabulary: int) -> list[slice]:
    return [slice(a, min(a + TILE_COLUMNS, n_vocabulary)) for a in range(0, n_vocabulary, TILE_COLUMNS)]


def _first_pass(hidden: Tensor, weight: Tensor, bias: Tensor | None, job: Job, labels: Tensor) -> _FirstPass:
    """Exponentials tile by tile, each against its tile's own maximum, and what Eq. 1-5 need of them."""
    dtype, n_tokens, tiles = job.table.dtype, hidden.shape[0], _tiles(weight.shape[0])
    exponentials: list[Tensor] = []
    slopes: list[Tensor | None] = []
    maxima = hidden.new_empty((n_tokens, len(tiles)), dtype=dtype)
    sums = hidden.new_empty((len(tiles), n_tokens, 4), dtype=dtype)
    label_logit = hidden.new_zeros(n_tokens, dtype=dtype)
    for k, tile in enumerate(tiles):
        logits, slope = _tile_logits(hidden, weight, bias, job.softcap, tile, dtype)  # (C, tile)
        inside = (labels >= tile.start) & (labels < tile.stop)
        local = (labels - tile.start).clamp(0, tile.stop - tile.start - 1)
        label_logit = torch.where(inside, logits.gather(1, local[:, None]).squeeze(1), label_logit)
        maxima[:, k] = logits.amax(dim=1).clamp_min_(torch.finfo(dtype).min)  # a bias may be -inf throughout a tile
        powers = logits.sub_(maxima[:, k, None]).exp_()
        torch.mm(powers, job.table[tile], out=sums[k])  # (C, tile) @ (tile, 4)
        if job.wants_gradient:
            exponentials.append(powers)
            slopes.append(slope)
    maximum = maxima.amax(dim=1)  # (C,)
    rescale = (maxima - maximum[:, None]).exp()
    # (C, 4): sum of exponentials, then sums weighted by VAD; few numbers, so in float64
    total = torch.einsum("ct,tcd->cd", rescale.double(), sums.double())
    return _FirstPass(
        nll=maximum.double() - label_logit.double() + total[:, 0].log(),
        expected_vad=total[:, 1:] / total[:, :1],
        normalizer=total[:, 0],
        rescale=rescale,
        exponentials=exponentials,
        slopes=slopes,
    )


def _second_pass(
    chunk: _FirstPass, g: Tensor, hidden: Tensor, weight: Tensor, job: Job, rows: slice, gradients: Gradients
) -> None:
    """Turn exponentials into the gradient of the logits, tile by tile, and that into the gradients. g: (C, 3)."""
    labels = job.labels[rows]
    constant = 1 - (chunk.expected_vad * g).sum(1, keepdim=True)
    factors = torch.cat((constant, g), dim=1) / (chunk.normalizer[:, None] * job.n_items)  # (C, 4), times [1, O]
    factors = factors.to(job.table.dtype)
    for k, tile in enumerate(_tiles(weight.shape[0])):
        gradient, slope = chunk.exponentials[k], chunk.slopes[k]
        chunk.exponentials[k] = gradient.new_empty(0)  # freed as the pass goes on
        inside = ((labels >= tile.start) & (labels < tile.stop)).nonzero().squeeze(1)
        local = labels[inside] - tile.start
        columns: Tensor | slice = tile
        if job.filter_eps:
            active = _active(gradient, job.filter_eps * chunk.normalizer / chunk.rescale[:, k], local)
            if active is not None:
                gradient = gradient[:, active]
                slope = None if slope is None else slope[:, active]
                local = torch.searchsorted(active, local)
                columns = active + tile.start
        gradient.mul_((factors * chunk.rescale[:, k, None]) @ job.table[columns].T)  # (C, 4) @ (4, columns)
        gradient[inside, local] -= 1 / job.n_items
        if slope is not None:
            gradient.mul_(slope)
        _add_gradients(gradient, hidden, weight, gradients, rows, columns)


def _active(exponentials: Tensor, bound: Tensor, labels: Tensor) -> Tensor | None:
    """Give the columns of a tile with an exponential above its row's bound, or with a label, in order.

    None where they are so many that picking them out costs more than the product with all.
    """
    is_active = (exponentials > bound.to(exponentials.dtype)[:, None]).any(dim=0)  # (tile,)
    is_active[labels] = True
    found = is_active.nonzero().squeeze(1)
    return found if found.numel() <= exponentials.shape[1] * _WORTH_PICKING else None


def _tile_logits(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, softcap: float | None, tile: slice, dtype: torch.dtype
) -> tuple[Tensor, Tensor | None]:
    """Logits of one tile, (C, tile), a fresh tensor; and their derivative by the uncapped ones where there is a cap."""
    logits = (hidden @ weight[tile].to(hidden.dtype).T).to(dtype)  # (C, H) @ (H, tile)
    if bias is not None:
        logits += bias[tile].to(dtype)
    if softcap is None:
        return logits, None
    ratio = logits.div_(softcap).tanh_()
    return ratio * softcap, 1 - ratio.square()


def _add_gradients(
    gradient: Tensor, hidden: Tensor, weight: Tensor, gradients: Gradients, rows: slice, columns: slice | Tensor
) -> None:
    """Add what a tile of logits, or its active columns, give: gradient (C, n), hidden (C, H), weight (V, H)."""
    low = gradient.to(hidden.dtype)
    if gradients.hidden is not None:
        if hidden.dtype == gradient.dtype:
            gradients.hidden[rows].addmm_(low, weight[columns].to(hidden.dtype))  # (C, n) @ (n, H)
        else:
            gradients.hidden[rows] += low @ weight[columns].to(hidden.dtype)
    if gradients.weight is not None:
        if isinstance(columns, slice) and hidden.dtype == gradient.dtype:
            gradients.weight[columns].addmm_(low.T, hidden)  # (n, C) @ (C, H)
        else:
            gradients.weight[columns] += (low.T @ hidden).to(gradients.weight.dtype)  # active columns occur once
    if gradients.bias is not None:
        gradients.bias[columns] += gradient.sum(0)
