"""The TextCNN without its multiplications: what each piece adds to each window is looked up in a table."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from pege.emotion.textcnn import TextCnn

#: Numbers of the largest tables, 256 MiB; a network that needs larger ones multiplies.
MAX_NUMBERS = 64_000_000


class TabulatedTextCnn:
    """Gives the logits of a TextCNN in evaluation mode, many times as fast.

    A convolution of width w over embeddings is a sum of w products, one a piece, and each depends on nothing but the
    piece and its place in the window: sum_o W_o e(x_{t+o}). All are multiplied out once; a text then costs additions.

    Args:
        model: the network whose answers it gives; later changes of its weights are not seen.
    """

    def __init__(self, model: TextCnn) -> None:
        self.shape, self.output = model.shape, model.output
        with torch.no_grad():
            # Row x w + o of a width's table is W_o e(x): (V, E), (F, E, w) -> (V w, F)
            weights: list[Tensor] = [c.get_parameter("weight") for c in model.convolutions]
            products = [torch.einsum("ve,few->vwf", model.embedding.weight, w) for w in weights]
            self.tables = [p.flatten(end_dim=1).contiguous() for p in products]
            self.bias = torch.cat([c.get_parameter("bias") for c in model.convolutions])

    def __call__(self, input_ids: Tensor, n_pieces: Tensor) -> dict[str, Tensor]:
        """Give ``logits`` (B, n_classes) of (B, S) pieces, as ``TextCnn.forward`` does."""
        pooled = []
        for width, table in zip(self.shape.widths, self.tables, strict=True):
            around = F.pad(input_ids, (width - 1, width - 1))  # piece 0 adds 0
            rows = around.unfold(1, width, 1) * width + torch.arange(width)  # (B, S + w - 1, w)
            position = torch.arange(rows.shape[1])
            behind = position >= (n_pieces + width - 1).unsqueeze(1)  # a window behind the end becomes the first one
            rows = torch.where(behind.unsqueeze(-1), rows[:, :1], rows)
            windows = F.embedding_bag(rows.flatten(end_dim=1), table, mode="sum")
            pooled.append(windows.view(*rows.shape[:2], -1).amax(dim=1))  # (B, F)
        return {"logits": self.output(torch.relu(torch.cat(pooled, dim=1) + self.bias))}


def tabulate(model: TextCnn) -> TabulatedTextCnn | TextCnn:
    """Give the fast twin of a network, or the network itself where the tables would be over ``MAX_NUMBERS``."""
    shape = model.shape
    fits = shape.vocabulary_size * shape.n_filters * sum(shape.widths) <= MAX_NUMBERS
    return TabulatedTextCnn(model) if fits else model
