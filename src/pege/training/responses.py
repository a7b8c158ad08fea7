"""Rows to tensors for models that take one response at a time: PLATO-2, MoEL, MIME (design sec. 6)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from pege.dialog import Dialog, Emotion, Utterance
from pege.errors import InputError
from pege.lexicon import Lexicon
from pege.models.listener_input import collate_listener_samples, encode_listener_sample
from pege.models.plato2.encode import collate_samples, encode_sample
from pege.training.samples import Guidance, collate_guidance, with_guidance

_MAX_RESPONSE = 128  # tokens, the original's
Encode = Callable[[Sequence[Utterance], str | Sequence[str], Emotion | None], Any]


class ResponseSample(Guidance):
    """A context and its response, before padding."""

    input_ids: list[int]  # what the length is measured by
    sample: Any  # of the model's own kind
    n_utterances: int  # c of Eq. 2


def make_response_samples(
    dialogs: Iterable[Dialog],
    encode: Encode,
    lexicon: Lexicon,
    *,
    sides: Literal["agent", "both", "rest"] = "agent",
    count: Literal["utterances", "turns"] = "utterances",
    emotion_input: bool = True,
    only_last: bool = False,
) -> Iterator[ResponseSample]:
    """Give one sample a response. Every dialog carries its emotion.

    Args:
        dialogs: with ``emotion``.
        encode: of `plato2_encoder` or `listener_encoder`.
        lexicon: for u, as in `pege.training.samples.make_samples`.
        sides: ``agent``; ``both``, which learns all but the first utterance; or ``rest``, which learns them in one
            piece, c being 1.
        count: c in utterances, or in turns of two.
        emotion_input: whether the probabilities go into the model.
        only_last: give the last utterance's sample alone.
    """
    for dialog, emotion, guidance in with_guidance(dialogs, lexicon):
        for k in range(1, min(2, len(dialog.messages)) if sides == "rest" else len(dialog.messages)):
            if (sides == "agent" and dialog.messages[k].role == "user") or (only_last and k < len(dialog.messages) - 1):
                continue
            response = dialog.texts[1:] if sides == "rest" else dialog.texts[k]
            sample = encode(dialog.messages[:k], response, emotion if emotion_input else None)
            yield ResponseSample(
                input_ids=sample.input_ids,
                sample=sample,
                n_utterances=k if count == "utterances" else (k + 1) // 2,
                **guidance,
            )


def plato2_encoder(tokenizer: Any, config: Any, *, max_length: int) -> Encode:
    """Give what encodes for PLATO-2: a context and a response in one sequence."""
    n_tokens = min(max_length, config.max_position_embeddings)

    def encode(context: Sequence[Utterance], response: str | Sequence[str], emotion: Emotion | None) -> Any:
        max_response = min(_MAX_RESPONSE, n_tokens // 2) if isinstance(response, str) else n_tokens - n_tokens // 6
        return encode_sample(
            tokenizer,
            [u.content for u in context],
            response,
            emotion=emotion,
            emotion_text=not config.emotion_embedding,
            max_length=n_tokens,
            max_response=max_response,
        )

    return encode


def listener_encoder(tokenizer: Any, config: Any, *, max_length: int) -> Encode:
    """Give what encodes for MoEL and MIME: a context, and a response beside it."""

    def encode(context: Sequence[Utterance], response: str | Sequence[str], emotion: Emotion | None) -> Any:
        if not isinstance(response, str):
            raise InputError("is for PLATO-2 and causal LMs", where="sides: rest", fix="use both")
        return encode_listener_sample(
            tokenizer, context, response, emotion=emotion, max_length=max_length, max_response=_MAX_RESPONSE
        )

    return encode


def collate_responses(samples: Sequence[ResponseSample], *, pad_id: int, roles: bool) -> dict[str, Tensor]:
    """Pad samples into a batch: the model's inputs, ``labels`` and ``n_utterances`` (B, T), u (B, 3), p (B,).

    Args:
        samples: of one kind.
        pad_id: of the tokenizer.
        roles: whether PLATO-2 has them.
    """
    inner = [s["sample"] for s in samples]
    if hasattr(inner[0], "decoder_input_ids"):
        batch = collate_listener_samples(inner, pad_id=pad_id)
    else:
        batch = collate_samples(inner, pad_id=pad_id, roles=roles)
    counts = torch.tensor([s["n_utterances"] for s in samples])
    return batch | {
        "n_utterances": counts[:, None].expand_as(batch["labels"]).contiguous(),
        **collate_guidance(samples),
    }
