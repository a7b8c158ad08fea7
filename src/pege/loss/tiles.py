"""The kernel in plain torch: Eq. 1-5 and their gradient by tiles of the vocabulary, without a (T, V) tensor.

Tokens are taken in chunks, the vocabulary in tiles. First pass over the tiles: logits, their exponential against the
tile's own maximum, and one product with ``[1, O]`` that gives the softmax's sum and the expected VAD together. Then
g_t is known, and the second pass turns what the first held into

    G_t = dL/dz_t = s_t * (1 + O g_t - v_t . g_t) - onehot(y_t)

and multiplies it into the gradients of the hidden states, the output matrix and the bias.

Held are the columns that matter. Each tile leaves out those of least mass (softmax, averaged over the tokens of the
chunk) while all that is left out stays below ``filter_eps`` times the mass of all that is no label: G_t is of that
size, so well-learnt tokens, whose gradient is small, have no larger a relative error. Labels stay. Mass is measured
against the normaliser so far (with the label in it), which is at most the true one, and that of all but the labels
grows from tile to tile, so the bound holds. The entries of G_t add up to 0, so the gradient by the hidden states is the
same whatever vector is taken from all rows of the output matrix: without their mean, what is left out weighs least.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pege.loss.terms import Gradients, Job, guidance_gradient

CHUNK_TOKENS = 512  # tokens worked on at once; fewer where they would hold more than the next lines allow
EXACT_NUMBERS = 2**26  # exponentials (and slopes of the soft cap) held at once where all columns are: 256 MiB
FILTERED_NUMBERS = 12_000_000  # the same where columns are left out: 48 MB
FILTERED_TOKENS = 128  # with fewer tokens the products are slow; so many are taken even if nearly all columns matter
TILE_COLUMNS = 2048  # vocabulary columns worked on at once, so that a tile of a chunk stays in cache

_WORTH_PICKING = 0.7  # share of a tile's columns; above it, picking them costs more than it saves
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
    gradients = Gradients(
        hidden=torch.zeros_like(hidden, dtype=dtype) if job.needs_hidden else None,
        weight=torch.zeros_like(weight, dtype=dtype) if job.needs_weight else None,
        bias=torch.zeros_like(bias, dtype=dtype) if job.needs_bias and bias is not None else None,
    )
    distance = hidden.new_zeros(n_tokens, dtype=dtype)
    sums = hidden.new_zeros(3, dtype=torch.float64)  # nll, peg, ner
    sizes = _Sizes(n_tokens, weight.shape[0], job)
    space = _Space(hidden.new_empty(sizes.n_numbers, dtype=dtype))
    centre = _mean_row(weight, dtype) if job.filter_eps and job.needs_hidden and job.softcap is None else None
    # float16 has no numbers as small as the entries of G_t over many items: it is divided once they are summed
    n_items, n_items_later = (1.0, job.n_items) if hidden.dtype == torch.float16 else (job.n_items, None)
    start = 0
    while start < n_tokens:
        rows = slice(start, min(start + sizes.next_tokens(n_tokens - start), n_tokens))
        space.n_used = 0
        chunk = _first_pass(hidden[rows], weight, bias, job, job.labels[rows], space)
        guidance = job.guidance.at(rows)
        apart = torch.linalg.vector_norm(chunk.expected_vad - guidance.target, dim=1)  # ED_t, Eq. 1
        norm = torch.linalg.vector_norm(chunk.expected_vad, dim=1)
        if job.wants_gradient:
            g = guidance_gradient(chunk.expected_vad, guidance, job.alpha, job.beta)
            _second_pass(chunk, g, hidden[rows], weight, job, rows, gradients, centre, n_items)
        terms = (chunk.nll, guidance.distance_weight * apart, guidance.norm_weight * norm)
        sums += torch.stack(terms).sum(1)  # (3, C) -> (3,)
        distance[rows] = apart.to(dtype)
        sizes.n_held = sum(p.n_numbers for p in chunk.pieces) / (rows.stop - start)
        start = rows.stop
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
        kinds = 1 if job.softcap is None else 2  # exponentials, slopes
        self.tile = kinds * min(TILE_COLUMNS, n_vocabulary)
        self.n_held: float = kinds * n_vocabulary if job.wants_gradient else 0  # numbers a token holds
        self.most = FILTERED_NUMBERS if job.filter_eps else EXACT_NUMBERS
        self.least_tokens = 1
        self.filters = bool(job.filter_eps) and job.wants_gradient
        self.n_numbers = min(self.most, int(max(self.n_held, self.tile)) * min(n_tokens, CHUNK_TOKENS))

    def next_tokens(self, n_left: int) -> int:
        """Give the tokens of the next chunk, of those that are left."""
        fitting = int(self.most // max(self.n_held, self.tile, 1))
        n_tokens = min(max(fitting, self.least_tokens), CHUNK_TOKENS)
        if self.filters:
            self.least_tokens = FILTERED_TOKENS
        return math.ceil(n_left / math.ceil(n_left / n_tokens))  # equal parts


@dataclass
class _Space:
    """Memory for what a chunk holds, used again by the next."""

    numbers: Tensor
    n_used: int = 0

    def take(self, n_rows: int, n_columns: int) -> Tensor:
        """Give the next (n_rows, n_columns), or a tensor of its own where no room is left."""
        end = self.n_used + n_rows * n_columns
        if end > self.numbers.numel():
            return self.numbers.new_empty((n_rows, n_columns))
        found = self.numbers[self.n_used : end].view(n_rows, n_columns)
        self.n_used = end
        return found


@dataclass(frozen=True)
class _Piece:
    """What is held of a tile."""

    tile: slice
    kept: Tensor | None  # (n,) columns within the tile, in order; None: all
    powers: Tensor  # (C, n)
    slope: Tensor | None  # (C, n), derivative of the soft cap
    tokens: Tensor  # those of the chunk whose label lies in the tile
    labels: Tensor  # their labels, within the tile

    @property
    def n_numbers(self) -> int:
        return self.powers.numel() * (1 if self.slope is None else 2)


@dataclass(frozen=True)
class _FirstPass:
    """What the first pass over the tiles leaves for a chunk of C tokens."""

    nll: Tensor  # (C,) float64
    expected_vad: Tensor  # (C, 3) float64, v_t
    normalizer: Tensor  # (C,) float64, sum of the exponentials against the row's maximum
    rescale: Tensor  # (C, tiles), from a tile's maximum to the row's
    pieces: list[_Piece]  # one a tile, where a gradient is wanted


def _first_pass(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, job: Job, labels: Tensor, space: _Space
) -> _FirstPass:
    """Exponentials tile by tile, each against its tile's own maximum, and what Eq. 1-5 need of them."""
    dtype, n_tokens, n_vocabulary = job.table.dtype, hidden.shape[0], weight.shape[0]
    tiles = [slice(a, min(a + TILE_COLUMNS, n_vocabulary)) for a in range(0, n_vocabulary, TILE_COLUMNS)]
    pieces: list[_Piece] = []
    maxima = hidden.new_empty((n_tokens, len(tiles)), dtype=dtype)
    sums = hidden.new_empty((len(tiles), n_tokens, 4), dtype=dtype)
    label_logit = hidden.new_zeros(n_tokens, dtype=dtype)
    label_logit_ahead = _label_logits(hidden, weight, bias, job.softcap, labels).to(dtype)
    log_sum = label_logit_ahead  # of the label and all tiles so far
    left_out = 0.0
    for k, tile in enumerate(tiles):
        before = space.n_used
        powers = space.take(n_tokens, tile.stop - tile.start)
        slope = _tile_logits(hidden, weight, bias, job.softcap, tile, powers)
        tokens = ((labels >= tile.start) & (labels < tile.stop)).nonzero().squeeze(1)
        local = labels[tokens] - tile.start
        label_logit[tokens] = powers[tokens, local]
        maxima[:, k] = powers.amax(dim=1).clamp_min_(torch.finfo(dtype).min)  # a bias may be -inf throughout a tile
        powers.sub_(maxima[:, k, None]).exp_()
        sums[k] = F.linear(powers, job.table[:, tile])  # (C, tile) @ (tile, 4)
        if not job.wants_gradient:
            space.n_used = before
            continue
        kept = None
        if job.filter_eps:
            others = sums[k, :, 0].index_add(0, tokens, powers[tokens, local], alpha=-1).clamp_min_(0)
            log_sum = torch.logaddexp(log_sum, maxima[:, k] + others.log())
            no_label = float(-torch.expm1(label_logit_ahead - log_sum).mean())
            mass = powers.T @ ((maxima[:, k] - log_sum).exp() / n_tokens)  # (tile, C) @ (C,)
            allowed = job.filter_eps * no_label * tile.stop / n_vocabulary - left_out
            kept, mass_out = _kept(mass, local, allowed)
            left_out += mass_out
        if kept is not None:
            space.n_used = before
            powers = _put(powers.index_select(1, kept), space)
            slope = None if slope is None else slope.index_select(1, kept)
        slope = None if slope is None else _put(slope, space)
        pieces.append(_Piece(tile, kept, powers, slope, tokens, local))
    maximum = maxima.amax(dim=1)  # (C,)
    rescale = (maxima - maximum[:, None]).exp()
    # (C, 4): sum of exponentials, then sums weighted by VAD; few numbers, so in float64
    total = torch.einsum("ct,tcd->cd", rescale.double(), sums.double())
    return _FirstPass(
        nll=maximum.double() - label_logit.double() + total[:, 0].log(),
        expected_vad=total[:, 1:] / total[:, :1],
        normalizer=total[:, 0],
        rescale=rescale,
        pieces=pieces,
    )


