"""PLATO-2's network (docs/models.md): embeddings, a stack of layers, a head tied to the word embeddings."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, GenerationMixin, PreTrainedModel
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from pege.models.plato2.config import Plato2Config


class Plato2Embeddings(nn.Module):
    """Word + position + type, and + role and emotion where the model has them."""

    def __init__(self, config: Plato2Config) -> None:
        super().__init__()
        h = config.hidden_size
        self.word_embeddings = nn.Embedding(config.vocab_size, h)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, h)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, h)
        self.role_embeddings = nn.Embedding(config.role_type_size, h) if config.role_type_size else None
        self.emotion_embeddings = nn.Embedding(2, h) if config.emotion_embedding else None
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor,
        position_ids: Tensor,
        role_ids: Tensor | None,
        emotion: Tensor | None = None,
    ) -> Tensor:
        """Add up, (B, S) each, to (B, S, H); emotion (B, 2) goes to the context's tokens."""
        found: Tensor = self.word_embeddings(input_ids)
        found = found + self.position_embeddings(position_ids) + self.token_type_embeddings(token_type_ids)
        if role_ids is not None:
            if self.role_embeddings is None:
                raise ValueError("role_ids given to a model without roles (role_type_size is None)")
            found = found + self.role_embeddings(role_ids)
        if emotion is not None:
            if self.emotion_embeddings is None:
                raise ValueError("emotion given to a model without it (emotion_embedding is False)")
            mixed = emotion.to(found.dtype) @ self.emotion_embeddings.weight  # (B, 2) @ (2, H) -> (B, H)
            found = found + mixed[:, None] * (token_type_ids == 0)[..., None]
        dropped: Tensor = self.dropout(found)
        return dropped


class Plato2Attention(nn.Module):
    """Multi-head self-attention with a mask of what may be seen, by SDPA."""

    def __init__(self, config: Plato2Config, layer: int) -> None:
        super().__init__()
        self.layer, self.n_heads = layer, config.num_attention_heads
        self.dropout = float(config.attention_probs_dropout_prob)
        h = config.hidden_size
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(h, h) for _ in range(4))

    def forward(self, states: Tensor, mask: Tensor, cache: Any) -> Tensor:
        """Attend: states (B, S, H), mask (B, 1, S, K) added to the scores, K the keys with those of the cache."""
        b, s, h = states.shape

        def heads(projected: Tensor) -> Tensor:
            return projected.view(b, s, self.n_heads, -1).transpose(1, 2)  # (B, heads, S, H / heads)

        query, key, value = heads(self.q_proj(states)), heads(self.k_proj(states)), heads(self.v_proj(states))
        if cache is not None:
            key, value = cache.update(key, value, self.layer)
        attended = nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=self.dropout if self.training else 0.0
        )
        out: Tensor = self.out_proj(attended.transpose(1, 2).reshape(b, s, h))
        return out


class Plato2Layer(GradientCheckpointingLayer):  # type: ignore[misc]
    """Attention and feed-forward, each with dropout, residual, and a norm before (or behind)."""

    def __init__(self, config: Plato2Config, layer: int) -> None:
        super().__init__()
        self.pre = config.normalize_before
        self.self_attn = Plato2Attention(config, layer)
        self.norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.linear1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.linear2 = nn.Linear(config.intermediate_size, config.hidden_size)
        self.act = ACT2FN[config.hidden_act]
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, states: Tensor, mask: Tensor, cache: Any = None) -> Tensor:
        """(B, S, H) to (B, S, H)."""
        attended = self.self_attn(self.norm1(states) if self.pre else states, mask, cache)
        states = states + self.dropout(attended)
        if not self.pre:
            states = self.norm1(states)
        fed = self.linear2(self.act(self.linear1(self.norm2(states) if self.pre else states)))
        states = states + self.dropout(fed)
        return states if self.pre else self.norm2(states)


class Plato2PreTrainedModel(PreTrainedModel):  # type: ignore[misc]
    """First weights, loading and saving."""

    config_class = Plato2Config
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ("Plato2Layer",)


