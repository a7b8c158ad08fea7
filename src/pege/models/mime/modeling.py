"""MIME's network (docs/models.md): a context read twice, with emotions that mimic the user's and with the others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import initialization as init
from transformers.modeling_outputs import ModelOutput

from pege.errors import InputError
from pege.models.listener_layers import (
    ContextEncoder,
    ContextLayer,
    Filter,
    KeyDepthAttention,
    ListenerNorm,
    ResponseLayer,
    timing_signal,
)
from pege.models.listener_model import ListenerModel
from pege.models.mime.config import MimeConfig
from pege.models.mime.mixtures import EmotionMixtures


@dataclass
class MimeEncoderOutput(ModelOutput):  # type: ignore[misc]
    """What the encoder gives: all that a response needs of the context.

    Attributes:
        last_hidden_state: fusion of both readings, (B, S + 1, H): the query's state, the tokens', what is padding last.
        emotion_logits: (B, E).
        kl: KL(posterior, prior) of both groups, (B,).
    """

    last_hidden_state: Tensor | None = None
    emotion_logits: Tensor | None = None
    kl: Tensor | None = None


@dataclass
class MimeOutput(ModelOutput):  # type: ignore[misc]
    """What a forward pass gives.

    Attributes:
        loss: the response's loss + KL, where there are labels, + the emotion's, where there is an emotion.
        nll: mean over the labels, without smoothing: the logarithm of the perplexity.
        kl: KL(posterior, prior) of both groups, mean over dialogs.
        emotion_loss: mean cross-entropy of the emotion.
        logits: (B, T, V).
        emotion_logits: (B, E).
        decoder_hidden: (B, T, H), what the output matrix is multiplied with.
        cache: keys and values of earlier positions.
        encoder_last_hidden_state: (B, S + 1, H).
    """

    loss: Tensor | None = None
    nll: Tensor | None = None
    kl: Tensor | None = None
    emotion_loss: Tensor | None = None
    logits: Tensor | None = None
    emotion_logits: Tensor | None = None
    decoder_hidden: Tensor | None = None
    cache: Any = None
    encoder_last_hidden_state: Tensor | None = None


def _with_timing(states: Tensor) -> Tensor:
    """Add the timing: (B, S, H). Padding is last."""
    n = states.shape[1]
    return states + timing_signal(torch.arange(n, device=states.device), n, states.shape[2]).to(states.dtype)


class EmotionReading(nn.Module):
    """Reads the encoded context again, an emotion beside every state."""

    def __init__(self, config: MimeConfig) -> None:
        super().__init__()
        self.projection = nn.Linear(config.hidden_size + config.embedding_size, config.hidden_size, bias=False)
        self.layers = nn.ModuleList([ContextLayer(config) for _ in range(config.num_hidden_layers)])
        self.norm = ListenerNorm(config.hidden_size)

    def forward(self, context: Tensor, emotion: Tensor, is_token: Tensor) -> Tensor:
        """Read (B, S, H) with an emotion (B, embedding): (B, S, H)."""
        emotions = emotion[:, None].expand(-1, context.shape[1], -1)
        states = _with_timing(self.projection(torch.cat((context, emotions), dim=-1)))
        for layer in self.layers:
            states = layer(states, is_token)
        normed: Tensor = self.norm(states)
        return normed


class GateFusion(nn.Module):
    """Lets each entry of both readings through to a share of its own."""

    def __init__(self, config: MimeConfig) -> None:
        super().__init__()
        h = config.hidden_size
        self.gate, self.out = nn.Linear(2 * h, 2 * h), nn.Linear(2 * h, h)

    def forward(self, context: Tensor, mimicking: Tensor, other: Tensor, is_token: Tensor) -> Tensor:
        """(B, S, H) each to (B, S, H); the context itself is not asked."""
        both = torch.cat((mimicking, other), dim=-1)
        fused: Tensor = self.out(torch.sigmoid(self.gate(both)) * both)
        return fused


class FusionLayer(nn.Module):
    """Attention to both readings at once, and a filter, norm first."""

    def __init__(self, config: MimeConfig) -> None:
        super().__init__()
        self.attention, self.filter = KeyDepthAttention(config), Filter(config)
        self.attention_norm, self.filter_norm = (ListenerNorm(config.hidden_size) for _ in range(2))

    def forward(self, states: Tensor, both: Tensor, mask: Tensor) -> Tensor:
        """(B, S, H) to (B, S, H), from the readings one behind the other, (B, 2 S, H), mask (B, 1, 1, 2 S)."""
        keys, values = self.attention.keys_and_values(both)
        states = states + self.attention(self.attention_norm(states), keys, values, mask)
        fed: Tensor = states + self.filter.leftwards(self.filter_norm(states), None, 0)
        return fed


class AttentionFusion(nn.Module):
    """Lets the context attend to both readings."""

    def __init__(self, config: MimeConfig) -> None:
        super().__init__()
        self.projection = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.layers = nn.ModuleList([FusionLayer(config) for _ in range(config.num_hidden_layers)])
        self.norm = ListenerNorm(config.hidden_size)

    def forward(self, context: Tensor, mimicking: Tensor, other: Tensor, is_token: Tensor) -> Tensor:
        """(B, S, H) each to (B, S, H)."""
        both = torch.cat((mimicking, other), dim=1)
        mask = torch.cat((is_token, is_token), dim=1)[:, None, None]
        states = _with_timing(self.projection(context))
        for layer in self.layers:
            states = layer(states, both, mask)
        normed: Tensor = self.norm(states)
        return normed


class MimeEncoder(ContextEncoder):
    """Reads the context, finds its emotion, draws two mixtures of emotions, reads it again with each, fuses."""

    def __init__(self, config: MimeConfig) -> None:
        super().__init__(config)
        self.emotion_query = nn.Linear(config.hidden_size, config.embedding_size, bias=False)
        self.mixtures = EmotionMixtures(config)
        self.mimicking, self.other = EmotionReading(config), EmotionReading(config)
        self.fusion = GateFusion(config) if config.fusion == "gate" else AttentionFusion(config)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        role_ids: Tensor | None = None,
        emotion: Tensor | None = None,
        sample: bool = True,
        **kwargs: Any,
    ) -> MimeEncoderOutput:
        """Encode; the arguments are those of `MimeForConditionalGeneration`."""
        context = super().forward(input_ids, attention_mask, role_ids).last_hidden_state  # (B, S + 1, H)
        is_token = self.is_token(torch.ones_like(input_ids) if attention_mask is None else attention_mask)
        query = context[:, 0]
        emotion_logits = self.emotion_query(query) @ self.mixtures.embeddings.weight.T  # (B, E)
        is_positive = self.mixtures.is_positive(emotion, emotion_logits)
        mimicking, other = self.mixtures.draw(query, is_positive, sample=sample)
        readings = self.mimicking(context, mimicking, is_token), self.other(context, other, is_token)
        weights = is_token.to(context.dtype) / is_token.sum(dim=1, keepdim=True)  # (B, S + 1)
        means = [(reading * weights[..., None]).sum(dim=1) for reading in readings]
        return MimeEncoderOutput(
            last_hidden_state=self.fusion(context, *readings, is_token),
            emotion_logits=emotion_logits,
            kl=self.mixtures.kl(query, is_positive, *means),
        )


class MimeDecoder(nn.Module):
    """One stack that writes the response from the fused readings."""

    def __init__(self, config: MimeConfig) -> None:
        super().__init__()
        self.projection = nn.Linear(config.embedding_size, config.hidden_size, bias=False)
        self.layers = nn.ModuleList([ResponseLayer(config, k) for k in range(config.num_hidden_layers)])
        self.norm = ListenerNorm(config.hidden_size)

    def forward(self, vectors: Tensor, context: Tensor, is_token: Tensor, cache: Any = None) -> Tensor:
        """Decode tokens (B, T, embedding) behind those of the cache: (B, T, H)."""
        n_past = 0 if cache is None else cache.get_seq_length()
        stop = n_past + vectors.shape[1]
        states = self.projection(vectors)
        timing = timing_signal(torch.arange(n_past, stop, device=states.device), stop, states.shape[2])
        states = states + timing.to(states.dtype)
        for layer in self.layers:
            states = layer(states, context, is_token, cache)
        normed: Tensor = self.norm(states)
        return normed


class MimeForConditionalGeneration(ListenerModel):
    """MIME: a response to a context, between mimicking the user's emotion and not.

    ``generate`` draws the emotions with torch's generator, once a context: beams share the draw.
    """

    config_class = MimeConfig
    accepts_loss_kwargs = False  # the Trainer averages over the steps it accumulates
    _no_split_modules = ("ContextLayer", "ResponseLayer", "FusionLayer")

    def __init__(self, config: MimeConfig) -> None:
        super().__init__(config)
        self.encoder = MimeEncoder(config)
        self.decoder = MimeDecoder(config)
        self.output = nn.Linear(config.hidden_size, config.vocab_size)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if module is self.encoder.mixtures.embeddings:
            init.xavier_uniform_(module.weight)
        else:
            super()._init_weights(module)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        role_ids: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        labels: Tensor | None = None,
        emotion: Tensor | None = None,
        sample: bool = True,
        encoder_outputs: Any = None,
        cache: Any = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> MimeOutput:
        """Give logits, losses, and what they come from.

        Args:
            input_ids: (B, S), the context without the query token; not needed beside ``encoder_outputs``.
            attention_mask: (B, S), 1 for a token, 0 for padding on either side; all tokens unless given.
            role_ids: (B, S), 0 where the user speaks, 1 where the agent; the user unless given.
            decoder_input_ids: (B, T); from the labels unless given.
            labels: (B, T), the response and its end, -100 behind it.
            emotion: the true one: classes (B,) or probabilities (B, E). It says which group mimics, and is what the
                prediction learns; without it the prediction says which group mimics.
            sample: whether the mixtures of emotions are drawn; else their means are taken.
            encoder_outputs: of ``encoder``, where it ran already.
            cache: keys and values of earlier positions.
            use_cache: whether to give a cache back; only outside training unless given.
            **kwargs: what other models know, left alone.
        """
        decoder_input_ids = self.decoder_inputs(decoder_input_ids, labels)
        if encoder_outputs is None:
            encoder_outputs = self.encoder(input_ids, attention_mask, role_ids, emotion, sample)
        context: Tensor = encoder_outputs.last_hidden_state
        is_token = self.token_mask(attention_mask, context)
        cache = self.cache_to_use(cache, use_cache, labels)
        hidden = self.decoder(self.encoder.embed(decoder_input_ids), context, is_token, cache)
        found = MimeOutput(
            kl=encoder_outputs.kl.mean(),
            logits=self.output(hidden),
            emotion_logits=encoder_outputs.emotion_logits,
            decoder_hidden=hidden,
            cache=cache,
            encoder_last_hidden_state=context,
        )
        losses: MimeOutput = self.add_losses(found, labels, emotion)
        return losses


def set_emotion_vectors(
    model: MimeForConditionalGeneration, tokenizer: Any, matrix: NDArray[Any], *, names: Sequence[str] | None = None
) -> None:
    """Let the emotion embeddings start from the word vectors of the emotions' names, scaled as words are.

    Args:
        model: changed in place.
        tokenizer: a Hugging Face tokenizer of V tokens; a name of several tokens gets their mean.
        matrix: (V, embedding).
        names: words for the classes, e.g. in another language; the config's ``emotions`` unless given.

    Raises:
        InputError: a matrix of another shape, another count of names, a name without a known token.
    """
    weight = model.encoder.mixtures.embeddings.weight
    words = list(model.config.emotions if names is None else names)
    if len(words) != len(weight):
        raise InputError(f"{len(words)} names for {len(weight)} emotions", fix="name each class once, in their order")
    if matrix.ndim != 2 or len(matrix) < len(tokenizer) or matrix.shape[1] != weight.shape[1]:
        raise InputError(
            f"the word vectors are {' x '.join(map(str, matrix.shape))}, not {len(tokenizer)} x {weight.shape[1]}",
            fix="project them to the model's embedding_size",
        )
    rows = []
    for word in words:
        ids = [k for k in tokenizer.encode(word, add_special_tokens=False) if k != tokenizer.unk_token_id]
        if not ids:
            raise InputError("has no token of the tokenizer", where=f"emotion {word!r}", fix="name it by another word")
        rows.append(torch.from_numpy(matrix[ids]).double().mean(dim=0))
    with torch.no_grad():
        weight.copy_(torch.stack(rows) * math.sqrt(weight.shape[1]))
