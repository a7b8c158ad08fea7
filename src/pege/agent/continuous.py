"""Many requests of a local model at once: a row joins and leaves the batch between any two tokens."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import Tensor

from pege.agent.ask import Ask, End
from pege.agent.generate import LocalAgent
from pege.agent.rows import RowsCache
from pege.agent.sampling import RowSampler, is_known, own_settings, sample

log = logging.getLogger(__name__)


@dataclass
class _Row:
    ask: Ask
    sampler: RowSampler
    text: Any  # tokenizers.decoders.DecodeStream: the bytes of a character are held until it is whole

    @property
    def ids(self) -> list[int]:
        return self.sampler.prompt + self.sampler.new

    @property
    def n_read(self) -> int:
        return len(self.sampler.prompt) + len(self.sampler.new) - 1  # the last token has no key yet


class ContinuousBatch:
    """The rows that a local model generates now. Not for several threads.

    Keys and values of all rows lie in one cache. A row samples for itself, so settings may differ in a batch.

    Args:
        agent: whose model, prompt and settings.
    """

    def __init__(self, agent: LocalAgent) -> None:
        self.agent, self.model, self.tokenizer = agent, agent.model, agent.tokenizer
        self._rows: list[_Row] = []
        self._cache = RowsCache(self.model)

    @staticmethod
    def fits(agent: object) -> TypeGuard[LocalAgent]:
        """Whether it is a local causal LM whose rows can lie in one cache, with settings that are known here."""
        return (
            isinstance(agent, LocalAgent)
            and agent.tokenizer.is_fast
            and RowsCache.fits(agent.model)
            and is_known(own_settings(agent.model) | agent.generation)
        )

    @property
    def n_rows(self) -> int:
        """Rows that are generated now."""
        return len(self._rows)

    def admit(self, asks: Sequence[Ask]) -> None:
        """Read the prompts of new rows and give each its first token."""
        rows = []
        for ask in asks:
            try:
                rows.append(self._row(ask))
            except Exception as e:
                _fail(ask, e)
        self._start(rows)

    @torch.inference_mode()
    def step(self) -> None:
        """Give each row one more token; rows that ended, or that nobody waits for, leave first."""
        self._drop()
        if not self._rows:
            return
        try:
            tokens = [row.sampler.new[-1:] for row in self._rows]
            logits = self._cache.read(tokens, [row.n_read for row in self._rows], first=0)
            self._sample(self._rows, logits)
        except Exception as e:
            rows, self._rows = self._rows, []
            log.warning("a batch of %d failed (%s); each row goes on alone", len(rows), type(e).__name__)
            for row in rows:
                self._start([row])

    def abandon(self, error: Exception) -> None:
        """End all rows with an error."""
        rows, self._rows = self._rows, []
        self._drop()
        for row in rows:
            _fail(row.ask, error)

    @torch.inference_mode()
    def _start(self, rows: list[_Row]) -> None:
        """Read rows in, all they have so far; where that fails together, each alone."""
        if not rows:
            return
        try:
            logits = self._cache.read([row.ids for row in rows], [0] * len(rows), first=len(self._rows))
            self._sample(rows, logits)
        except Exception as e:
            if len(rows) == 1:
                _fail(rows[0].ask, e)
                return
            for row in rows:
                self._start([row])
            return
        self._rows += rows

    def _drop(self) -> None:
        """Take out rows that ended or were left off; the last row moves to the place of one."""
        for place in reversed(range(len(self._rows))):
            if self._is_over(self._rows[place]):
                last = self._rows.pop()
                if place < len(self._rows):
                    self._cache.move(len(self._rows), place, last.n_read)
                    self._rows[place] = last
        if not self._rows:
            self._cache = RowsCache(self.model)  # memory of the widest batch is given back

    def _is_over(self, row: _Row) -> bool:
        if row.ask.is_left_off():
            return True
        new = row.sampler.new
        is_stopped = new[-1] in row.sampler.stop_ids
        if not is_stopped and len(new) < row.sampler.generation["max_new_tokens"]:
            return False
        row.ask.give(End("stop" if is_stopped else "length", len(row.sampler.prompt), len(new)))
        return True

    def _sample(self, rows: Sequence[_Row], logits: Tensor) -> None:
        """Draw a token a row of logits, (B, V), and hand its text on."""
        for row, token in zip(rows, sample([r.sampler for r in rows], logits), strict=True):
            if token not in row.sampler.stop_ids and (text := row.text.step(self.tokenizer.backend_tokenizer, token)):
                row.ask.give(text)

    def _row(self, ask: Ask) -> _Row:
        from tokenizers.decoders import DecodeStream

        agent = self.agent.with_settings(ask.settings)
        (prompt,), stop_ids = agent.prompts([ask.context])
        generation = own_settings(self.model) | agent.generation | {"max_new_tokens": agent.n_new(len(prompt))}
        seed, generator = ask.settings.seed, None
        if seed is not None:
            generator = torch.Generator().manual_seed(seed)
        guides = self.agent.processors([ask.context]).get("logits_processor", [])
        sampler = RowSampler(generation, prompt, frozenset(stop_ids), guides, generator)
        return _Row(ask, sampler, DecodeStream(skip_special_tokens=True))


def _fail(ask: Ask, error: Exception) -> None:
    log.error("a request failed (%s)", type(error).__name__)
    ask.give(End("error", error=error))
