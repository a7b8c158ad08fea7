"""Keys and values kept across turns, so that a turn reads only what is new of each dialog."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

from pege.models.padding import pad_rows

_SPARE_COLUMNS = 64  # room made at once


class GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of a layer in a buffer with room to spare: a new token is written, nothing is copied.

    The library's own layer concatenates, which copies all keys and values at every token.
    """

    keys: Tensor
    values: Tensor

    def __init__(self) -> None:
        super().__init__()
        self._room: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write new columns, (B, heads, n, D); give all of them."""
        n_old, n_new = self.get_seq_length(), key_states.shape[2]
        n_all = n_old + n_new
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        if self._room is None or not self._holds(n_all):
            self._room = (_with_room(key_states, self.keys, n_old), _with_room(value_states, self.values, n_old))
        for room, states in zip(self._room, (key_states, value_states), strict=True):
            room[:, :, n_old:n_all] = states
        self.keys, self.values = (room[:, :, :n_all] for room in self._room)
        return self.keys, self.values

    def _holds(self, n_columns: int) -> bool:
        """Whether the buffer has room, and still is what ``keys`` looks into: others may have replaced them."""
        return (
            self._room is not None
            and n_columns <= self._room[0].shape[2]
            and self.keys.data_ptr() == self._room[0].data_ptr()
            and self.keys.shape[0] == self._room[0].shape[0]
        )


def _with_room(like: Tensor, old: Tensor, n_old: int) -> Tensor:
    """A buffer for the old columns, the new ones and half as many again."""
    n = n_old + like.shape[2]
    room = like.new_empty((like.shape[0], like.shape[1], n + n // 2 + _SPARE_COLUMNS, like.shape[3]))
    if n_old:
        room[:, :, :n_old] = old
    return room


def new_cache(model: Any) -> Any:
    """Give an empty cache for a model, its plain layers as `GrowingLayer`."""
    cache = DynamicCache(config=model.config)
    cache.layers = [GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


@dataclass
class Kept:
    """What an earlier call left of a batch of B dialogs.

    Attributes:
        cache: a ``transformers.DynamicCache`` of K columns.
        ids: per dialog, the tokens whose keys the cache holds, in their order.
        columns: per dialog, the column of each of them.
    """

    cache: Any
    ids: list[list[int]]
    columns: list[list[int]]


def can_keep(cache: Any) -> bool:
    """Whether a cache's columns may be moved: every layer holds all of them as plain keys and values."""
    layers = getattr(cache, "layers", None) or []
    return bool(layers) and all(type(layer) in (DynamicLayer, GrowingLayer) for layer in layers)


def join(kept: Kept | None, prompts: list[list[int]], *, pad_id: int) -> tuple[Tensor, Tensor, Any]:
    """Give what ``generate`` takes: input ids (B, K + N), their mask, and a cache of the first K columns, or None.

    The cache keeps, of each dialog, the tokens that its prompt starts with; what it held beyond them is left out. A
    position is counted over the tokens that a mask does not leave out, so a kept key stands where it stood.
    """
    if kept is None or len(kept.ids) != len(prompts):
        return *left_padded(prompts, pad_id), None
    shared = [n_shared(old, new) for old, new in zip(kept.ids, prompts, strict=True)]
    n_kept = max(shared)
    if 2 * sum(shared) < sum(map(len, prompts)):
        return *left_padded(prompts, pad_id), None
    columns = torch.tensor([[0] * (n_kept - n) + row[:n] for n, row in zip(shared, kept.columns, strict=True)])
    for layer in kept.cache.layers:
        index = columns.to(layer.keys.device)[:, None, :, None]
        layer.keys = _gather(layer.keys, index)
        layer.values = _gather(layer.values, index)
    old_ids, old_mask = left_padded([p[:n] for n, p in zip(shared, prompts, strict=True)], pad_id)
    new_ids, new_mask = left_padded([p[n:] for n, p in zip(shared, prompts, strict=True)], pad_id)
    return torch.cat((old_ids, new_ids), dim=1), torch.cat((old_mask, new_mask), dim=1), kept.cache


def keep(cache: Any, sequences: Tensor, mask: Tensor, stop_ids: list[int]) -> Kept | None:
    """Note what a call of ``generate`` left: sequences (B, P + n), mask (B, P) of its prompt columns.

    The last token of a sequence has no key yet, and what follows a stop token is padding.
    """
    if not can_keep(cache):
        return None
    n_prompt, n_cached = mask.shape[1], int(cache.get_seq_length())
    ids, columns = [], []
    for row, row_mask in zip(sequences.tolist(), mask.tolist(), strict=True):
        stop = next((k + 1 for k in range(n_prompt, len(row)) if row[k] in stop_ids), len(row))
        chosen = [k for k in range(min(stop, n_cached)) if k >= n_prompt or row_mask[k]]
        ids.append([row[k] for k in chosen])
        columns.append(chosen)
    return Kept(cache, ids, columns)


def n_shared(old: list[int], new: list[int]) -> int:
    """Tokens that both start with; the last of ``new`` is always read again, so that there is something to read."""
    return n_common(old, new[:-1])


def n_common(a: list[int], b: list[int]) -> int:
    """Tokens that two rows start with."""
    return next((k for k, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _gather(states: Tensor, index: Tensor) -> Tensor:
    """(B, heads, K, D) and (B, 1, k, 1) to (B, heads, k, D)."""
    return states.gather(2, index.expand(-1, states.shape[1], -1, states.shape[3]))


def left_padded(rows: list[list[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Give rows of token ids padded on the left, and their mask, (B, longest)."""
    return pad_rows(rows, pad_id, left=True), pad_rows([[1] * len(r) for r in rows], 0, left=True)
