"""Utterances of one model generated side by side: each leaves as soon as it ends, another takes its place.

``generate`` computes a batch until its longest row ends. Here a row that ended costs nothing more, and the keys and
values of a dialog are kept, so that its next utterance reads only what is new.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig
from transformers.cache_utils import DynamicCache, DynamicLayer
from transformers.generation import logits_process

from pege.agent.kept import n_common, n_shared
from pege.dialog import Context
from pege.models.attention import is_plain
from pege.models.generation import tidy
from pege.models.padding import pad_rows

if TYPE_CHECKING:
    from pege.agent.generate import LocalAgent

_SPARE_COLUMNS = 64  # room made at once
_PREFILL_TOKENS = 4096  # read in one call, padding counted
_MIN_PREFIX = 8  # tokens of a prefix that is worth a call of its own
#: processors that look at a row's scores and nothing else; with others, dialogs are generated the plain way
_ROWWISE = (
    logits_process.SuppressTokensLogitsProcessor,
    logits_process.TemperatureLogitsWarper,
    logits_process.TopKLogitsWarper,
    logits_process.TopPLogitsWarper,
    logits_process.MinPLogitsWarper,
    logits_process.TypicalLogitsWarper,
)


class _RowsLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of a layer for rows of different lengths, (rows, heads, columns, D), from column 0 on."""

    def __init__(self, place: _Place) -> None:
        super().__init__()
        self.place = place

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write new columns, (R, heads, n, D), each row's where it stands; give those up to the longest row's end."""
        place = self.place
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.make_room(key_states, place.stop, place.n_columns)
        rows = torch.arange(place.start, place.stop, device=key_states.device)[:, None]
        for room, states in ((self.keys, key_states), (self.values, value_states)):
            room[rows, :, place.columns] = states.transpose(1, 2)  # (R, n, heads, D)
        at = (slice(place.start, place.stop), slice(None), slice(place.n_columns))
        return self.keys[at], self.values[at]

    def make_room(self, like: Tensor, n_rows: int, n_columns: int) -> None:
        """Widen the buffers to so many rows and columns, and some to spare."""
        old = self.keys.shape if self.keys.ndim == 4 else (0, like.shape[1], 0, like.shape[3])
        if old[0] >= n_rows and old[2] >= n_columns:
            return
        rows = old[0] if old[0] >= n_rows else n_rows + n_rows // 4
        columns = old[2] if old[2] >= n_columns else n_columns + n_columns // 4 + _SPARE_COLUMNS
        shape = (rows, like.shape[1], columns, like.shape[3])
        for name in ("keys", "values"):
            room = like.new_zeros(shape)  # what is not written yet is masked, and must not be NaN
            if old[0]:
                room[: old[0], :, : old[2]] = getattr(self, name)
            setattr(self, name, room)


@dataclass
class _Place:
    """Where the next call writes: rows from start to stop, their columns (R, n), and how many columns there are."""

    start: int = 0
    stop: int = 0
    columns: Tensor = field(default_factory=lambda: torch.zeros((0, 0), dtype=torch.long))
    n_columns: int = 0


@dataclass
class _Kept:
    """Tokens that were read, and a layer's keys and values of them, (2, heads, columns, D) with columns to spare."""

    ids: list[int]
    layers: list[Tensor]


@dataclass
class _Row:
    """An utterance that is being generated."""

    key: int
    context: Context
    seed: tuple[int, ...]
    prompt: list[int]
    stop_ids: list[int]
    draws: list[float]
    said: list[int] = field(default_factory=list)
    is_second: bool = False


def takes_flight(agent: LocalAgent) -> bool:
    """Whether an agent's utterances can be generated this way.

    They can where each layer of the model keeps all keys and values and takes a mask as it is given, and where the
    settings of generation look at nothing but a row's own scores: no beams, no penalties for repetition, no guide.
    """
    if agent.guide is not None or not is_plain(agent.model) or agent.model.config._attn_implementation != "sdpa":
        return False
    config, processors = _processors(agent)
    return config.num_beams in (None, 1) and all(type(p) in _ROWWISE for p in processors)


def _processors(agent: LocalAgent) -> tuple[GenerationConfig, list[Any]]:
    """The settings as ``generate`` completes them, and what it would do to the scores."""
    config, _ = agent.model._prepare_generation_config(GenerationConfig(**agent.generation))
    stop = torch.tensor([agent.tokenizer.eos_token_id or 0])
    config._eos_token_tensor = stop  # only for processors that are no `_ROWWISE`
    found = agent.model._get_logits_processor(config, input_ids_seq_length=1, device=str(agent.model.device))
    return config, list(found)


