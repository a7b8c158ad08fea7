"""What MoEL and MIME share (docs/models.md): config, attention with a key depth, filter, encoder, decoder layer.

Both papers' code has it from one source, an early Tensor2Tensor transformer: norm first, no bias in the attention,
two convolutions of three positions as feed-forward. Shapes: B dialogs, S context tokens, T response tokens, H hidden.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import DynamicCache, EncoderDecoderCache, PreTrainedConfig
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutput

_KERNEL = 3
_SLOTS = 3  # of a decoder layer in the cache: its attention, its two convolutions


class ListenerConfig(PreTrainedConfig):  # type: ignore[misc]
    """Shape and token ids of a model of listeners; the values are those of MoEL's published command.

    Attributes:
        vocab_size: V, of the tokenizer; the originals build theirs from the corpus.
        embedding_size: of the word vectors.
        hidden_size: H.
        num_hidden_layers: "hop", of the encoder and of the last decoder stack, each.
        num_attention_heads: heads of a layer.
        key_depth: of queries, keys and values, all heads together; a multiple of the heads.
        filter_size: between the two convolutions of a layer.
        n_emotions: classes.
        label_smoothing: share of the target's probability that goes to all tokens; 0 for none.
        sum_over_tokens: whether the response's loss is a sum over the batch's tokens, as published with smoothing, or
            their mean, as published without.
        query_token_id: the token that stands before the context and whose state is the emotion's query.
        role_token_ids: the tokens whose vectors say who speaks: of the user, of the agent.
    """

    vocab_size: int = 24_000
    embedding_size: int = 300
    hidden_size: int = 300
    num_hidden_layers: int = 1
    num_attention_heads: int = 2
    key_depth: int = 40
    filter_size: int = 50
    n_emotions: int = 32
    label_smoothing: float | int = 0.1
    sum_over_tokens: bool = True
    unk_token_id: int = 0
    pad_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    bos_token_id: int | None = 3
    decoder_start_token_id: int | None = 3
    role_token_ids: list[int] | tuple[int, ...] = (4, 5)
    query_token_id: int = 6
    is_encoder_decoder: bool = True
    tie_word_embeddings: bool = False
    use_cache: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        if self.key_depth % self.num_attention_heads:
            raise ValueError(f"key_depth {self.key_depth} is no multiple of {self.num_attention_heads} heads")
        if self.tie_word_embeddings and self.embedding_size != self.hidden_size:
            raise ValueError(
                f"a tied output wants hidden_size {self.hidden_size} = embedding_size {self.embedding_size}"
            )
        if self.pad_token_id in (None, self.eos_token_id):
            raise ValueError("the pad token should be one of its own: it is never a target")
        super().__post_init__(**kwargs)


@lru_cache(maxsize=8)
def _timing_table(n: int, width: int) -> Tensor:
    n_scales = width // 2
    scales = torch.exp(torch.arange(n_scales, dtype=torch.float64) * -(math.log(1e4) / (n_scales - 1)))
    angles = torch.arange(n, dtype=torch.float64)[:, None] * scales  # (n, width // 2)
    return F.pad(torch.cat((angles.sin(), angles.cos()), dim=1), (0, width % 2)).float()


def timing_signal(positions: Tensor, n: int, width: int) -> Tensor:
    """Give Tensor2Tensor's timing: sines, then cosines, of wave lengths from 2 pi to 2 pi 10^4, then 0 if odd.

    Args:
        positions: whole numbers in [0, n), any shape (...).
        n: bound of the positions.
        width: >= 4.

    Returns:
        (..., width), float32.
    """
    table = _timing_table(-(-n // 256) * 256, width)  # few lengths: a step of generation finds its table
    return table.to(positions.device)[positions]


class ListenerNorm(nn.Module):
    """Layer norm by the sample's standard deviation (n - 1), epsilon added to it and not to the variance."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, states: Tensor) -> Tensor:
        """(..., H) to (..., H)."""
        centred = states - states.mean(dim=-1, keepdim=True)
        return self.weight * centred / (states.std(dim=-1, keepdim=True) + 1e-6) + self.bias