class Plato2Model(Plato2PreTrainedModel):
    """The stack without the head."""

    def __init__(self, config: Plato2Config) -> None:
        super().__init__(config)
        self.embeddings = Plato2Embeddings(config)
        self.layers = nn.ModuleList([Plato2Layer(config, k) for k in range(config.num_hidden_layers)])
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.gradient_checkpointing = False
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Word embeddings."""
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Replace the word embeddings."""
        self.embeddings.word_embeddings = value

    def forward(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        role_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        emotion: Tensor | None = None,
        cache: Any = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Give the last hidden states, (B, S, H); the arguments are those of `Plato2ForConditionalGeneration`."""
        use_cache = self.config.use_cache and not self.training if use_cache is None else use_cache
        if use_cache and cache is None:
            cache = DynamicCache(config=self.config)
        n_past = 0 if cache is None else int(cache.get_seq_length())
        n_new = input_ids.shape[1]
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(input_ids)
        if position_ids is None:
            position_ids = _positions(attention_mask, n_past, n_new, input_ids)
        visible = _visible(attention_mask, token_type_ids, n_past)  # (B, S, K)
        states = self.embeddings(input_ids, token_type_ids, position_ids, role_ids, emotion)
        mask = torch.zeros(visible.shape, dtype=states.dtype, device=states.device)
        mask = mask.masked_fill(~visible, torch.finfo(states.dtype).min)[:, None]
        for layer in self.layers:
            states = layer(states, mask, cache)
        return BaseModelOutputWithPast(last_hidden_state=self.norm(states), cache=cache if use_cache else None)


def _positions(attention_mask: Tensor | None, n_past: int, n_new: int, input_ids: Tensor) -> Tensor:
    """0, 1, 2, ... from the first token that a mask (B, K) does not leave out."""
    if attention_mask is not None and attention_mask.dim() == 2:
        return (attention_mask.long().cumsum(-1) - 1).clamp_min(0)[:, -n_new:]
    return torch.arange(n_past, n_past + n_new, device=input_ids.device)[None].expand_as(input_ids)


def _visible(attention_mask: Tensor | None, token_type_ids: Tensor, n_past: int) -> Tensor:
    """Say which key each new position sees, (B, S, K) bool.

    A mask (B, S, K) is taken as it is. One that says which keys are tokens, (B, K), or none at all, is completed: all
    see the context (type 0), and a response sees itself up to the position. Keys of the cache are all in the past.
    """
    b, s = token_type_ids.shape
    if attention_mask is not None and attention_mask.dim() == 3:
        return attention_mask[:, -s:].bool()
    key = torch.arange(n_past + s, device=token_type_ids.device)
    query = key[n_past:]
    known = torch.zeros(b, n_past, dtype=token_type_ids.dtype, device=token_type_ids.device)
    is_context = torch.cat((known, token_type_ids), dim=1) == 0  # (B, K)
    visible = is_context[:, None] | (key[None] <= query[:, None])[None]
    return visible if attention_mask is None else visible & attention_mask[:, None].bool()


class Plato2Head(nn.Module):
    """Linear, activation, norm; then the word embeddings and a bias per token."""

    def __init__(self, config: Plato2Config) -> None:
        super().__init__()
        self.transform = nn.Linear(config.hidden_size, config.hidden_size)
        self.act = ACT2FN[config.hidden_act]
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)

    def states(self, hidden: Tensor) -> Tensor:
        """Give what the output matrix is multiplied with: (..., H) to (..., H)."""
        found: Tensor = self.layer_norm(self.act(self.transform(hidden)))
        return found

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., H) to (..., V)."""
        logits: Tensor = self.decoder(self.states(hidden))
        return logits


class Plato2ForConditionalGeneration(Plato2PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """PLATO-2 with its head: a response to a context, both in one sequence.

    ``generate`` takes a context that ends with the response's first token (bos, type 1); unk, bos and mask are never
    generated. ``past_key_values`` is another name of ``cache``.
    """

    _tied_weights_keys = {"lm_head.decoder.weight": "model.embeddings.word_embeddings.weight"}  # noqa: RUF012

    def __init__(self, config: Plato2Config) -> None:
        super().__init__(config)
        self.model = Plato2Model(config)
        self.lm_head = Plato2Head(config)
        self.post_init()
        never = {config.unk_token_id, config.bos_token_id, config.mask_token_id} - {None}
        self.generation_config.suppress_tokens = sorted(never)

    def get_output_embeddings(self) -> nn.Module:
        """The output matrix, tied to the word embeddings, and its bias."""
        return self.lm_head.decoder

    def set_output_embeddings(self, value: nn.Linear) -> None:
        """Replace the output matrix."""
        self.lm_head.decoder = value

    def forward(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        role_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        emotion: Tensor | None = None,
        labels: Tensor | None = None,
        cache: Any = None,
        past_key_values: Any = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Give the logits.

        Args:
            input_ids: (B, S).
            token_type_ids: (B, S), 0 context, 1 response; all context unless given.
            position_ids: (B, S); 0, 1, 2, ... unless given.
            role_ids: (B, S), for a model with roles.
            attention_mask: (B, S, S), 1 where a position may be seen; or (B, S), 1 for a token and 0 for padding: then
                the context is seen by all, and a response up to each position.
            emotion: p(positive | u1) and p(negative | u1), (B, 2), for a model with ``emotion_embedding``.
            labels: (B, S), -100 where nothing is learned; they are shifted here, as in other causal models.
            cache: keys and values of earlier positions.
            past_key_values: the same.
            use_cache: whether to give a cache back; only outside training unless given.
            logits_to_keep: of the last positions only; 0 for all.
            **kwargs: what other models know, left alone.

        Returns:
            ``logits`` (B, S, V), ``loss`` where there are labels, the cache.
        """
        cache = past_key_values if cache is None else cache
        out = self.model(
            input_ids, token_type_ids, position_ids, role_ids, attention_mask, emotion, cache=cache, use_cache=use_cache
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(out.last_hidden_state[:, kept])
        loss = None
        if labels is not None:
            # the labels are shifted, not the logits, whose copy would be large; -100 behind the last is not counted
            shifted = nn.functional.pad(labels[:, 1:], (0, 1), value=-100)
            loss = nn.functional.cross_entropy(logits.flatten(0, 1).float(), shifted.flatten())
        return CausalLMOutputWithPast(loss=loss, logits=logits, cache=out.cache)

    def _update_model_kwargs_for_generation(
        self, outputs: Any, model_kwargs: dict[str, Any], is_encoder_decoder: bool = False, num_new_tokens: int = 1
    ) -> dict[str, Any]:
        kwargs: dict[str, Any] = super()._update_model_kwargs_for_generation(
            outputs, model_kwargs, is_encoder_decoder, num_new_tokens
        )
        if (roles := kwargs.get("role_ids")) is not None:
            kwargs["role_ids"] = torch.cat((roles, roles[:, -1:].expand(-1, num_new_tokens)), dim=1)
        return kwargs

    def prepare_inputs_for_generation(self, input_ids: Tensor, **kwargs: Any) -> dict[str, Any]:
        """Cut roles to the new tokens; the rest is generic."""
        inputs: dict[str, Any] = super().prepare_inputs_for_generation(input_ids, **kwargs)
        if (roles := inputs.get("role_ids")) is not None:
            inputs["role_ids"] = roles[:, -inputs["input_ids"].shape[1] :]
        return inputs
