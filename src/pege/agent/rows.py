"""Rows of different lengths in one cache: what `flight` and `continuous` generate from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

from pege.models.attention import OWN, TAKES_MASKS, use_own_attention, windows_of
from pege.models.padding import pad_rows

_SPARE_COLUMNS = 64  # room made at once


class RowsLayer(DynamicLayer):  # type: ignore[misc]
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


class RowsCache:
    """Keys and values of rows, each from column 0 on; what is in a row past its end is written over and seen by none.

    Args:
        model: of which `fits` holds.
    """

    def __init__(self, model: Any) -> None:
        self.model, self._place = model, _Place()
        if model.config._attn_implementation != OWN:
            use_own_attention(model)
        self._cache = DynamicCache(config=model.config)
        self._cache.layers = [RowsLayer(self._place) for _ in self._cache.layers]
        self._windows = set(windows_of(model) or ())

    @staticmethod
    def fits(model: Any) -> bool:
        """Whether each layer of a model takes a mask as it is given, for all before a token or for one window."""
        windows = set(windows_of(model) or ())
        return bool(windows) and len(windows - {None}) <= 1 and model.config._attn_implementation in TAKES_MASKS

    @property
    def layers(self) -> list[RowsLayer]:
        """The layers' buffers."""
        return self._cache.layers  # type: ignore[no-any-return]

    def read(self, tokens: Sequence[list[int]], starts: Sequence[int], *, first: int) -> Tensor:
        """Run the model on new tokens of some rows, padded on the right.

        Args:
            tokens: of each of R rows, at least one.
            starts: column of each row's first one.
            first: place of the first row; the others follow it.

        Returns:
            The logits behind each row's last token, (R, V), in float32.
        """
        device, n = self.model.device, max(map(len, tokens))
        ids = pad_rows(tokens, 0).to(device)  # (R, n)
        columns = torch.tensor(starts, device=device)[:, None] + torch.arange(n, device=device)
        last = torch.tensor([len(t) - 1 for t in tokens], device=device)
        place = self._place
        place.start, place.stop, place.columns = first, first + len(tokens), columns
        place.n_columns = max(starts) + n
        before = columns[:, None, :, None] - torch.arange(place.n_columns, device=device)  # (R, 1, n, K)

        def pick(_module: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return (inputs[0][torch.arange(len(tokens), device=device), last][:, None], *inputs[1:])

        handle = self.model.get_output_embeddings().register_forward_pre_hook(pick)
        try:
            output = self.model(
                input_ids=ids,
                attention_mask=self._mask(before),
                position_ids=columns,
                cache=self._cache,
                use_cache=True,
            )
        finally:
            handle.remove()
        return output.logits[:, 0].float()  # type: ignore[no-any-return]

    def _mask(self, before: Tensor) -> Tensor | dict[str, Tensor]:
        """What tokens see of the columns, of which each stands so many before: of each kind of layer."""
        seen = before >= 0
        near = [seen & (before < size) for size in self._windows if size is not None]
        if None not in self._windows:
            return near[0]
        return {"full_attention": seen, "sliding_attention": near[0]} if near else seen

    def make_room(self, n_rows: int, n_columns: int) -> None:
        """Widen the buffers once for all rows that come; the first call of all makes them itself."""
        for layer in self.layers:
            if layer.is_initialized:
                layer.make_room(layer.keys, n_rows, n_columns)

    def move(self, source: int, target: int, n_columns: int) -> None:
        """Copy a row's first columns to another."""
        if source == target:
            return
        for layer in self.layers:
            layer.keys[target, :, :n_columns] = layer.keys[source, :, :n_columns]
            layer.values[target, :, :n_columns] = layer.values[source, :, :n_columns]