class KeyDepthAttention(nn.Module):
    """Multi-head attention whose queries, keys and values are narrower than H; no bias."""

    def __init__(self, config: ListenerConfig) -> None:
        super().__init__()
        self.n_heads = config.num_attention_heads
        h, depth = config.hidden_size, config.key_depth
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(h, depth, bias=False) for _ in range(3))
        self.out_proj = nn.Linear(depth, h, bias=False)

    def keys_and_values(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """(B, K, H) to two of (B, heads, K, depth / heads)."""
        return self._split(self.k_proj(states)), self._split(self.v_proj(states))

    def forward(self, states: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """Attend from (B, T, H) to keys and values; the mask (.., T, K) is True where a key may be seen."""
        found = F.scaled_dot_product_attention(self._split(self.q_proj(states)), key, value, attn_mask=mask)
        out: Tensor = self.out_proj(found.transpose(1, 2).flatten(2))
        return out

    def _split(self, states: Tensor) -> Tensor:
        b, n, depth = states.shape
        return states.view(b, n, self.n_heads, depth // self.n_heads).transpose(1, 2)


class Filter(nn.Module):
    """Two convolutions of three positions, each with a ReLU: also the last, as in the originals.

    In the encoder a position sees one neighbour on each side, in the decoder the two before it.
    """

    def __init__(self, config: ListenerConfig) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(config.hidden_size, config.filter_size, _KERNEL)
        self.conv2 = nn.Conv1d(config.filter_size, config.hidden_size, _KERNEL)

    def both_ways(self, states: Tensor, is_token: Tensor) -> Tensor:
        """(B, S, H) to (B, S, H); padding (B, S) False is as empty as what lies outside the context."""
        side = _KERNEL // 2
        for conv in (self.conv1, self.conv2):
            known = (states * is_token[..., None]).transpose(1, 2)
            states = F.conv1d(known, conv.weight, conv.bias, padding=side).relu().transpose(1, 2)
        return states

    def leftwards(self, states: Tensor, cache: EncoderDecoderCache | None, slot: int) -> Tensor:
        """(B, T, H) to (B, T, H), with what the cache remembers of earlier positions."""
        n = states.shape[1]
        for k, conv in enumerate((self.conv1, self.conv2)):
            known = _remember(states, cache, slot + k)[:, -(n + _KERNEL - 1) :].transpose(1, 2)
            known = F.pad(known, (n + _KERNEL - 1 - known.shape[2], 0))
            states = conv(known).relu().transpose(1, 2)
        return states


def _remember(states: Tensor, cache: EncoderDecoderCache | None, slot: int) -> Tensor:
    """Give these states with all earlier ones: (B, T, H) to (B, past + T, H). They lie as keys beside empty values."""
    if cache is None:
        return states
    known: Tensor = cache.self_attention_cache.update(states[:, None], states[:, None, :, :0], slot)[0]
    return known[:, 0]


class ContextLayer(nn.Module):
    """A layer of the encoder: self-attention and filter, norm first."""

    def __init__(self, config: ListenerConfig) -> None:
        super().__init__()
        self.attention, self.filter = KeyDepthAttention(config), Filter(config)
        self.attention_norm, self.filter_norm = (ListenerNorm(config.hidden_size) for _ in range(2))

    def forward(self, states: Tensor, is_token: Tensor) -> Tensor:
        """(B, S, H) to (B, S, H); ``is_token`` (B, S) is False for padding."""
        normed = self.attention_norm(states)
        keys, values = self.attention.keys_and_values(normed)
        states = states + self.attention(normed, keys, values, is_token[:, None, None])
        fed: Tensor = states + self.filter.both_ways(self.filter_norm(states), is_token)
        return fed


class ResponseLayer(nn.Module):
    """A layer of a decoder: self-attention, attention to the context, filter, norm first.

    Args:
        config: shape.
        number: its place in the cache, of its own among all of a model's.
    """

    def __init__(self, config: ListenerConfig, number: int) -> None:
        super().__init__()
        self.number = number
        self.attention, self.cross_attention = KeyDepthAttention(config), KeyDepthAttention(config)
        self.filter = Filter(config)
        self.attention_norm, self.cross_norm, self.filter_norm = (ListenerNorm(config.hidden_size) for _ in range(3))

    def forward(
        self, states: Tensor, context: Tensor, is_token: Tensor, cache: EncoderDecoderCache | None = None
    ) -> Tensor:
        """Give (B, T, H) of (B, T, H) and the context (B, S, H), whose padding is where (B, S) is False."""
        slot = _SLOTS * self.number
        normed = self.attention_norm(states)
        keys, values = self.attention.keys_and_values(normed)
        if cache is not None:
            keys, values = cache.self_attention_cache.update(keys, values, slot)
        n, n_known = states.shape[1], keys.shape[2]
        mask = torch.ones(n, n_known, dtype=torch.bool, device=states.device).tril(n_known - n)
        states = states + self.attention(normed, keys, values, mask)
        keys, values = self._of_context(context, cache)
        states = states + self.cross_attention(self.cross_norm(states), keys, values, is_token[:, None, None])
        fed: Tensor = states + self.filter.leftwards(self.filter_norm(states), cache, slot + 1)
        return fed

    def _of_context(self, context: Tensor, cache: EncoderDecoderCache | None) -> tuple[Tensor, Tensor]:
        if cache is not None and cache.is_updated.get(self.number):
            layer = cache.cross_attention_cache.layers[self.number]
            return layer.keys, layer.values
        keys, values = self.cross_attention.keys_and_values(context)
        if cache is not None:
            keys, values = cache.cross_attention_cache.update(keys, values, self.number)
            cache.is_updated[self.number] = True
        return keys, values


def new_cache() -> EncoderDecoderCache:
    """Give an empty cache; it grows a slot at a time, so it needs no count of layers."""
    return EncoderDecoderCache(DynamicCache(), DynamicCache())


class ContextEncoder(nn.Module):
    """Reads the context, a query token before it. It owns the word vectors, which the decoder uses too."""

    main_input_name = "input_ids"

    def __init__(self, config: ListenerConfig) -> None:
        super().__init__()
        self.config = config
        self.words = nn.Embedding(config.vocab_size, config.embedding_size, padding_idx=config.pad_token_id)
        self.projection = nn.Linear(config.embedding_size, config.hidden_size, bias=False)
        self.layers = nn.ModuleList([ContextLayer(config) for _ in range(config.num_hidden_layers)])
        self.norm = ListenerNorm(config.hidden_size)

    def embed(self, ids: Tensor) -> Tensor:
        """Give the scaled word vectors, (...) to (..., embedding)."""
        found: Tensor = self.words(ids) * math.sqrt(self.config.embedding_size)
        return found

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        role_ids: Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutput:
        """Encode.

        Args:
            input_ids: (B, S), without the query token.
            attention_mask: (B, S), 1 for a token, 0 for padding on either side; all tokens unless given.
            role_ids: (B, S), 0 where the user speaks, 1 where the agent; the user unless given.
            **kwargs: what other models know, left alone.

        Returns:
            ``last_hidden_state`` (B, S + 1, H): the query's state, the tokens', what is padding last.
        """
        query = input_ids.new_full((len(input_ids), 1), self.config.query_token_id)
        roles = torch.zeros_like(input_ids) if role_ids is None else role_ids
        roles = input_ids.new_tensor(self.config.role_token_ids)[roles]
        attention_mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        order = (
            attention_mask.bool().logical_not().byte().argsort(dim=1, stable=True)
        )  # the query's neighbour is a token
        input_ids, roles = input_ids.gather(1, order), roles.gather(1, order)
        is_token = self.is_token(attention_mask)
        vectors = self.embed(torch.cat((query, input_ids), dim=1)) + self.embed(torch.cat((query, roles), dim=1))
        states = self.projection(vectors)
        n = states.shape[1]
        positions = torch.arange(n, device=states.device)
        states = states + timing_signal(positions, n, self.config.hidden_size).to(states.dtype)
        for layer in self.layers:
            states = layer(states, is_token)
        return BaseModelOutput(last_hidden_state=self.norm(states))

    @staticmethod
    def is_token(attention_mask: Tensor) -> Tensor:
        """Give which encoded positions are no padding, (B, S + 1), of the mask of the context, (B, S)."""
        positions = torch.arange(attention_mask.shape[1] + 1, device=attention_mask.device)
        return positions <= attention_mask.bool().sum(dim=1, keepdim=True)


def initialise_listener_weights(module: nn.Module) -> None:
    """First weights: Xavier's uniform matrices, biases as PyTorch has them, word vectors normal(0, 0.01)."""
    if isinstance(module, nn.Linear | nn.Conv1d):
        init.xavier_uniform_(module.weight)
        if module.bias is not None:
            bound = 1 / math.sqrt(module.weight[0].numel())
            init.uniform_(module.bias, -bound, bound)
    elif isinstance(module, nn.Embedding):
        init.normal_(module.weight, mean=0.0, std=0.01)
        if module.padding_idx is not None and not getattr(module.weight, "_is_hf_initialized", False):
            init.zeros_(module.weight[module.padding_idx])
    elif isinstance(module, ListenerNorm):
        init.ones_(module.weight)
        init.zeros_(module.bias)
