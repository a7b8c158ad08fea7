"""A chunk of tokens: the passes of `pege.loss.tiles` over the tiles of the vocabulary."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from pege.loss.terms import Gradients, Job
from pege.products import add_product, product

TILE_COLUMNS = 1024  # vocabulary columns worked on at once, so that a tile of a chunk stays in cache
WORTH_LOW = 0.35  # share of a tile's columns that are multiplied once again; above it, bfloat16 saves nothing

_WORTH_PICKING = 0.7  # share of a tile's columns; above it, picking them costs more than it saves
_MOST_PASSED = 8  # tiles
_BLOCKS = 32  # of columns, added up at once
_STEP = 64  # columns that stay of a tile are a multiple of it: for each shape of a product oneDNN keeps a program


@dataclass
class Space:
    """Memory for what a chunk holds and what it works with, used again by the next."""

    numbers: Tensor
    n_used: int = 0
    scratch: dict[tuple[str, torch.dtype], Tensor] = field(default_factory=dict)

    def take(self, n_rows: int, n_columns: int, *, dtype: torch.dtype | None = None) -> Tensor:
        """Give the next (n_rows, n_columns), or a tensor of its own where no room is left."""
        dtype = dtype or self.numbers.dtype
        end = self.n_used + math.ceil(n_rows * n_columns * dtype.itemsize / self.numbers.element_size())
        if end > self.numbers.numel():
            return self.numbers.new_empty((n_rows, n_columns), dtype=dtype)
        found = self.numbers[self.n_used : end].view(dtype)[: n_rows * n_columns].view(n_rows, n_columns)
        self.n_used = end
        return found

    def lend(self, name: str, n_rows: int, n_columns: int, *, dtype: torch.dtype | None = None) -> Tensor:
        """Give (n_rows, n_columns) to work with until the name is asked for again."""
        key = (name, dtype or self.numbers.dtype)
        if key not in self.scratch or self.scratch[key].numel() < n_rows * n_columns:
            self.scratch[key] = self.numbers.new_empty(n_rows * n_columns, dtype=key[1])
        return self.scratch[key][: n_rows * n_columns].view(n_rows, n_columns)

    def cast(self, name: str, found: Tensor, dtype: torch.dtype) -> Tensor:
        """Give it in another dtype, in memory that is lent."""
        return found if found.dtype == dtype else self.lend(name, *found.shape, dtype=dtype).copy_(found)

    def pick(self, name: str, found: Tensor, dim: int, which: Tensor) -> Tensor:
        """Give some rows (dim 0) or columns (dim 1), in memory that is lent: parts of many sizes would leave holes."""
        shape = (len(which), found.shape[1]) if dim == 0 else (found.shape[0], len(which))
        return torch.index_select(found, dim, which, out=self.lend(name, *shape, dtype=found.dtype))

    def put(self, found: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Copy it to the next place."""
        return self.take(*found.shape, dtype=dtype).copy_(found)


@dataclass
class Low:
    """What products in bfloat16 take, and the tiles they are tried with: where that was in vain, not the next ones."""

    hidden: Tensor  # (T, H) bfloat16
    apart: Tensor  # (T, H) bfloat16, without their mean m
    centre: Tensor  # (H,), c
    of_token: Tensor  # (T,), (h - m) c
    of_column: Tensor  # (V,), m w
    n_passed: int = 0  # tiles passed over, when a try was last in vain
    n_to_pass: int = 0  # of these still

    @classmethod
    def of(cls, hidden: Tensor, weight: Tensor, centre: Tensor) -> Low:
        """Of float32 (T, H), (V, H) and (H,)."""
        mean = hidden.mean(0)
        apart = hidden - mean
        return cls(hidden.bfloat16(), apart.bfloat16(), centre, apart @ centre, weight @ mean)

    def logits(self, rows: slice, weight: Tensor, tile: slice, space: Space, out: Tensor) -> None:
        """Fill ``out`` (C, n) with those of some tokens and a tile's columns."""
        apart = torch.sub(weight[tile], self.centre, out=space.lend("rows", *weight[tile].shape))
        low = space.cast("weight", apart, self.apart.dtype)
        found = torch.mm(self.apart[rows], low.T, out=space.lend("product", *out.shape, dtype=low.dtype))
        torch.add(found, self.of_column[tile], out=out)
        out += self.of_token[rows, None]

    def tries(self) -> bool:
        """Tell whether the next tile is tried."""
        self.n_to_pass -= 1
        return self.n_to_pass < 0

    def ended(self, worked: bool) -> None:
        """Note how that went."""
        self.n_passed = self.n_to_pass = 0 if worked else min(2 * self.n_passed + 1, _MOST_PASSED)


