"""Shapes of PLATO-2."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedConfig

#: Published shapes, and ours for tests (tiny) and for training on two cores (mini).
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 128},
    "mini": {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 6, "max_position_embeddings": 256},
    "12L": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "vocab_size": 30_004},
    "24L": {
        "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "vocab_size": 8_001,
        "max_position_embeddings": 256, "mask_token_id": 8_000,
    },
    "32L": {
        "hidden_size": 2048, "num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 8_001,
        "max_position_embeddings": 256, "mask_token_id": 8_000,
    },
}  # fmt: skip


class Plato2Config(PreTrainedConfig):  # type: ignore[misc]
    """Shape and token ids of a PLATO-2 model; the names are PaddleNLP's.

    Attributes:
        vocab_size: V.
        hidden_size: H, a multiple of the heads.
        num_hidden_layers: layers.
        num_attention_heads: heads of a layer.
        intermediate_size: of the feed-forward; 0 for 4 H.
        hidden_act: of the feed-forward and the head; gelu is the exact one.
        hidden_dropout_prob: of embeddings and sublayers.
        attention_probs_dropout_prob: of attention weights.
        normalize_before: pre-norm, or post-norm.
        max_position_embeddings: positions, learned.
        type_vocab_size: 0 is the context, 1 the response.
        role_type_size: who speaks; None for a model without roles.
        emotion_embedding: whether p(positive | u1) and p(negative | u1) enter as learned embeddings.
        layer_norm_eps: of all norms.
        initializer_range: standard deviation of the first weights.
        mask_token_id: with ``unk_token_id`` and ``bos_token_id`` never generated; None where there is none.
    """

    model_type = "plato2"

    vocab_size: int = 30_004
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 0
    hidden_act: str = "gelu"
    hidden_dropout_prob: float | int = 0.1
    attention_probs_dropout_prob: float | int = 0.1
    normalize_before: bool = True
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    role_type_size: int | None = None
    emotion_embedding: bool = False
    layer_norm_eps: float = 1e-5
    initializer_range: float = 0.02
    unk_token_id: int = 0
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    mask_token_id: int | None = None
    tie_word_embeddings: bool = True
    use_cache: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        self.intermediate_size = self.intermediate_size or 4 * self.hidden_size
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is no multiple of {self.num_attention_heads} heads")
        super().__post_init__(**kwargs)

    @classmethod
    def of_size(cls, size: str, **more: Any) -> Plato2Config:
        """Give a published or own shape by its name, see ``SIZES``."""
        return cls(**{**SIZES[size], **more})
