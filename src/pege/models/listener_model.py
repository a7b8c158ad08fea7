"""What the two models of listeners share as Hugging Face models: embeddings, labels, cache, the sum of the losses."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedModel

from pege.models.listener_layers import initialise_listener_weights, new_cache
from pege.models.listener_losses import count_tokens, emotion_loss, token_losses
from pege.models.padding import IGNORED


class ListenerModel(PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """An ``encoder`` of a context, and an ``output`` matrix; a kind of model gives both and ``forward``."""

    base_model_prefix = "model"
    _tied_weights_keys = {"output.weight": "encoder.words.weight"}  # noqa: RUF012

    def _init_weights(self, module: nn.Module) -> None:
        initialise_listener_weights(module)

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False  # it has one of its own, with places for the convolutions

    def get_encoder(self, *_: Any, **__: Any) -> nn.Module:
        """The encoder, which ``generate`` runs once."""
        encoder: nn.Module = self.encoder
        return encoder

    def get_input_embeddings(self) -> nn.Module:
        """The word vectors, of the context and the response."""
        words: nn.Module = self.encoder.words
        return words

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Replace the word vectors."""
        self.encoder.words = value

    def get_output_embeddings(self) -> nn.Module:
        """The output matrix and its bias."""
        return self.output

    def set_output_embeddings(self, value: nn.Linear) -> None:
        """Replace the output matrix."""
        self.output = value

    def prepare_decoder_input_ids_from_labels(self, labels: Tensor) -> Tensor:
        """Shift labels (B, T) one to the right behind the first token; -100 becomes padding."""
        start = labels.new_full((len(labels), 1), self.config.decoder_start_token_id)
        shifted = torch.cat((start, labels[:, :-1]), dim=1)
        return shifted.masked_fill(shifted == IGNORED, self.config.pad_token_id)

    def decoder_inputs(self, decoder_input_ids: Tensor | None, labels: Tensor | None) -> Tensor:
        """Give what the decoder reads, (B, T): as named, or from the labels.

        Raises:
            ValueError: neither is there.
        """
        if decoder_input_ids is not None:
            return decoder_input_ids
        if labels is None:
            raise ValueError("decoder_input_ids or labels")
        return self.prepare_decoder_input_ids_from_labels(labels)

    def token_mask(self, attention_mask: Tensor | None, context: Tensor) -> Tensor:
        """Give which positions of an encoded context (B, S + 1, H) are no padding, (B, S + 1); all without a mask."""
        if attention_mask is None:
            attention_mask = context.new_ones(context.shape[0], context.shape[1] - 1)
        found: Tensor = self.encoder.is_token(attention_mask)
        return found

    def cache_to_use(self, cache: Any, use_cache: bool | None, labels: Tensor | None) -> Any:
        """Give the cache that is there, or a new one where one is wanted: unless said, outside training only."""
        wants_cache = labels is None and not self.training if use_cache is None else use_cache
        return new_cache() if wants_cache and cache is None else cache

    def add_losses(self, found: Any, labels: Tensor | None, emotion: Tensor | None) -> Any:
        """Fill in ``loss``, ``nll`` and ``emotion_loss`` of an output, and give it.

        The terms have equal weights, as published: the response's, the KL where the output has one (sums over the batch
        or means, by ``sum_over_tokens``), the emotion's (a mean).
        """
        parts: list[Tensor] = []
        if labels is not None:
            smoothing, pad = float(self.config.label_smoothing), self.config.pad_token_id
            total, found.nll = token_losses(found.logits, labels, smoothing=smoothing, pad_token_id=pad)
            is_sum, kl = self.config.sum_over_tokens, getattr(found, "kl", None)
            parts.append(total if is_sum else total / count_tokens(labels))
            if kl is not None:
                parts.append(kl * len(labels) if is_sum else kl)
        if emotion is not None:
            found.emotion_loss = emotion_loss(found.emotion_logits, emotion)
            parts.append(found.emotion_loss)
        if parts:
            found.loss = torch.stack(parts).sum()
        return found
