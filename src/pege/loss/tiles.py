"""The kernel in plain torch: Eq. 1-5 and their gradient by tiles of the vocabulary, without a (T, V) tensor.

Tokens are taken in chunks, the vocabulary in tiles. First pass over the tiles: logits, their exponential against the
tile's own maximum, and one product with ``[1, O]`` that gives the softmax's sum and the expected VAD together. Then
g_t is known, and the second pass turns what the first held into

    G_t = dL/dz_t = s_t * (1 + O g_t - v_t . g_t) - onehot(y_t)

and multiplies it into the gradients of the hidden states, the output matrix and the bias.

Columns cost what they matter. A column's mass is its softmax, averaged over the tokens of the chunk; those of least
mass are

- left out of the second pass while all of them together stay below ``filter_eps`` (of all gradients, or of the hidden
  states' alone: a row of the output matrix that gets none may be made to move by an optimizer),
- else multiplied in bfloat16 while all of them together stay below ``low_eps``: a tile is multiplied in bfloat16 first,
  and those columns that weigh more once again, exactly,

both times the mass of all that is no label: G_t is of that size, so well-learnt tokens, whose gradient is small, have
no larger a relative error. Labels are exact. Mass is measured against the normaliser so far, or that of the chunk's
labels alone, which are at most the true one, and that of all but the labels grows from tile to tile, so the bounds
hold. Where a chunk held 7 of 10 columns as they are, the chunks behind it are done without either.

With c the mean row w of the output matrix and m the mean hidden state h, h w = (h - m) (w - c) + m w + (h - m) c, of
which only the first is multiplied in bfloat16. The entries of G_t add up to 0, so the gradient by the hidden states is
the same whatever vector is taken from all rows: without c, what is left out weighs least.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from pege.loss import chunk as chunks
from pege.loss.chunk import Chunk, Low, Space
from pege.loss.terms import Gradients, Job, guidance_gradient

CHUNK_TOKENS = 256  # tokens worked on at once; fewer where they would hold more than the next lines allow
EXACT_NUMBERS = 2**26  # exponentials (and slopes of the soft cap) held at once where all are exact: 256 MiB
FILTERED_NUMBERS = 8_000_000  # the same where columns are left out or in bfloat16, which are half a number: 32 MB
FILTERED_TOKENS = 128  # with fewer tokens the products are slow; so many are taken even if nearly all columns matter

_WORTH_GOING_ON = 0.7  # share of the columns that are exact; above it, picking the others costs more than it saves
_STEP_TOKENS = 64  # a chunk of more is a multiple of it, as the blocks of a product are
_MEAN_ROWS = 4096  # rows of the output matrix that stand for all in their mean


def run(hidden: Tensor, weight: Tensor, bias: Tensor | None, job: Job) -> tuple[Tensor, Tensor, Gradients]:
    """Give the sums of nll, peg and ner, (3,) float64; the distances, (T,); the gradients, in the dtype of the table.

    Args:
        hidden: (T, H), only tokens that count.
        weight: (V, H).
        bias: (V,) or None.
        job: the rest.
    """
    dtype, n_tokens = job.table.dtype, hidden.shape[0]
    # where no row is left out, each is in a tile, and the first chunk's are written without a 0 before
    make_weight = torch.zeros_like if job.filter_rows or not n_tokens else torch.empty_like
    gradients = Gradients(
        hidden=torch.zeros_like(hidden, dtype=dtype) if job.needs_hidden else None,
        weight=make_weight(weight, dtype=dtype) if job.needs_weight else None,
        bias=torch.zeros_like(bias, dtype=dtype) if job.needs_bias and bias is not None else None,
    )
    distance = hidden.new_zeros(n_tokens, dtype=dtype)
    sums = hidden.new_zeros(3, dtype=torch.float64)  # nll, peg, ner
    sizes = _Sizes(n_tokens, weight.shape[0], job)
    space = Space(hidden.new_empty(sizes.n_numbers, dtype=dtype))
    centre = _mean_row(weight, dtype) if (job.filter_eps or job.low_eps) and job.wants_gradient else None
    low = None if centre is None or not job.low_eps else Low.of(hidden, weight, centre)
    # float16 has no numbers as small as the entries of G_t over many items: it is divided once they are summed
    n_items, n_items_later = (1.0, job.n_items) if hidden.dtype == torch.float16 else (job.n_items, None)
    start = 0
    while start < n_tokens:
        rows = slice(start, min(start + sizes.next_tokens(n_tokens - start), n_tokens))
        space.n_used = 0
        chunk = Chunk(rows, hidden, weight, bias, job, space, low)
        guidance = job.guidance.at(rows)
        apart = torch.linalg.vector_norm(chunk.expected_vad - guidance.target, dim=1)  # ED_t, Eq. 1
        norm = torch.linalg.vector_norm(chunk.expected_vad, dim=1)
        if job.wants_gradient:
            g = guidance_gradient(chunk.expected_vad, guidance, job.alpha, job.beta)
            chunk.add_gradients(g, gradients, centre, n_items)
        terms = (chunk.nll, guidance.distance_weight * apart, guidance.norm_weight * norm)
        sums += torch.stack(terms).sum(1)  # (3, C) -> (3,)
        distance[rows] = apart.to(dtype)
        start = rows.stop
        if sizes.picks and not sizes.pays(chunk):
            job, low, centre = replace(job, filter_eps=0.0, filter_rows=False, low_eps=0.0), None, None
    if n_items_later is not None:
        for gradient in (gradients.hidden, gradients.weight, gradients.bias):
            if gradient is not None:
                gradient.div_(n_items_later)
    return sums, distance, gradients


def _mean_row(weight: Tensor, dtype: torch.dtype) -> Tensor:
    return weight[:: math.ceil(weight.shape[0] / _MEAN_ROWS)].mean(0, dtype=dtype)  # (V, H) -> (H,)


class _Sizes:
    """How many tokens a chunk takes, by what the chunk before held."""

    def __init__(self, n_tokens: int, n_vocabulary: int, job: Job) -> None:
        self.n_vocabulary, kinds = n_vocabulary, 1 if job.softcap is None else 2  # exponentials, slopes
        self.tile = kinds * min(chunks.TILE_COLUMNS, n_vocabulary)
        self.picks = bool(job.filter_eps or job.low_eps) and job.wants_gradient
        self.itemsize = job.table.element_size()
        self.all: float = kinds * n_vocabulary if job.wants_gradient else 0  # numbers a token holds
        self.n_held = self.all * (1 + chunks.WORTH_LOW) / 2 if job.low_eps else self.all
        self.n_numbers = min(self._most, int(max(self.n_held, self.tile)) * min(n_tokens, CHUNK_TOKENS))

    @property
    def _most(self) -> int:
        return FILTERED_NUMBERS if self.picks else EXACT_NUMBERS

    def next_tokens(self, n_left: int) -> int:
        """Give the tokens of the next chunk, of those that are left."""
        fitting = int(self._most // max(self.n_held, self.tile, 1))
        n_tokens = min(max(fitting, FILTERED_TOKENS if self.picks else 1), CHUNK_TOKENS)
        step = min(_STEP_TOKENS, n_tokens)
        n_tokens -= n_tokens % step
        part = n_left / math.ceil(n_left / n_tokens)  # equal parts
        return min(step * math.ceil(part / step), n_left)

    def pays(self, chunk: Chunk) -> bool:
        """Note what a chunk that picks columns held; tell whether the next should too."""
        n_exact = sum(p.powers.shape[1] for p in chunk.pieces if p.powers.dtype != torch.bfloat16)
        self.picks = n_exact <= _WORTH_GOING_ON * self.n_vocabulary
        n_bytes = sum(p.n_bytes for p in chunk.pieces)
        self.n_held = n_bytes / self.itemsize / len(chunk.hidden) if self.picks else self.all
        return self.picks
