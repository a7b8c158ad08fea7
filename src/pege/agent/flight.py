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
from transformers.generation import logits_process

from pege.agent.kept import n_common, n_shared
from pege.agent.rows import RowsCache
from pege.agent.sampling import pick
from pege.dialog import Context
from pege.models.generation import tidy

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

    They can where the model's rows can lie in one cache (`RowsCache.fits`), and where the settings of generation look
    at nothing but a row's own scores: no beams, no penalties for repetition, no guide.
    """
    if agent.guide is not None or not RowsCache.fits(agent.model):
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
        self._cache = RowsCache(self.model)
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
        draws = [] if self._is_greedy else np.random.default_rng(seed).random(self.agent.n_new(len(prompt))).tolist()
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
                self._say(self._rows, self._cache.read(tokens, starts, first=0))
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
            self._cache.read([prefix], [0], first=len(self._rows))
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
            self._cache.make_room(first + n, max(len(row.prompt) for row in part))
            for place, row in enumerate(part, start=first):
                self._write(place, kept[id(row)], n_old[id(row)])
            states = self._cache.read([r.prompt[s:] for r, s in zip(part, starts, strict=True)], starts, first=first)
            for place, row in enumerate(part, start=first):
                for twin in twins.get(tuple(row.prompt), ())[1:]:
                    self._kept[twin.key] = self._copied(place, row.prompt, None)
            self._rows += part
            self._say(part, states)
            ended += self._let_go(first)
        return ended

    def _say(self, rows: Sequence[_Row], logits: Tensor) -> None:
        """Give each row its next token."""
        draws = None if self._is_greedy else [row.draws[len(row.said)] for row in rows]
        for row, token in zip(rows, pick(logits, self._warpers, draws), strict=True):
            row.said.append(token)

    def _let_go(self, first: int) -> list[tuple[int, str]]:
        """Take out the rows from ``first`` on that ended; an empty one is drawn once more, then has the fixed one."""
        ended = []
        for place in reversed(range(first, len(self._rows))):
            row = self._rows[place]
            if row.said[-1] not in row.stop_ids and len(row.said) < self.agent.n_new(len(row.prompt)):
                continue
            self._kept[row.key] = self._copied(place, row.prompt + row.said[:-1], self._kept.get(row.key))
            last = self._rows[-1]
            self._cache.move(len(self._rows) - 1, place, len(last.prompt) + len(last.said) - 1)
            self._rows[place] = last
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

    def _write(self, place: int, kept: _Kept | None, n: int) -> None:
        """Copy the first n kept columns to a row."""
        if kept is None or not n:
            return
        for layer, room in zip(self._cache.layers, kept.layers, strict=True):
            layer.keys[place, :, :n] = room[0, :, :n]
            layer.values[place, :, :n] = room[1, :, :n]