def _put(found: Tensor, space: _Space) -> Tensor:
    return space.take(*found.shape).copy_(found)


def _kept(mass: Tensor, labels: Tensor, allowed: float) -> tuple[Tensor | None, float]:
    """Give the columns of a tile that stay, in order, and the mass of the others, which is at most ``allowed``.

    None where they are so many that picking them out costs more than the product with all.
    """
    mass[labels] = math.inf
    ordered, order = mass.sort()
    total = ordered.cumsum(0)
    n_out = int((total <= allowed).sum())
    if mass.numel() - n_out > _WORTH_PICKING * mass.numel():
        return None, 0.0
    return order[n_out:].sort().values, float(total[n_out - 1])


def _tile_logits(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, softcap: float | None, tile: slice, out: Tensor
) -> Tensor | None:
    """Fill ``out`` (C, tile) with the logits of a tile; give their derivative by the uncapped ones under a cap."""
    if hidden.dtype == out.dtype == weight.dtype:
        torch.mm(hidden, weight[tile].T, out=out)  # (C, H) @ (H, tile)
    else:
        out.copy_(hidden @ weight[tile].to(hidden.dtype).T)
    if bias is not None:
        out += bias[tile].to(out.dtype)
    if softcap is None:
        return None
    out.div_(softcap).tanh_()
    slope = 1 - out.square()
    out *= softcap
    return slope


