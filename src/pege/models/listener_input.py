"""A context and a response as tokens for MoEL and MIME (docs/models.md): who speaks stands beside each token."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pege.dialog import Emotion, Utterance
from pege.errors import InputError
from pege.models.padding import IGNORED, pad_rows

QUERY, USER, AGENT = "<|query|>", "<|user|>", "<|agent|>"  # the originals' CLS, USR and SYS


@dataclass(frozen=True)
class ListenerSample:
    """A context of S tokens and a response of T.

    Attributes:
        input_ids: (S,), the utterances one behind the other, without the query token.
        role_ids: (S,), 0 where the user speaks, 1 where the agent.
        decoder_input_ids: (T,), bos and the response; bos alone where it is to be generated.
        labels: (T,), what each position of the response is, as in other causal models: not shifted, nothing at bos; the
            response ends with eos.
        emotion: p(negative), p(neutral), p(positive) of the first utterance.
    """

    input_ids: list[int]
    role_ids: list[int]
    decoder_input_ids: list[int]
    labels: list[int]
    emotion: tuple[float, float, float] | None


def add_listener_tokens(tokenizer: Any) -> dict[str, Any]:
    """Give a tokenizer the three tokens of these models, and what their configs say of all special ones.

    Args:
        tokenizer: with bos, eos and unk; changed in place where it lacks the tokens.

    Raises:
        InputError: a tokenizer without bos or eos.
    """
    if tokenizer.bos_token_id is None or tokenizer.eos_token_id is None:
        raise InputError("the tokenizer has no bos or no eos", fix="make one with `pege tokenizer`")
    tokenizer.add_special_tokens({"additional_special_tokens": [QUERY, USER, AGENT]})
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in (QUERY, USER, AGENT)}
    return {
        "vocab_size": len(tokenizer),
        "unk_token_id": tokenizer.unk_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "decoder_start_token_id": tokenizer.bos_token_id,
        "query_token_id": ids[QUERY],
        "role_token_ids": [ids[USER], ids[AGENT]],
    }


def encode_listener_sample(
    tokenizer: Any,
    context: Sequence[Utterance],
    response: str | None = None,
    *,
    emotion: Emotion | None = None,
    max_length: int = 512,
    max_response: int = 128,
) -> ListenerSample:
    """Encode utterances and the response to them.

    Args:
        tokenizer: after `add_listener_tokens`.
        context: utterances, the newest last.
        response: what is learned; None where it is to be generated.
        emotion: of the first utterance.
        max_length: tokens of the context; a longer one loses its oldest utterances, the newest its beginning.
        max_response: tokens of the response, bos and eos included; a longer one loses its end.

    Raises:
        InputError: no utterances.
    """
    if not context:
        raise InputError("no utterances", fix="a context has at least one")
    ids: list[int] = []
    roles: list[int] = []
    for utterance in reversed(context):
        said = _text_ids(tokenizer, utterance.content)
        if ids and len(ids) + len(said) > max_length:
            break
        ids = [*said[-max_length:], *ids]
        roles = [int(utterance.role == "assistant")] * min(len(said), max_length) + roles
    answer = [tokenizer.bos_token_id]
    labels = [IGNORED]
    if response is not None:
        said = _text_ids(tokenizer, response)[: max_response - 2]
        answer, labels = [*answer, *said, tokenizer.eos_token_id], [*labels, *said, tokenizer.eos_token_id]
    found = None if emotion is None else (emotion.negative, emotion.neutral, emotion.positive)
    return ListenerSample(ids, roles, answer, labels, found)


@functools.lru_cache(maxsize=2**12)  # each response of a dialog has the utterances before it in its context
def _text_ids(tokenizer: Any, text: str) -> tuple[int, ...]:
    """Tokens of a person's text, none of them special."""
    plain = " ".join(text.split())
    ids: list[int] = tokenizer(plain, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return tuple(ids)


def collate_listener_samples(samples: Sequence[ListenerSample], *, pad_id: int) -> dict[str, Tensor]:
    """Pad samples on the right: inputs (B, S), response (B, T), ``emotion`` (B, 3) where all have one."""
    batch = {
        "input_ids": pad_rows([s.input_ids for s in samples], pad_id),
        "attention_mask": pad_rows([[1] * len(s.input_ids) for s in samples], 0),
        "role_ids": pad_rows([s.role_ids for s in samples], 0),
        "decoder_input_ids": pad_rows([s.decoder_input_ids for s in samples], pad_id),
        "labels": pad_rows([s.labels for s in samples], IGNORED),
    }
    if all(s.emotion for s in samples):
        batch["emotion"] = torch.tensor([s.emotion for s in samples], dtype=torch.float32)
    return batch
