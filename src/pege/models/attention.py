"""Our attention: of dialogs in a single row, one behind the other or as a tree, and of query heads that share keys."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from pege.models.head import run_to_head, unwrap

OWN = "pege"  # as transformers knows `attention`
TAKES_MASKS = ("sdpa", OWN)  # scaled dot-product attention: a mask is taken as it is given
_KNOWN_LAYERS = {DynamicLayer, DynamicSlidingWindowLayer}
_told: ContextVar[list[int | None] | None] = ContextVar("windows told", default=None)
_MOST_NODES = 2048  # of a tree, unless one row alone is longer: its mask is N x N


def windows_of(model: Any) -> list[int | None] | None:
    """Give how many tokens each layer sees, itself included, None for one that sees all before.

    None instead where a layer is of another kind, or its attention cannot be exchanged through transformers.
    """
    if not getattr(model, "_supports_attention_backend", False):
        return None
    kinds = getattr(model.config.get_text_config(), "layer_types", None) or ()
    layers = DynamicCache(config=model.config).layers
    if not set(kinds) <= {"full_attention", "sliding_attention"} or not {type(x) for x in layers} <= _KNOWN_LAYERS:
        return None
    return [getattr(layer, "sliding_window", None) for layer in layers]


def use_own_attention(model: Any) -> None:
    """Let the scaled dot-product attention of a model be `attention`."""
    AttentionInterface.register(OWN, attention)
    AttentionMaskInterface.register(OWN, sdpa_mask)
    model.set_attn_implementation(OWN)


def use_packed_attention(model: Any) -> bool:
    """Let a causal LM take packed rows (`run_packed`), and give whether it can.

    With flash attention it can already, by the kernel for rows of different lengths; scaled dot-product attention is
    called once a dialog. Two short rows are run to see that each layer tells its attention where they start and how
    wide its window is: what only a mask would tell is lost.
    """
    kind, windows = model.config._attn_implementation, windows_of(model)
    if windows is None or not (kind in TAKES_MASKS or kind.startswith("flash_attention")):
        return False
    use_own_attention(model)
    can = _windows_told(model) == windows
    if not can or kind != "sdpa":
        model.set_attn_implementation(kind)
    return can


def _windows_told(model: Any) -> list[int | None]:
    """Give the windows that the layers tell their attention in a packed batch, of those that tell where rows start."""
    ids = torch.zeros((2, 2), dtype=torch.long, device=model.device)
    told: list[int | None] = []
    token = _told.set(told)
    try:
        with torch.no_grad():
            run_packed(model, input_ids=ids, attention_mask=torch.ones_like(ids))
    finally:
        _told.reset(token)
    return told


def attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    cu_seq_lens_q: Sequence[int] | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Scaled dot-product attention; of packed dialogs each by itself, so that no (S, S) mask over all is needed.

    A mask is made only for a dialog that is longer than the window of a layer that has one.

    Args:
        module: of the attention.
        query: (B, heads, S, D); B is 1 for packed dialogs.
        key: (B, key heads, columns, D).
        value: (B, key heads, columns, D).
        attention_mask: for rows that are not packed; not read for those that are.
        cu_seq_lens_q: where each of n dialogs starts, and S: n + 1 numbers; None for rows that are not packed.
        sliding_window: tokens that a token sees, itself included; None: all before it.
        **kwargs: of transformers.

    Returns:
        (B, S, heads, D), and None for the weights.
    """
    if cu_seq_lens_q is None:
        if attention_mask is not None and _can_share(query, kwargs):
            more = {"dropout_p": kwargs.get("dropout", 0.0), "scale": kwargs.get("scaling"), "enable_gqa": True}
            shared = scaled_dot_product_attention(query, key, value, attention_mask, **more)
            return shared.transpose(1, 2).contiguous(), None
        found: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
        return found
    if (told := _told.get()) is not None:
        told.append(sliding_window)
    lengths = [end - start for start, end in itertools.pairwise(cu_seq_lens_q)]
    parts = zip(*(torch.split(states, lengths, dim=2) for states in (query, key, value)), strict=True)
    outputs = [
        sdpa_attention_forward(module, *part, _window(n, sliding_window, query.device), **kwargs)[0]
        for n, part in zip(lengths, parts, strict=True)
    ]
    return torch.cat(outputs, dim=1), None


