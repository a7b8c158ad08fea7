"""Many requests of a local model at once: a row joins and leaves the batch between any two tokens."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import Tensor

from pege.agent.ask import Ask, End
from pege.agent.generate import LocalAgent
from pege.agent.kept import can_keep, left_padded, new_cache
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


class ContinuousBatch:
    """The rows that a local model generates now. Not for several threads.

    Keys and values of all rows lie in one cache, each row padded on the left; a position counts the tokens of a row
    that its mask keeps. A row samples for itself, so settings may differ in a batch.

    Args:
        agent: whose model, prompt and settings.
    """

    def __init__(self, agent: LocalAgent) -> None:
        self.agent, self.model, self.tokenizer = agent, agent.model, agent.tokenizer
        self._rows: list[_Row] = []
        self._cache: Any = None
        self._mask = torch.zeros(0, 0, dtype=torch.long)  # (B, K)
        takes = inspect.signature(self.model.forward).parameters
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}

    @staticmethod
    def fits(agent: object) -> TypeGuard[LocalAgent]:
        """Whether it is a local causal LM whose cache can be cut and joined, with settings that are known here."""
        return (
            isinstance(agent, LocalAgent)
            and agent.tokenizer.is_fast
            and can_keep(new_cache(agent.model))
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
            ids = torch.tensor([row.sampler.new[-1:] for row in self._rows])  # (B, 1)
            mask = torch.cat((self._mask, torch.ones_like(ids)), dim=1)
            logits = self._run(ids, mask, self._cache)
        except Exception:
            rows, self._rows = self._rows, []
            log.warning("a batch of %d failed; each row goes on alone", len(rows))
            for row in rows:
                self._start([row])
            return
        self._mask = mask
        self._sample(self._rows, logits)

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
            tokens, mask = left_padded([row.ids for row in rows], self.tokenizer.pad_token_id)  # (B', S)
            cache = new_cache(self.model)
            logits = self._run(tokens, mask, cache)
            self._sample(rows, logits)
        except Exception as e:
            if len(rows) == 1:
                _fail(rows[0].ask, e)
                return
            for row in rows:
                self._start([row])
            return
        self._join(rows, mask, cache)

    def _run(self, ids: Tensor, mask: Tensor, cache: Any) -> Tensor:
        """Logits of the next token of each row, (B, V), in float32."""
        device, n = self.model.device, ids.shape[1]
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -n:]  # (B, n)
        out = self.model(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            position_ids=positions.to(device),
            cache=cache,
            use_cache=True,
            **self._last_only,
        )
        return out.logits[:, -1].float()  # type: ignore[no-any-return]

    def _join(self, rows: list[_Row], mask: Tensor, cache: Any) -> None:
        if self._rows:
            n = max(mask.shape[1], self._mask.shape[1])
            for ours, theirs in zip(self._cache.layers, cache.layers, strict=True):
                ours.keys = torch.cat((_widened(ours.keys, n), _widened(theirs.keys, n)))
                ours.values = torch.cat((_widened(ours.values, n), _widened(theirs.values, n)))
            pad = torch.nn.functional.pad
            mask = torch.cat([pad(m, (n - m.shape[1], 0)) for m in (self._mask, mask)])
            cache = self._cache
        self._rows, self._mask, self._cache = [*self._rows, *rows], mask, cache

    def _drop(self) -> None:
        """Take out rows that ended or were left off, and columns that no row needs any more."""
        stay = [k for k, row in enumerate(self._rows) if not self._is_over(row)]
        if stay and len(stay) == len(self._rows):
            return
        self._rows = [self._rows[k] for k in stay]
        if not stay:
            self._cache, self._mask = None, torch.zeros(0, 0, dtype=torch.long)
            return
        mask = self._mask[stay]
        first = int(mask.any(dim=0).int().argmax())
        self._mask = mask[:, first:]
        for layer in self._cache.layers:
            index = torch.tensor(stay, device=layer.keys.device)
            layer.keys = layer.keys.index_select(0, index)[:, :, first:]
            layer.values = layer.values.index_select(0, index)[:, :, first:]

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

        generation = own_settings(self.model) | ask.settings.over(self.agent.generation)
        (prompt,), stop_ids = self.agent.prompts([ask.context])
        seed, generator = ask.settings.seed, None
        if seed is not None:
            generator = torch.Generator(self.model.device).manual_seed(seed)
        guides = self.agent.processors([ask.context]).get("logits_processor", [])
        sampler = RowSampler(generation, prompt, frozenset(stop_ids), guides, generator)
        return _Row(ask, sampler, DecodeStream(skip_special_tokens=True))


def _widened(states: Tensor, n: int) -> Tensor:
    """(B, heads, K, D) to n columns, new ones on the left."""
    return torch.nn.functional.pad(states, (0, 0, n - states.shape[2], 0))


def _fail(ask: Ask, error: Exception) -> None:
    log.error("a request failed (%s)", type(error).__name__)
    ask.give(End("error", error=error))
