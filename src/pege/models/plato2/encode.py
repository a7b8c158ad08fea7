"""One sample of PLATO-2: a context and a response in one sequence, in the original's order (docs/models.md)."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from pege.dialog import Emotion
from pege.errors import InputError
from pege.models.generation import tidy
from pege.models.padding import IGNORED, pad_rows
from pege.models.prompt import system_line
from pege.words import cut_chinese

CONTEXT, RESPONSE = 0, 1  # types
_CHINESE = "\u3000-\u303f\u3400-\u9fff\uf900-\ufaff\uff00-\uffef"
_SPACE_AT_CHINESE = re.compile(f"(?<=[{_CHINESE}]) | (?=[{_CHINESE}])")
Positions = Literal["continuous", "relative"]


@dataclass(frozen=True)
class Sample:
    """A context and a response as S tokens.

    Attributes:
        input_ids: bos, the emotion's line and eos where there is one, each utterance and eos; bos, the response, eos.
            Where the response is to be generated its bos is the last token.
        token_type_ids: 0 in the context, 1 in the response.
        position_ids: see `encode_sample`.
        role_ids: 0 for the side that responds (and for bos and the emotion's line), 1 for the other.
        n_context: tokens of the context.
        n_dropped: utterances dropped from the front to fit.
        emotion: p(positive | u1), p(negative | u1), for a model with ``emotion_embedding``.
    """

    input_ids: list[int]
    token_type_ids: list[int]
    position_ids: list[int]
    role_ids: list[int]
    n_context: int
    n_dropped: int
    emotion: tuple[float, float] | None

    @property
    def labels(self) -> list[int]:
        """The tokens that are learned, the response without its bos; IGNORED elsewhere; not shifted."""
        n = self.n_context + 1
        return [IGNORED] * n + self.input_ids[n:]


def encode_sample(
    tokenizer: Any,
    context: Sequence[str],
    response: str | Sequence[str] | None = None,
    *,
    emotion: Emotion | None = None,
    emotion_text: bool = True,
    positions: Positions = "continuous",
    max_length: int = 512,
    max_response: int = 128,
) -> Sample:
    """Encode utterances and the response to them.

    A context that is too long loses its oldest utterances whole; the newest, where it alone is too long, its beginning;
    a response its end. The emotion's line stays.

    Args:
        tokenizer: of `pege.models.plato2.tokenizer`, or another with bos and eos.
        context: utterances, the newest last.
        response: what is learned, several utterances each with an eos of its own; None where it is to be generated.
        emotion: of the first utterance; None leaves it out.
        emotion_text: whether the emotion is a line ahead of the first utterance; else it is numbers for the embedding.
        positions: ``continuous``: 0, 1, 2, ...; ``relative``: the response counts from 0, the context backwards down
            to ``max_response`` at its end, so that a token's position is its distance.
        max_length: tokens of the sample.
        max_response: tokens of the response, with bos and eos.

    Raises:
        InputError: no utterances; lengths that leave no room for a context.
    """
    if not context:
        raise InputError("no utterances", fix="a context has at least one")
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    lead = [bos]
    if emotion is not None and emotion_text:
        lead += [*text_ids(tokenizer, system_line(emotion)), eos]
    answer = [bos]
    if isinstance(response, str):
        answer += [*text_ids(tokenizer, response)[: max_response - 2], eos]
    elif response is not None:
        answer += [i for u in response for i in (*text_ids(tokenizer, u), eos)][: max_response - 1]
    room = max_length - len(lead) - len(answer)
    if room < 2 or max_response < 3:
        raise InputError(f"no room in {max_length} tokens, {max_response} of the response", fix="raise max_length")
    kept = _newest([[*text_ids(tokenizer, u), eos] for u in context], room)
    n_context = len(lead) + sum(map(len, kept))
    roles = [0] * len(lead)
    for k, ids in enumerate(kept):
        roles += [(len(kept) - k) % 2] * len(ids)
    before = range(n_context)
    if positions == "relative":
        before = range(max_response + n_context - 1, max_response - 1, -1)
    start = n_context if positions == "continuous" else 0
    return Sample(
        input_ids=lead + [i for ids in kept for i in ids] + answer,
        token_type_ids=[CONTEXT] * n_context + [RESPONSE] * len(answer),
        position_ids=[*before, *range(start, start + len(answer))],
        role_ids=roles + [0] * len(answer),
        n_context=n_context,
        n_dropped=len(context) - len(kept),
        emotion=None if emotion is None or emotion_text else (emotion.positive, emotion.negative),
    )


def _newest(utterances: list[list[int]], room: int) -> list[list[int]]:
    """The newest utterances that fit whole; of the very newest at least the end."""
    kept: list[list[int]] = []
    for ids in reversed(utterances):
        if len(ids) > room:
            return kept or [ids[-room:]]
        kept.insert(0, ids)
        room -= len(ids)
    return kept


@functools.lru_cache(maxsize=2**12)  # each response of a dialog has the utterances before it in its context
def text_ids(tokenizer: Any, text: str) -> tuple[int, ...]:
    """Tokens of a person's text: none of them is special, whatever it says (unk aside)."""
    text = " ".join(text.split())
    if tokenizer.init_kwargs.get("jieba"):
        text = " ".join(cut_chinese(text))
    ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    special = set(tokenizer.all_special_ids)
    return tuple(tokenizer.unk_token_id if i in special else i for i in ids)


def text_of(tokenizer: Any, ids: Sequence[int]) -> str:
    """Text of generated tokens: no special ones, no bytes of a character cut off, no spaces of jieba's."""
    text = tidy(tokenizer.decode(ids, skip_special_tokens=True))
    return _SPACE_AT_CHINESE.sub("", text) if tokenizer.init_kwargs.get("jieba") else text


def collate_samples(samples: Sequence[Sample], *, pad_id: int, roles: bool = False) -> dict[str, Tensor]:
    """Pad samples on the right for training: inputs, ``attention_mask`` and ``labels``, (B, S) each."""
    return _collate(samples, pad_id, roles, left=False) | {"labels": pad_rows([s.labels for s in samples], IGNORED)}


def collate_prompts(samples: Sequence[Sample], *, pad_id: int, roles: bool = False) -> dict[str, Tensor]:
    """Pad samples on the left for generation: inputs and ``attention_mask``, (B, S) each.

    Args:
        samples: whose response is to be generated.
        pad_id: of the tokenizer.
        roles: whether the model has them.
    """
    return _collate(samples, pad_id, roles, left=True)


def _collate(samples: Sequence[Sample], pad_id: int, roles: bool, *, left: bool) -> dict[str, Tensor]:
    batch = {
        "input_ids": pad_rows([s.input_ids for s in samples], pad_id, left=left),
        "token_type_ids": pad_rows([s.token_type_ids for s in samples], CONTEXT, left=left),
        "position_ids": pad_rows([s.position_ids for s in samples], 0, left=left),
        "attention_mask": pad_rows([[1] * len(s.input_ids) for s in samples], 0, left=left),
    }
    if roles:
        batch["role_ids"] = pad_rows([s.role_ids for s in samples], 0, left=left)
    if any(s.emotion for s in samples):
        batch["emotion"] = torch.tensor([s.emotion or (0.0, 0.0) for s in samples])  # (B, 2)
    return batch