class Flight:
    """Utterances of one agent in flight.

    Args:
        agent: of whom `takes_flight` holds.
    """

    def __init__(self, agent: LocalAgent) -> None:
        self.agent, self.model = agent, agent.model
        config, self._warpers = _processors(agent)
        self._is_greedy = not config.do_sample
        self._max_new = int(config.max_new_tokens or agent.generation["max_new_tokens"])
        self._place = _Place()
        self._cache = DynamicCache(config=self.model.config)
        self._cache.layers = [_RowsLayer(self._place) for _ in self._cache.layers]
        self._rows: list[_Row] = []  # row k of the buffers is k of these
        self._waiting: list[_Row] = []
        self._kept: dict[int, _Kept] = {}
        self._prefix: _Kept | None = None

    def __len__(self) -> int:
        """Utterances that wait or are being generated."""
        return len(self._rows) + len(self._waiting)

    @property
    def n_rows(self) -> int:
        """Utterances that are being generated."""
        return len(self._rows)

    def add(self, key: int, context: Context, *, seed: tuple[int, ...]) -> None:
        """Let an utterance wait for the next `step`.

        Args:
            key: of its dialog; what is kept of a dialog is found again by it.
            context: what it follows.
            seed: of its own draws, so that the rows beside it change nothing.
        """
        (prompt,), stop_ids = self.agent.prompts([context])
        draws = [] if self._is_greedy else np.random.default_rng(seed).random(self._max_new).tolist()
        self._waiting.append(_Row(key, context, seed, prompt, stop_ids, draws))

    def drop(self, key: int) -> None:
        """Forget what is kept of a dialog."""
        self._kept.pop(key, None)

    def step(self) -> list[tuple[int, str]]:
        """Read what waits, generate a token for each row, and give what ended: (key, utterance)."""
        with torch.inference_mode():
            ended = self._take_in() if self._waiting else []
            if self._rows:
                tokens = [[row.said[-1]] for row in self._rows]
                starts = [len(row.prompt) + len(row.said) - 1 for row in self._rows]
                self._say(self._rows, self._read(tokens, starts, first=0))
                ended += self._let_go(0)
            return ended

    def _take_in(self) -> list[tuple[int, str]]:
        """Read the prompts that wait; what several share, once."""
        waiting, self._waiting = self._waiting, []
        fresh = [row for row in waiting if row.key not in self._kept]
        prefix = (
            functools.reduce(lambda a, row: a[: n_shared(a, row.prompt)], fresh, fresh[0].prompt) if fresh[1:] else []
        )
        if len(prefix) >= _MIN_PREFIX and (self._prefix is None or self._prefix.ids != prefix):
            self._read([prefix], [0], first=len(self._rows))
            self._prefix = self._copied(len(self._rows), prefix, None)
        twins: dict[tuple[int, ...], list[_Row]] = {}
        for row in fresh:
            twins.setdefault(tuple(row.prompt), []).append(row)
        again = {id(row) for rows in twins.values() for row in rows[1:]}
        ended = self._take_rows([row for row in waiting if id(row) not in again], twins)
        return ended + (self._take_rows([row for row in waiting if id(row) in again], {}) if again else [])

    def _take_rows(self, rows: list[_Row], twins: dict[tuple[int, ...], list[_Row]]) -> list[tuple[int, str]]:
        """Give rows their places and their first token."""
        kept = {id(row): self._kept.get(row.key) or self._prefix for row in rows}
        n_old = {i: n_shared(k.ids if k else [], row.prompt) for row, (i, k) in zip(rows, kept.items(), strict=True)}
        rows = sorted(rows, key=lambda row: len(row.prompt) - n_old[id(row)])
        ended = []
        while rows:
            n_new = [len(row.prompt) - n_old[id(row)] for row in rows]
            n = max(k for k in range(1, len(rows) + 1) if k == 1 or k * n_new[k - 1] <= _PREFILL_TOKENS)
            part, rows, first = rows[:n], rows[n:], len(self._rows)
            starts = [n_old[id(row)] for row in part]
            self._make_room(first + n, max(len(row.prompt) for row in part))
            for place, row in enumerate(part, start=first):
                self._write(place, kept[id(row)], n_old[id(row)])
            states = self._read([r.prompt[s:] for r, s in zip(part, starts, strict=True)], starts, first=first)
            for place, row in enumerate(part, start=first):
                for twin in twins.get(tuple(row.prompt), ())[1:]:
                    self._kept[twin.key] = self._copied(place, row.prompt, None)
            self._rows += part
            self._say(part, states)
            ended += self._let_go(first)
        return ended

    def _read(self, tokens: Sequence[list[int]], starts: Sequence[int], *, first: int) -> Tensor:
        """Run the model on new tokens of some rows, padded on the right; give the logits behind each row's last.

        What stands at a padded place is written over by the token that comes there, and seen by none before.
        """
        device, n = self.model.device, max(map(len, tokens))
        ids = pad_rows(tokens, 0).to(device)  # (R, n)
        columns = torch.tensor(starts, device=device)[:, None] + torch.arange(n, device=device)
        last = torch.tensor([len(t) - 1 for t in tokens], device=device)
        place = self._place
        place.start, place.stop, place.columns = first, first + len(tokens), columns
        place.n_columns = max(starts) + n
        seen = torch.arange(place.n_columns, device=device) <= columns[:, None, :, None]  # (R, 1, n, K)

        def pick(_module: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return (inputs[0][torch.arange(len(tokens), device=device), last][:, None], *inputs[1:])

        handle = self.model.get_output_embeddings().register_forward_pre_hook(pick)
        try:
            output = self.model(
                input_ids=ids, attention_mask=seen, position_ids=columns, cache=self._cache, use_cache=True
            )
        finally:
            handle.remove()
        return output.logits[:, 0].float()  # type: ignore[no-any-return]

    def _say(self, rows: Sequence[_Row], logits: Tensor) -> None:
        """Give each row its next token."""
        tokens: list[int] = self._pick(rows, logits).tolist()
        for row, token in zip(rows, tokens, strict=True):
            row.said.append(token)

    def _pick(self, rows: Sequence[_Row], scores: Tensor) -> Tensor:
        """The likeliest token of each row, or one drawn by the row's own number: (R, V) -> (R,)."""
        chosen: Tensor | None = None  # (R, k), once only the likeliest k are left
        for warp in self._warpers:
            if type(warp) is logits_process.TopKLogitsWarper:
                scores, chosen = scores.topk(min(warp.top_k, scores.shape[1]))
            else:
                scores = warp(None, scores)
        if self._is_greedy:
            return scores.argmax(-1)
        draws = torch.tensor([row.draws[len(row.said)] for row in rows], dtype=torch.float64, device=scores.device)
        shares = scores.double().softmax(-1).cumsum(-1)
        places = torch.searchsorted(shares, draws[:, None] * shares[:, -1:], right=True)  # (R, 1)
        return (places if chosen is None else chosen.gather(1, places))[:, 0]

    def _let_go(self, first: int) -> list[tuple[int, str]]:
        """Take out the rows from ``first`` on that ended; an empty one is drawn once more, then has the fixed one."""
        ended = []
        for place in reversed(range(first, len(self._rows))):
            row = self._rows[place]
            if row.said[-1] not in row.stop_ids and len(row.said) < self._max_new:
                continue
            self._kept[row.key] = self._copied(place, row.prompt + row.said[:-1], self._kept.get(row.key))
            self._move(len(self._rows) - 1, place)
            self._rows[place] = self._rows[-1]
            self._rows.pop()
            text = tidy(self.agent.tokenizer.decode(row.said, skip_special_tokens=True))
            if text or row.is_second:
                ended.append((row.key, text or self.agent.fall_back(row.context)))
            else:
                self.add(row.key, row.context, seed=(*row.seed, 1))
                self._waiting[-1].is_second = True
        return ended[::-1]

    def _copied(self, place: int, ids: list[int], old: _Kept | None) -> _Kept:
        """Copy a row's keys and values out; where the old ones have room, only the columns that are new."""
        n, start = len(ids), 0
        if old is not None and old.layers[0].shape[2] >= n:
            start = n_common(old.ids, ids)
        layers = []
        for k, layer in enumerate(self._cache.layers):
            room = old.layers[k] if old is not None and start else None
            if room is None:
                shape = (2, layer.keys.shape[1], n + n // 2 + _SPARE_COLUMNS, layer.keys.shape[3])
                room, start = layer.keys.new_empty(shape), 0
            room[0, :, start:n] = layer.keys[place, :, start:n]
            room[1, :, start:n] = layer.values[place, :, start:n]
            layers.append(room)
        return _Kept(ids, layers)

    def _make_room(self, n_rows: int, n_columns: int) -> None:
        """Widen the buffers once for all rows that come; the first call of all makes them itself."""
        for layer in self._cache.layers:
            if layer.is_initialized:
                layer.make_room(layer.keys, n_rows, n_columns)

    def _write(self, place: int, kept: _Kept | None, n: int) -> None:
        """Copy the first n kept columns to a row."""
        if kept is None or not n:
            return
        for layer, room in zip(self._cache.layers, kept.layers, strict=True):
            layer.keys[place, :, :n] = room[0, :, :n]
            layer.values[place, :, :n] = room[1, :, :n]

    def _move(self, source: int, target: int) -> None:
        """Copy one row's columns to another."""
        if source == target:
            return
        n = len(self._rows[source].prompt) + len(self._rows[source].said) - 1
        for layer in self._cache.layers:
            layer.keys[target, :, :n] = layer.keys[source, :, :n]
            layer.values[target, :, :n] = layer.values[source, :, :n]
