"""Rows of different lengths as one tensor, and the label of what is not learned."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

IGNORED = -100  # a label that no loss counts, as everywhere in transformers


def pad_rows(rows: Sequence[list[int]], value: int, *, left: bool = False) -> Tensor:
    """Fill rows up to the longest, (B, S) int64; on the right, or on the left as generation wants it."""
    n = max(map(len, rows))
    fills = ([value] * (n - len(r)) for r in rows)
    return torch.tensor([f + r if left else r + f for f, r in zip(fills, rows, strict=True)], dtype=torch.long)
