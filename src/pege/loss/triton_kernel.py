"""The kernel for GPUs: Eq. 1-5 and their gradient by the logits, one Triton program for a few tokens.

Matrix products are left to the library of the GPU. Tokens are taken in chunks: their logits are written once, in the
precision of the hidden states; one program reads a few rows of them (softmax and expected VAD in one sweep, with a
running maximum), works out g_t, and overwrites them with

    dL/dz_t = s_t * (1 + O g_t - v_t . g_t) - onehot(y_t)

which the products with the output matrix and the hidden states take from there. All sums are float32. The rows of a
program share what they read of O. `pege.loss.fused` calls it; ``filter_eps`` is not used here: gradients are exact.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from pege.loss.terms import Gradients, Job

CHUNK_BYTES = 2**28  # the logits held at once, 256 MiB
ROWS = 2  # tokens a program works on
COLUMNS = 2048  # vocabulary columns it reads at once, a power of 2
WARPS = 8


def run(hidden: Tensor, weight: Tensor, bias: Tensor | None, job: Job) -> tuple[Tensor, Tensor, Gradients]:
    """Give the sums of nll, peg and ner, (3,) float64; the distances, (T,); the gradients.

    Args:
        hidden: (T, H), float32 or bfloat16; only tokens that count.
        weight: (V, H).
        bias: (V,) or None.
        job: the rest.
    """
    n_tokens, n_vocabulary = hidden.shape[0], weight.shape[0]
    low = weight.detach().to(hidden.dtype)
    n_rows = max(1, min(n_tokens, CHUNK_BYTES // (n_vocabulary * hidden.element_size())))
    # sums over several chunks are float32; of a single one the product itself rounds once
    sum_dtype = hidden.dtype if n_tokens <= n_rows else torch.float32
    new_weight = torch.empty_like if n_tokens else torch.zeros_like
    gradients = Gradients(
        hidden=torch.empty_like(hidden) if job.needs_hidden else None,
        weight=new_weight(weight, dtype=sum_dtype) if job.needs_weight else None,
        bias=torch.zeros(n_vocabulary, dtype=torch.float32, device=hidden.device) if job.needs_bias else None,
    )
    table = job.table[1:]  # (3, V)
    terms = torch.zeros((n_tokens, 3), dtype=torch.float32, device=hidden.device)  # nll, ED_t, |v_t|
    logits = hidden.new_empty((n_rows, n_vocabulary))
    for start in range(0, n_tokens, n_rows):
        rows = slice(start, min(start + n_rows, n_tokens))
        chunk = logits[: rows.stop - start]
        torch.mm(hidden[rows], low.T, out=chunk)  # (C, H) @ (H, V)
        with torch.cuda.device_of(hidden):
            _launch(chunk, table, bias, job, rows, terms[rows])
        if gradients.hidden is not None:
            torch.mm(chunk, low, out=gradients.hidden[rows])  # (C, V) @ (V, H)
        if gradients.weight is not None:
            _add_product(gradients.weight, chunk.T, hidden[rows], is_first=start == 0)  # (V, C) @ (C, H)
        if gradients.bias is not None:
            gradients.bias.add_(chunk.sum(0, dtype=torch.float32))
    nll, distance, norm = terms.unbind(1)
    weighted = (nll, job.guidance.distance_weight * distance, job.guidance.norm_weight * norm)
    return torch.stack(weighted).double().sum(1), distance, gradients


def _add_product(into: Tensor, a: Tensor, b: Tensor, *, is_first: bool) -> None:
    beta = 0 if is_first else 1  # 0: what `into` held, nothing yet, is not read
    if into.dtype == a.dtype:
        torch.addmm(into, a, b, beta=beta, out=into)
    elif a.is_cuda:
        torch.addmm(into, a, b, beta=beta, out_dtype=into.dtype, out=into)  # the product's own float32 sums, unrounded
    else:
        torch.addmm(into, a.to(into.dtype), b.to(into.dtype), beta=beta, out=into)


def _launch(logits: Tensor, table: Tensor, bias: Tensor | None, job: Job, rows: slice, terms: Tensor) -> None:
    n_rows, n_vocabulary = logits.shape
    _guide[(triton.cdiv(n_rows, ROWS),)](
        logits,
        table,
        logits if bias is None else bias.detach().contiguous(),
        job.labels[rows],
        job.guidance.target[rows].contiguous(),
        job.guidance.distance_weight[rows].contiguous(),
        job.guidance.norm_weight[rows].contiguous(),
        terms,
        job.n_items.reciprocal(),
        float(job.alpha),
        float(job.beta),
        float(job.softcap or 1),
        n_rows,
        n_vocabulary,
        HAS_BIAS=bias is not None,
        HAS_CAP=job.softcap is not None,
        WANTS_GRADIENT=job.wants_gradient,
        ROWS=ROWS,
        COLUMNS=COLUMNS,
        num_warps=WARPS,
    )


@triton.jit
def _logits(
    logits, bias, start, columns, is_inside, is_row, softcap, HAS_BIAS: tl.constexpr, HAS_CAP: tl.constexpr
):  # fmt: skip
    """Read logits, float32, (ROWS, COLUMNS): -inf outside the vocabulary."""
    mask = is_row[:, None] & is_inside[None, :]
    z = tl.load(logits + start[:, None] + columns[None, :], mask=mask, other=0.0).to(tl.float32)
    if HAS_BIAS:
        z += tl.load(bias + columns, mask=is_inside, other=0.0).to(tl.float32)[None, :]
    if HAS_CAP:
        z = softcap * (2 * tl.sigmoid(2 * z / softcap) - 1)  # tanh
    return tl.where(is_inside[None, :], z, float("-inf"))


@triton.jit
def _guide(
    logits, table, bias, labels, target, distance_weight, norm_weight, terms, scale, alpha, beta, softcap,
    n_rows, n_columns: tl.constexpr,
    HAS_BIAS: tl.constexpr, HAS_CAP: tl.constexpr, WANTS_GRADIENT: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Fill terms (n_rows, 3) and turn logits (n_rows, n_columns) into the gradient of the loss by them."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    is_row = rows < n_rows
    start = rows.to(tl.int64) * n_columns

    maximum = tl.full((ROWS,), -3.4e38, tl.float32)  # finite: a bias may be -inf throughout a block
    total = tl.zeros((ROWS,), tl.float32)
    v0 = tl.zeros((ROWS,), tl.float32)
    v1 = tl.zeros((ROWS,), tl.float32)
    v2 = tl.zeros((ROWS,), tl.float32)
    for first in range(0, n_columns, COLUMNS):
        columns = first + tl.arange(0, COLUMNS)
        inside = columns < n_columns
        z = _logits(logits, bias, start, columns, inside, is_row, softcap, HAS_BIAS, HAS_CAP)
        higher = tl.maximum(maximum, tl.max(z, axis=1))
        power = tl.exp(z - higher[:, None])
        rescale = tl.exp(maximum - higher)
        o0 = tl.load(table + columns, mask=inside, other=0.0)
        o1 = tl.load(table + n_columns + columns, mask=inside, other=0.0)
        o2 = tl.load(table + 2 * n_columns + columns, mask=inside, other=0.0)
        total = total * rescale + tl.sum(power, axis=1)
        v0 = v0 * rescale + tl.sum(power * o0[None, :], axis=1)
        v1 = v1 * rescale + tl.sum(power * o1[None, :], axis=1)
        v2 = v2 * rescale + tl.sum(power * o2[None, :], axis=1)
        maximum = higher
    v0 /= total
    v1 /= total
    v2 /= total

    label = tl.load(labels + rows, mask=is_row, other=0)
    label_logit = tl.load(logits + start + label, mask=is_row, other=0.0).to(tl.float32)
    if HAS_BIAS:
        label_logit += tl.load(bias + label, mask=is_row, other=0.0).to(tl.float32)
    if HAS_CAP:
        label_logit = softcap * (2 * tl.sigmoid(2 * label_logit / softcap) - 1)

    d0 = v0 - tl.load(target + rows * 3, mask=is_row, other=0.0)
    d1 = v1 - tl.load(target + rows * 3 + 1, mask=is_row, other=0.0)
    d2 = v2 - tl.load(target + rows * 3 + 2, mask=is_row, other=0.0)
    distance = tl.sqrt(d0 * d0 + d1 * d1 + d2 * d2)  # ED_t, Eq. 1
    norm = tl.sqrt(v0 * v0 + v1 * v1 + v2 * v2)
    tl.store(terms + rows * 3, maximum + tl.log(total) - label_logit, mask=is_row)
    tl.store(terms + rows * 3 + 1, distance, mask=is_row)
    tl.store(terms + rows * 3 + 2, norm, mask=is_row)

    if WANTS_GRADIENT:
        tl.debug_barrier()  # all have read their label's logit before the first is overwritten
        # g_t as in `terms.guidance_gradient`, with the subgradient 0 where a norm is 0
        pull = alpha * tl.load(distance_weight + rows, mask=is_row, other=0.0)
        pull = tl.where(distance > 0, pull / tl.where(distance > 0, distance, 1.0), 0.0)
        push = beta * tl.load(norm_weight + rows, mask=is_row, other=0.0)
        push = tl.where(norm > 0, push / tl.where(norm > 0, norm, 1.0), 0.0)
        g0 = pull * d0 - push * v0
        g1 = pull * d1 - push * v1
        g2 = pull * d2 - push * v2
        per_item = tl.load(scale)
        constant = 1 - (v0 * g0 + v1 * g1 + v2 * g2)
        share = per_item / total
        for first in range(0, n_columns, COLUMNS):
            columns = first + tl.arange(0, COLUMNS)
            inside = columns < n_columns
            z = _logits(logits, bias, start, columns, inside, is_row, softcap, HAS_BIAS, HAS_CAP)
            o0 = tl.load(table + columns, mask=inside, other=0.0)
            o1 = tl.load(table + n_columns + columns, mask=inside, other=0.0)
            o2 = tl.load(table + 2 * n_columns + columns, mask=inside, other=0.0)
            along = (
                constant[:, None] + g0[:, None] * o0[None, :] + g1[:, None] * o1[None, :] + g2[:, None] * o2[None, :]
            )
            gradient = tl.exp(z - maximum[:, None]) * share[:, None] * along
            gradient -= tl.where(columns[None, :] == label[:, None], per_item, 0.0)
            if HAS_CAP:
                gradient *= tl.where(inside[None, :], 1 - (z / softcap) * (z / softcap), 0.0)
            at = logits + start[:, None] + columns[None, :]
            tl.store(at, gradient.to(logits.dtype.element_ty), mask=is_row[:, None] & inside[None, :])