def _can_share(query: Tensor, kwargs: dict[str, Any]) -> bool:
    """Whether masked query heads are to read the key heads that they share; transformers repeats the keys for each.

    Torch has such a kernel for CPUs; on other devices it would fall back to separate products. Of a single token,
    transformers repeats nothing.
    """
    others = (kwargs.get("position_bias"), kwargs.get("softcap"))
    return query.device.type == "cpu" and query.shape[2] > 1 and not query.requires_grad and others == (None, None)


def _window(n: int, size: int | None, device: torch.device) -> Tensor | None:
    """What each of n tokens sees through a window, (1, 1, n, n); None where it sees all before it."""
    if size is None or n <= size:
        return None
    before = torch.arange(n, device=device)[:, None] - torch.arange(n, device=device)
    return ((before >= 0) & (before < size))[None, None]


def run_packed(
    model: Any, *, input_ids: Tensor, attention_mask: Tensor, at_head: Callable[[Tensor], Any] | None = None
) -> Any:
    """Give what `pege.models.head.run_to_head` gives, (B, S, H), computed without the padding, which gets zeros.

    Args:
        model: of which `use_packed_attention` said that it can.
        input_ids: (B, S).
        attention_mask: (B, S), 0 at padding.
        at_head: as there, called with the (B, S, H).
    """
    is_token = attention_mask.bool()
    lengths = is_token.sum(1, dtype=torch.int32)  # (B,)
    more: dict[str, Any] = {}
    starts: Any = torch.nn.functional.pad(lengths.cumsum(0, dtype=torch.int32), (1, 0))  # (B + 1,)
    if unwrap(model).config._attn_implementation == OWN:
        starts = starts.tolist()  # once, for a GPU is waited for
        more["attention_mask"] = is_token.new_ones((1, 1, 1, 1))  # not read; else the model makes one of all by all
    positions = is_token.long().cumsum(1) - 1
    longest = input_ids.shape[1]

    def padded(packed: Tensor) -> Any:
        hidden = packed.new_zeros((*input_ids.shape, packed.shape[-1]))
        hidden = hidden.masked_scatter(is_token[..., None], packed)
        return hidden if at_head is None else at_head(hidden)

    found, _ = run_to_head(
        model, at_head=padded, input_ids=input_ids[is_token][None], position_ids=positions[is_token][None],
        cu_seq_lens_q=starts, cu_seq_lens_k=starts, max_length_q=longest, max_length_k=longest, **more,
    )  # fmt: skip
    return found


def takes_trees(model: Any) -> bool:
    """Whether a causal LM can run rows as a tree (`run_tree`): only scaled dot-product attention reads its mask."""
    return set(windows_of(model) or ()) == {None} and model.config._attn_implementation in TAKES_MASKS


def run_tree(model: Any, rows: Sequence[Sequence[int]]) -> list[Tensor]:
    """Run rows that begin alike, each token that several share once.

    The rows are laid out as a tree, in which a token sees itself and what stands before it in its rows.

    Args:
        model: a causal LM that `takes_trees`.
        rows: the tokens of each, as many as you like.

    Returns:
        What the output matrix is multiplied with, (S_i, H) of each row.
    """
    found: list[Tensor] = []
    tree = _Tree()
    for tokens in rows:
        if tree.paths and len(tree.nodes) + len(tokens) > _MOST_NODES:
            found += tree.run(model)
            tree = _Tree()
        tree.add(tokens)
    return found + tree.run(model) if tree.paths else found


class _Tree:
    """Rows of tokens as a tree: its nodes, from (the node before, token), and the nodes of each row."""

    def __init__(self) -> None:
        self.nodes: dict[tuple[int, int], int] = {}
        self.paths: list[list[int]] = []

    def add(self, tokens: Sequence[int]) -> None:
        path: list[int] = []
        for token in tokens:
            path.append(self.nodes.setdefault((path[-1] if path else -1, token), len(self.nodes)))
        self.paths.append(path)

    def run(self, model: Any) -> list[Tensor]:
        n, device = len(self.nodes), model.device
        sees, positions = np.eye(n, dtype=bool), np.zeros(n, dtype=np.int64)
        for (before, _), node in self.nodes.items():  # what stands before a node has a smaller number
            if before >= 0:
                sees[node] |= sees[before]
                positions[node] = positions[before] + 1
        hidden, _ = run_to_head(
            model,
            input_ids=torch.tensor([[token for _, token in self.nodes]], device=device),
            position_ids=torch.as_tensor(positions, device=device)[None],
            attention_mask=torch.as_tensor(sees, device=device)[None, None],
        )
        return [hidden[0, path] for path in self.paths]
