"""MoEL's network (docs/models.md): an encoder with a query, a listener an emotion, a decoder over their mixture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import ModelOutput

from pege.models.listener_layers import (
    ContextEncoder,
    ListenerNorm,
    ResponseLayer,
    timing_signal,
)
from pege.models.listener_losses import as_probabilities
from pege.models.listener_model import ListenerModel
from pege.models.moel.config import MoelConfig


@dataclass
class MoelOutput(ModelOutput):  # type: ignore[misc]
    """What a forward pass gives.

    Attributes:
        loss: the response's loss + the emotion's, where each is given its target.
        nll: mean over the labels, without smoothing: the logarithm of the perplexity.
        emotion_loss: mean cross-entropy of the emotion.
        logits: (B, T, V).
        emotion_logits: (B, E).
        decoder_hidden: (B, T, H), what the output matrix is multiplied with.
        cache: keys and values of earlier positions.
        encoder_last_hidden_state: (B, S + 1, H).
    """

    loss: Tensor | None = None
    nll: Tensor | None = None
    emotion_loss: Tensor | None = None
    logits: Tensor | None = None
    emotion_logits: Tensor | None = None
    decoder_hidden: Tensor | None = None
    cache: Any = None
    encoder_last_hidden_state: Tensor | None = None


class ListenerDecoder(nn.Module):
    """A shared listener, a listener an emotion, and a stack that reads their sum ("meta listener")."""

    def __init__(self, config: MoelConfig) -> None:
        super().__init__()
        self.hidden_size = config.hidden_size
        n = config.n_emotions
        self.projection = nn.Linear(config.embedding_size, config.hidden_size, bias=False)
        self.shared = ResponseLayer(config, 0)
        self.listeners = nn.ModuleList([ResponseLayer(config, 1 + k) for k in range(n)])
        self.layers = nn.ModuleList([ResponseLayer(config, 1 + n + k) for k in range(config.num_hidden_layers)])
        self.norm = ListenerNorm(config.hidden_size)

    def forward(self, vectors: Tensor, context: Tensor, is_token: Tensor, mixture: Tensor, cache: Any = None) -> Tensor:
        """Decode.

        Args:
            vectors: (B, T, embedding), of the response's tokens so far.
            context: (B, S + 1, H).
            is_token: (B, S + 1).
            mixture: (B, E), weights of the listeners. One that nobody listens to is left out, but in training, where it
                takes part with gradient 0.
            cache: of earlier positions.

        Returns:
            (B, T, H).
        """
        n_past = 0 if cache is None else cache.get_seq_length()
        stop = n_past + vectors.shape[1]
        states = self.projection(vectors)
        positions = torch.arange(n_past, stop, device=states.device)
        states = states + timing_signal(positions, stop, self.hidden_size).to(states.dtype)
        mixed = self.shared(states, context, is_token, cache)
        weights = mixture.to(states.dtype)
        is_heard = [True] * len(self.listeners) if self.training else (weights != 0).any(dim=0).tolist()
        for k, listener in enumerate(self.listeners):
            if is_heard[k]:
                mixed = mixed + weights[:, k, None, None] * listener(states, context, is_token, cache)
        for layer in self.layers:
            mixed = layer(mixed, context, is_token, cache)
        normed: Tensor = self.norm(mixed)
        return normed


class MoelForConditionalGeneration(ListenerModel):
    """MoEL: a response to a context, whose emotion decides which listeners are heard."""

    config_class = MoelConfig
    _no_split_modules = ("ContextLayer", "ResponseLayer")

    def __init__(self, config: MoelConfig) -> None:
        super().__init__(config)
        self.encoder = ContextEncoder(config)
        self.emotion_keys = nn.Linear(config.hidden_size, config.n_emotions, bias=False)
        self.decoder = ListenerDecoder(config)
        self.output = nn.Linear(config.hidden_size, config.vocab_size)
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        role_ids: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        labels: Tensor | None = None,
        emotion: Tensor | None = None,
        step: int | None = None,
        encoder_outputs: Any = None,
        cache: Any = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> MoelOutput:
        """Give logits, losses, and what they come from.

        Args:
            input_ids: (B, S), the context without the query token; not needed beside ``encoder_outputs``.
            attention_mask: (B, S), 1 for a token, 0 for padding; all tokens unless given.
            role_ids: (B, S), 0 where the user speaks, 1 where the agent; the user unless given.
            decoder_input_ids: (B, T); from the labels unless given.
            labels: (B, T), the response and its end, -100 behind it.
            emotion: the true one: classes (B,) or probabilities (B, E).
            step: of training, from 0, for the share of steps that see the true emotion; counted here unless given.
            encoder_outputs: of ``encoder``, where it ran already.
            cache: keys and values of earlier positions.
            use_cache: whether to give a cache back; only outside training unless given.
            **kwargs: what other models know, left alone.
        """
        decoder_input_ids = self.decoder_inputs(decoder_input_ids, labels)
        if encoder_outputs is None:
            encoder_outputs = self.encoder(input_ids, attention_mask, role_ids)
        context: Tensor = encoder_outputs[0]
        is_token = self.token_mask(attention_mask, context)
        emotion_logits = self.emotion_keys(context[:, 0])
        cache = self.cache_to_use(cache, use_cache, labels)
        mixture = self._mixture(emotion_logits, emotion, step)
        hidden = self.decoder(self.encoder.embed(decoder_input_ids), context, is_token, mixture, cache)
        found = MoelOutput(
            logits=self.output(hidden),
            emotion_logits=emotion_logits,
            decoder_hidden=hidden,
            cache=cache,
            encoder_last_hidden_state=context,
        )
        losses: MoelOutput = self.add_losses(found, labels, emotion)
        return losses

    def _mixture(self, emotion_logits: Tensor, emotion: Tensor | None, step: int | None) -> Tensor:
        """Weights of the listeners (B, E): predicted, or in some steps of training the true emotion."""
        if self.training and emotion is not None:
            if step is None:
                step = int(self.step)
                self.step += 1
            if self.config.is_oracle_step(step):
                return as_probabilities(emotion, self.config.n_emotions)
        n_top = self.config.n_top_listeners
        if 0 < n_top < self.config.n_emotions:
            values, indices = emotion_logits.topk(n_top, dim=1)
            emotion_logits = torch.full_like(emotion_logits, -torch.inf).scatter(1, indices, values)
        return emotion_logits.softmax(dim=1)
