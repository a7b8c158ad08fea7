"""ERNIE-TextCNN, the paper's classifier: the TextCNN head over the last hidden states of any Hugging Face encoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from pege.emotion.textcnn import TextCnnHead, TextCnnShape
from pege.errors import InputError


class EncoderTextCnn(TextCnnHead):
    """The head over an encoder.

    Args:
        encoder: what ``AutoModel`` gives: ids and mask to ``last_hidden_state``.
        shape: its sizes; the embedding size is that of the hidden states.
        dropout: share of the pooled features dropped in training.
        is_frozen: whether training leaves the encoder as it is.
    """

    def __init__(
        self, encoder: nn.Module, shape: TextCnnShape, *, dropout: float = 0.5, is_frozen: bool = False
    ) -> None:
        super().__init__(shape, dropout=dropout)
        self.encoder = encoder
        self.is_frozen = is_frozen
        encoder.requires_grad_(not is_frozen)

    def train(self, mode: bool = True) -> EncoderTextCnn:
        """Set training mode; a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self.is_frozen:
            self.encoder.eval()
        return self

    def forward(self, input_ids: Tensor, n_pieces: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Give what ``classify`` gives for (B, S) int64 pieces, with the encoder's special ones."""
        in_text = torch.arange(input_ids.shape[1], device=input_ids.device) < n_pieces.unsqueeze(1)  # (B, S)
        hidden = self.encoder(input_ids=input_ids, attention_mask=in_text.long()).last_hidden_state  # (B, S, E)
        return self.classify(hidden.masked_fill(~in_text.unsqueeze(-1), 0.0), n_pieces, labels)


def read_encoder(name: str) -> tuple[Any, Tokenizer]:
    """Read an encoder and its fast tokenizer, by a folder or the name of a hub.

    Raises:
        InputError: nothing there, no encoder, or a tokenizer that the library ``tokenizers`` does not know.
    """
    from transformers import AutoModel, AutoTokenizer

    fix = "name a folder of `save_pretrained`, or a model of a hub that can be reached"
    try:
        encoder = AutoModel.from_pretrained(name, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as e:
        raise InputError(f"no encoder could be read ({str(e).splitlines()[0]})", where=name, fix=fix) from e
    if encoder.config.is_encoder_decoder:
        raise InputError(
            "encodes and decodes; only an encoder is needed", where=name, fix="name BERT, ERNIE or the like"
        )
    if not tokenizer.is_fast:
        raise InputError("has no fast tokenizer", where=name, fix="save its tokenizer as tokenizer.json")
    return encoder, Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())


def encoder_config(encoder: nn.Module) -> dict[str, Any]:
    """Give the Hugging Face config of an encoder as JSON, without where it came from."""
    config: dict[str, Any] = json.loads(encoder.config.to_json_string(use_diff=True))  # type: ignore[operator, union-attr]
    return {k: v for k, v in config.items() if not k.startswith("_") and k not in ("transformers_version", "dtype")}


def build_encoder(config: dict[str, Any], *, where: Path) -> nn.Module:
    """Give an encoder with random weights; nothing is read and no code but that of transformers is run.

    Raises:
        InputError: a config of no encoder that transformers knows.
    """
    from transformers import AutoConfig, AutoModel

    rest = {k: v for k, v in config.items() if k not in ("model_type", "auto_map")}
    try:
        built: nn.Module = AutoModel.from_config(AutoConfig.for_model(config.get("model_type", ""), **rest))
    except (ValueError, TypeError, KeyError) as e:
        raise InputError(f"no encoder that transformers knows ({str(e).splitlines()[0]})", where=where) from e
    return built


def special_pieces(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Give the pieces that a tokenizer sets before and behind a text, e.g. [CLS] and [SEP]."""
    text = "a"
    bare = tokenizer.encode(text, add_special_tokens=False).ids
    framed = tokenizer.encode(text, add_special_tokens=True).ids
    starts = [k for k in range(len(framed) - len(bare) + 1) if framed[k : k + len(bare)] == bare]
    if not bare or not starts:
        return [], []
    return framed[: starts[0]], framed[starts[0] + len(bare) :]
