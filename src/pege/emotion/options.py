"""How a classifier is trained. Loads no torch, so that the command line can show the options."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class TrainOptions(BaseModel):
    """How a classifier is trained.

    Attributes:
        name: what signatures will call it.
        encoder: folder or hub name of a Hugging Face encoder whose last hidden states the network reads, instead of
            embeddings of its own (the paper's ERNIE-TextCNN); its tokenizer is taken too.
        freeze_encoder: leave the encoder as it is and train the head alone.
        encoder_learning_rate: of AdamW, for the encoder's weights.
        vocabulary_size: pieces of the tokenizer, at most; without an encoder.
        embedding_size: numbers per piece; without an encoder.
        widths: pieces that a convolution sees at once (Kim 2014 has 3, 4, 5).
        n_filters: convolutions per width.
        dropout: of the pooled features.
        n_epochs: passes over the training texts; the best on the validation texts is kept.
        batch_size: texts a step.
        learning_rate: of AdamW, for all weights but the encoder's.
        label_smoothing: share of each target spread over the classes.
        max_pieces: pieces read of a text.
        seed: of initialisation, order and dropout.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(default="textcnn", min_length=1, max_length=100)
    encoder: str | None = None
    freeze_encoder: bool = False
    encoder_learning_rate: float = Field(default=5e-5, gt=0, le=1)
    vocabulary_size: int = Field(default=16_000, ge=100, le=500_000)
    embedding_size: int = Field(default=128, ge=1, le=4096)
    widths: tuple[Annotated[int, Field(ge=1, le=32)], ...] = Field(default=(2, 3, 4, 5), min_length=1, max_length=16)
    n_filters: int = Field(default=100, ge=1, le=4096)
    dropout: float = Field(default=0.5, ge=0, lt=1)
    n_epochs: int = Field(default=6, ge=1, le=1000)
    batch_size: int = Field(default=64, ge=1, le=65_536)
    learning_rate: float = Field(default=1e-3, gt=0, le=1)
    label_smoothing: float = Field(default=0.05, ge=0, lt=1)
    max_pieces: int = Field(default=128, ge=8, le=10_000)
    seed: int = Field(default=0, ge=0, lt=2**32)