@dataclass(frozen=True)
class Piece:
    """Columns of which a chunk of C tokens holds the exponentials."""

    columns: slice | Tensor  # of the vocabulary, in order
    powers: Tensor  # (C, n); bfloat16: the products with them are
    slope: Tensor | None  # (C, n), derivative of the soft cap
    maximum: Tensor  # (C,), what the exponentials are against
    tokens: Tensor  # those of the chunk whose label is among the columns
    labels: Tensor  # the labels' places among the columns
    heavy: Tensor | None = None  # places of the columns that give the hidden states a gradient; None: all

    @property
    def n_bytes(self) -> int:
        """Give what it holds."""
        return self.powers.nbytes * (1 if self.slope is None else 2)


@dataclass
class Budget:
    """Mass of what is left out, or in bfloat16, in the tiles so far, which stays below a share of all of it."""

    share: float
    spent: float = 0.0

    def n_within(self, masses: Tensor, allowed: float) -> int:
        """Give how many of a tile's columns it holds: masses are theirs, added up from the least."""
        return int((masses <= self.share * allowed - self.spent).sum())

    def spend(self, masses: Tensor, n: int) -> None:
        """Take the first n of a tile."""
        self.spent += float(masses[n - 1]) if n else 0.0


class Chunk:
    """The first pass over the vocabulary for C tokens, and what it leaves.

    Attributes:
        nll: (C,) float64.
        expected_vad: (C, 3) float64, v_t.
        pieces: what is held, where a gradient is wanted.
    """

    def __init__(
        self, rows: slice, hidden: Tensor, weight: Tensor, bias: Tensor | None, job: Job, space: Space, low: Low | None
    ) -> None:
        self.rows, self.hidden, self.weight, self.bias = rows, hidden[rows], weight, bias
        self.job, self.labels, self.space, self.low = job, job.labels[rows], space, low
        self.leaves_out = False
        self.pieces: list[Piece] = []
        self._out, self._low = Budget(job.filter_eps), Budget(job.low_eps)
        self._maxima: list[Tensor] = []  # (C,) each
        self._sums: list[Tensor] = []  # (C, 4) each
        self._label_logit = hidden.new_zeros(len(self.hidden), dtype=job.table.dtype)
        self._label_logit_ahead, self._least_log_sum = self._ahead()
        self._log_sum = self._label_logit_ahead  # of the label and all tiles so far
        n_vocabulary = weight.shape[0]
        again: list[Tensor] = []
        for start in range(0, n_vocabulary, TILE_COLUMNS):
            tile, columns = slice(start, min(start + TILE_COLUMNS, n_vocabulary)), None
            if low is not None and low.tries():
                columns = self._take_low(tile, low)
                low.ended(columns is not None)
            if columns is None:
                self._take(tile)
            elif len(columns):
                again.append(columns)
        if again:
            for some in torch.cat(again).tensor_split(math.ceil(sum(map(len, again)) / TILE_COLUMNS)):
                self._take(some)
        maxima, sums = torch.stack(self._maxima), torch.stack(self._sums)  # (blocks, C), (blocks, C, 4)
        self._maximum = maxima.amax(dim=0)  # (C,)
        # (C, 4): sum of exponentials, then sums weighted by VAD; few numbers, so in float64
        total = sums.new_zeros(sums.shape[1:], dtype=torch.float64)
        for start in range(0, len(sums), _BLOCKS):
            rescale = (maxima[start : start + _BLOCKS] - self._maximum).exp()
            total += torch.einsum("tc,tcd->cd", rescale.double(), sums[start : start + _BLOCKS].double())
        self._normalizer = total[:, 0]
        self.nll = self._maximum.double() - self._label_logit.double() + self._normalizer.log()
        self.expected_vad = total[:, 1:] / total[:, :1]

    def _take(self, columns: slice | Tensor) -> None:
        """Take columns in as they are; of a tile, leave out what the filter allows."""
        job, space, before = self.job, self.space, self.space.n_used
        n = columns.stop - columns.start if isinstance(columns, slice) else len(columns)
        powers = space.take(len(self.hidden), n)
        slope = self._logits(columns, powers)
        tokens, places = self._labels_among(columns)
        self._label_logit[tokens] = powers[tokens, places]
        maximum, sums = self._exponentials(powers, columns)
        self._maxima.append(maximum)
        self._sums.append(sums)
        if not job.wants_gradient:
            space.n_used = before
            return
        if isinstance(columns, slice) and job.filter_rows:
            order, masses, allowed = self._weigh(columns, powers, maximum, sums, tokens, places)
            n_out = _in_steps(self._out.n_within(masses, allowed), len(order))
            if len(order) - n_out <= _WORTH_PICKING * len(order):
                self._leave_out(masses, n_out)
                kept = order[n_out:].sort().values
                space.n_used = before
                powers = space.put(space.pick("some", powers, 1, kept))
                slope = None if slope is None else slope.index_select(1, kept)
                columns, places = kept + columns.start, torch.searchsorted(kept, places)
        slope = None if slope is None else space.put(slope)
        self.pieces.append(Piece(columns, powers, slope, maximum, tokens, places))

    def _take_low(self, tile: slice, low: Low) -> Tensor | None:
        """Take a tile in by a product in bfloat16; give the columns that must be taken again, which are not in it.

        None, and nothing is taken, where they are too many.
        """
        job, space = self.job, self.space
        powers = space.lend("powers", len(self.hidden), tile.stop - tile.start)
        low.logits(self.rows, self.weight, tile, space, powers)
        slope = self._capped(powers, tile)
        maximum, sums = self._exponentials(powers, tile)
        tokens, places = self._labels_among(tile)
        log_sum = self._log_sum
        order, masses, allowed = self._weigh(tile, powers, maximum, sums, tokens, places)
        n_low = self._low.n_within(masses, allowed)
        if len(order) - n_low > WORTH_LOW * len(order):
            self._log_sum = log_sum
            return None
        n_out = _in_steps(self._out.n_within(masses, allowed), n_low)
        again = order[n_low:].sort().values
        sums -= F.linear(space.pick("some", powers, 1, again), job.table[:, tile].index_select(1, again))
        self._low.spend(masses, n_low)
        self._maxima.append(maximum)
        self._sums.append(sums)
        kept, none = order[n_out:n_low].sort().values, tokens[:0]
        columns: slice | Tensor = tile
        is_picked = len(kept) <= _WORTH_PICKING * len(order)
        if is_picked:
            self._leave_out(masses, n_out)
        if is_picked and (job.filter_rows or not job.needs_rows):
            columns, heavy = kept + tile.start, None
            powers = space.pick("some", powers, 1, kept)
            slope = None if slope is None else slope.index_select(1, kept)
        else:
            powers, heavy = powers.index_fill_(1, again, 0.0), kept if is_picked else None
        slope = None if slope is None else space.put(slope, low.hidden.dtype)
        self.pieces.append(Piece(columns, space.put(powers, low.hidden.dtype), slope, maximum, none, none, heavy))
        again += tile.start
        return again

    def _leave_out(self, masses: Tensor, n: int) -> None:
        self._out.spend(masses, n)
        self.leaves_out = self.leaves_out or n > 0

    def _logits(self, columns: slice | Tensor, out: Tensor) -> Tensor | None:
        """Fill ``out`` (C, n) with logits; give their derivative by the uncapped ones under a cap."""
        hidden, weight = self.hidden, self._rows(columns)
        if hidden.dtype == out.dtype == weight.dtype:
            product(hidden, weight.T, out=out)  # (C, H) @ (H, n)
        else:
            low = self.space.lend("product", *out.shape, dtype=hidden.dtype)
            out.copy_(torch.mm(hidden, self.space.cast("weight", weight, hidden.dtype).T, out=low))
        return self._capped(out, columns)

    def _rows(self, columns: slice | Tensor) -> Tensor:
        """Give those of the output matrix, (n, H), to work with until others are asked for."""
        if isinstance(columns, slice):
            return self.weight[columns]
        return self.space.pick("rows", self.weight, 0, columns)

    def _capped(self, logits: Tensor, columns: slice | Tensor) -> Tensor | None:
        """Add the bias, and apply the soft cap; give its derivative where there is one."""
        softcap = self.job.softcap
        if self.bias is not None:
            bias = self.bias[columns] if isinstance(columns, slice) else self.bias.index_select(0, columns)
            logits += bias.to(logits.dtype)
        if softcap is None:
            return None
        logits.div_(softcap).tanh_()
        slope = torch.sub(1, logits.square())
        logits *= softcap
        return slope

    def _ahead(self) -> tuple[Tensor, Tensor]:
        """Give each token's label's logit, and the log-sum over all labels of the chunk, (C,): less than over all."""
        distinct, places = torch.unique(self.labels, return_inverse=True)
        logits = self.hidden.new_empty((len(self.hidden), len(distinct)), dtype=self.job.table.dtype)
        self._logits(distinct, logits)
        return logits.gather(1, places[:, None]).squeeze(1), logits.logsumexp(1)

    def _exponentials(self, logits: Tensor, columns: slice | Tensor) -> tuple[Tensor, Tensor]:
        """Turn logits (C, n) into exponentials; give their maximum, (C,), and the sums with [1, O], (C, 4)."""
        maximum = logits.amax(dim=1).clamp_min_(torch.finfo(logits.dtype).min)  # a bias may be -inf throughout
        logits.sub_(maximum[:, None]).exp_()
        return maximum, F.linear(logits, _columns(self.job.table, columns))  # (C, n) @ (n, 4)

    def _labels_among(self, columns: slice | Tensor) -> tuple[Tensor, Tensor]:
        """Give the tokens whose labels are among the columns, and the labels' places there."""
        if isinstance(columns, slice):
            places = self.labels - columns.start
            found = (places >= 0) & (self.labels < columns.stop)
        else:
            places = torch.searchsorted(columns, self.labels).clamp_max_(len(columns) - 1)
            found = columns[places] == self.labels
        tokens = found.nonzero().squeeze(1)
        return tokens, places[tokens]

    def _weigh(
        self, tile: slice, powers: Tensor, maximum: Tensor, sums: Tensor, tokens: Tensor, places: Tensor
    ) -> tuple[Tensor, Tensor, float]:
        """Order a tile's columns by mass, labels last.

        Give the order, the masses added up in that order, and the mass of all that is no label, of the tiles so far.
        """
        others = sums[:, 0].index_add(0, tokens, powers[tokens, places], alpha=-1).clamp_min_(0)
        self._log_sum = torch.logaddexp(self._log_sum, maximum + others.log())
        log_sum = torch.maximum(self._log_sum, self._least_log_sum)
        no_label = float(-torch.expm1(self._label_logit_ahead - log_sum).mean())
        mass = powers.T @ ((maximum - log_sum).exp() / len(powers))  # (n, C) @ (C,)
        mass[places] = math.inf
        ordered, order = mass.sort()
        return order, ordered.cumsum(0), no_label * tile.stop / self.weight.shape[0]

    def add_gradients(self, g: Tensor, gradients: Gradients, centre: Tensor | None, n_items: Tensor | float) -> None:
        """The second pass: exponentials become the gradient of the logits, and that the gradients. g: (C, 3)."""
        constant = 1 - (self.expected_vad * g).sum(1, keepdim=True)
        factors = torch.cat((constant, g), dim=1) / (self._normalizer[:, None] * n_items)  # (C, 4), times [1, O]
        factors = factors.to(self.job.table.dtype)
        surplus = factors.new_zeros(len(self.hidden))  # what the entries multiplied do not add up to 0 by
        for piece in self.pieces:
            gradient = self._gradient(piece, factors, n_items)
            is_low = self.low is not None and piece.powers.dtype == self.low.hidden.dtype
            hidden = self.low.hidden[self.rows] if self.low is not None and is_low else self.hidden
            low = self.space.cast("low", gradient, hidden.dtype)
            if gradients.hidden is not None:
                surplus += self._add_hidden(piece, gradient, low, gradients.hidden[self.rows])
            self._add_rows(piece, gradient, low, gradients, hidden)
        if gradients.hidden is not None and centre is not None and self.leaves_out and self.job.softcap is None:
            gradients.hidden[self.rows].addr_(surplus, centre, alpha=-1)

    def _gradient(self, piece: Piece, factors: Tensor, n_items: Tensor | float) -> Tensor:
        """Give that of a piece's logits, (C, n); factors: (C, 4)."""
        rescale = (piece.maximum - self._maximum).exp()
        entries = _columns(self.job.table, piece.columns)  # (4, n)
        gradient = self.space.lend("gradient", len(factors), entries.shape[1])
        torch.mm(factors * rescale[:, None], entries, out=gradient).mul_(piece.powers)
        gradient[piece.tokens, piece.labels] -= 1 / n_items
        if piece.slope is not None:
            gradient.mul_(piece.slope)
        return gradient

    def _add_hidden(self, piece: Piece, gradient: Tensor, low: Tensor, to: Tensor) -> Tensor:
        """Add what a piece gives the hidden states; give the sum of what was multiplied, (C,).

        ``low`` is the gradient of the piece's logits, (C, n), in the dtype that is multiplied.
        """
        columns = piece.columns
        if piece.heavy is not None and isinstance(columns, slice):
            gradient = self.space.pick("some", gradient, 1, piece.heavy)
            columns = piece.heavy + columns.start
            low = self.space.cast("heavy", gradient, low.dtype)
        some = self.space.cast("weight", self._rows(columns), low.dtype)
        _add_product(to, low, some, self.space)  # (C, n) @ (n, H)
        return gradient.sum(1)

    def _add_rows(self, piece: Piece, gradient: Tensor, low: Tensor, gradients: Gradients, hidden: Tensor) -> None:
        """Add what a piece gives the output matrix, low (C, n) times hidden (C, H) in one dtype, and the bias.

        The first of a tile is written to the rows of the matrix, over what is there.
        """
        columns, space = piece.columns, self.space
        if gradients.weight is not None:
            if isinstance(columns, slice):
                is_first = self.rows.start == 0 and not self.job.filter_rows
                _add_product(gradients.weight[columns], low.T, hidden, space, is_first)  # (n, C) @ (C, H)
            else:
                found = space.lend("product", low.shape[1], hidden.shape[1], dtype=low.dtype)
                product(low.T, hidden, out=found)
                gradients.weight.index_add_(0, columns, space.cast("rows", found, gradients.weight.dtype))
        if gradients.bias is not None:
            if isinstance(columns, slice):
                gradients.bias[columns] += gradient.sum(0)
            else:
                gradients.bias.index_add_(0, columns, gradient.sum(0))


def _in_steps(n_out: int, n: int) -> int:
    """Give at most so many columns of n to leave out: those that stay are all, or a multiple of `_STEP`."""
    return max(n - _STEP * math.ceil((n - min(n_out, n)) / _STEP), 0)


def _columns(table: Tensor, which: slice | Tensor) -> Tensor:
    return table[:, which] if isinstance(which, slice) else table.index_select(1, which)


def _add_product(to: Tensor, left: Tensor, right: Tensor, space: Space, is_first: bool = False) -> None:
    if to.dtype != left.dtype:
        found = torch.mm(left, right, out=space.lend("product", *to.shape, dtype=left.dtype))
        to.copy_(found) if is_first else to.add_(found)
    elif is_first:
        product(left, right, out=to)
    else:
        add_product(left, right, to=to)
