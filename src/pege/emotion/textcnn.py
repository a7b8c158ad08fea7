"""TextCNN: vectors, convolutions of several widths, the maximum over time, one linear layer (Kim 2014)."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn


class TextCnnShape(BaseModel):
    """Sizes of a TextCNN.

    Attributes:
        vocabulary_size: V, pieces of the tokenizer; piece 0 is padding.
        embedding_size: numbers per piece.
        widths: pieces that a convolution sees at once.
        n_filters: convolutions per width.
        n_classes: outputs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    vocabulary_size: int = Field(ge=2, le=1_000_000)
    embedding_size: int = Field(default=128, ge=1, le=8192)
    widths: tuple[Annotated[int, Field(ge=1, le=32)], ...] = Field(default=(2, 3, 4, 5), min_length=1, max_length=16)
    n_filters: int = Field(default=100, ge=1, le=4096)
    n_classes: int = Field(default=3, ge=2, le=100)


class TextCnnHead(nn.Module):
    """Vectors of pieces to logits. The answer for a text does not depend on the other texts of the batch.

    Args:
        shape: its sizes.
        dropout: share of the pooled features dropped in training.
    """

    def __init__(self, shape: TextCnnShape, *, dropout: float = 0.5) -> None:
        super().__init__()
        self.shape = shape
        # Wide convolutions: w - 1 zeros on both sides, so that a text of one piece has windows of every width.
        self.convolutions = nn.ModuleList(
            nn.Conv1d(shape.embedding_size, shape.n_filters, width, padding=width - 1) for width in shape.widths
        )
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(shape.n_filters * len(shape.widths), shape.n_classes)

    def classify(self, vectors: Tensor, n_pieces: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
        """Give the logits, and the cross-entropy where targets are given.

        Args:
            vectors: (B, S, E), 0 behind the end of a text.
            n_pieces: (B,) int64, pieces of each text, 1 to S.
            labels: (B, n_classes) probabilities.

        Returns:
            ``logits`` (B, n_classes) and, with labels, ``loss``, the mean over the batch of -sum_k y_k log p_k.
        """
        channels = vectors.transpose(1, 2)  # (B, E, S)
        pooled = []
        for width, convolution in zip(self.shape.widths, self.convolutions, strict=True):
            windows = torch.relu(convolution(channels))  # (B, F, S + w - 1)
            position = torch.arange(windows.shape[-1], device=windows.device)
            in_text = position < (n_pieces + width - 1).unsqueeze(1)  # (B, S + w - 1)
            pooled.append(windows.masked_fill(~in_text.unsqueeze(1), 0.0).amax(dim=-1))  # relu: 0 is the least
        logits = self.output(self.dropout(torch.cat(pooled, dim=1)))
        if labels is None:
            return {"logits": logits}
        return {"loss": nn.functional.cross_entropy(logits, labels.to(logits.dtype)), "logits": logits}


class TextCnn(TextCnnHead):
    """The network of Kim 2014: the head over embeddings of its own.

    Args:
        shape: its sizes.
        dropout: share of the embedding's numbers (half of it) and of the pooled features dropped in training.
    """

    def __init__(self, shape: TextCnnShape, *, dropout: float = 0.5) -> None:
        super().__init__(shape, dropout=dropout)
        self.embedding = nn.Embedding(shape.vocabulary_size, shape.embedding_size, padding_idx=0)
        self.embedding_dropout = nn.Dropout(dropout / 2)

    def forward(self, input_ids: Tensor, n_pieces: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Give what ``classify`` gives for (B, S) int64 pieces, padded with 0 on the right."""
        return self.classify(self.embedding_dropout(self.embedding(input_ids)), n_pieces, labels)