def _label_logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, softcap: float | None, labels: Tensor) -> Tensor:
    """Give each token's label's logit, (C,), up to rounding."""
    logits = (hidden * weight.index_select(0, labels).to(hidden.dtype)).sum(1)
    if bias is not None:
        logits = logits + bias.index_select(0, labels)
    return logits if softcap is None else softcap * torch.tanh(logits / softcap)


def _second_pass(
    chunk: _FirstPass,
    g: Tensor,
    hidden: Tensor,
    weight: Tensor,
    job: Job,
    rows: slice,
    gradients: Gradients,
    centre: Tensor | None,
    n_items: Tensor | float,
) -> None:
    """Turn exponentials into the gradient of the logits, tile by tile, and that into the gradients. g: (C, 3)."""
    constant = 1 - (chunk.expected_vad * g).sum(1, keepdim=True)
    factors = torch.cat((constant, g), dim=1) / (chunk.normalizer[:, None] * n_items)  # (C, 4), times [1, O]
    factors = factors.to(job.table.dtype)
    surplus = factors.new_zeros(hidden.shape[0])  # what the entries held do not add up to 0 by
    for k, piece in enumerate(chunk.pieces):
        gradient, local = piece.powers, piece.labels
        columns: Tensor | slice = piece.tile
        if piece.kept is not None:
            local = torch.searchsorted(piece.kept, local)
            columns = piece.kept + piece.tile.start
        gradient.mul_((factors * chunk.rescale[:, k, None]) @ job.table[:, columns])  # (C, 4) @ (4, columns)
        gradient[piece.tokens, local] -= 1 / n_items
        if piece.slope is not None:
            gradient.mul_(piece.slope)
        if centre is not None:
            surplus += gradient.sum(1)
        _add_gradients(gradient, hidden, weight, gradients, rows, columns)
    if centre is not None and gradients.hidden is not None and any(p.kept is not None for p in chunk.pieces):
        gradients.hidden[rows].addr_(surplus, centre, alpha=-1)


def _add_gradients(
    gradient: Tensor, hidden: Tensor, weight: Tensor, gradients: Gradients, rows: slice, columns: slice | Tensor
) -> None:
    """Add what a tile of logits, or its kept columns, give: gradient (C, n), hidden (C, H), weight (V, H)."""
    low = gradient.to(hidden.dtype)
    if gradients.hidden is not None:
        some = weight[columns] if isinstance(columns, slice) else weight.index_select(0, columns)
        if hidden.dtype == gradient.dtype:
            gradients.hidden[rows].addmm_(low, some.to(hidden.dtype))  # (C, n) @ (n, H)
        else:
            gradients.hidden[rows] += low @ some.to(hidden.dtype)
    if gradients.weight is not None:
        if isinstance(columns, slice) and hidden.dtype == gradient.dtype:
            gradients.weight[columns].addmm_(low.T, hidden)  # (n, C) @ (C, H)
        elif isinstance(columns, slice):
            gradients.weight[columns] += low.T @ hidden
        else:
            gradients.weight.index_add_(0, columns, (low.T @ hidden).to(gradients.weight.dtype))
    if gradients.bias is not None:
        if isinstance(columns, slice):
            gradients.bias[columns] += gradient.sum(0)
        else:
            gradients.bias.index_add_(0, columns, gradient.sum(0))
