"""PLATO-2's responses: sampled in batches, and the best of several candidates (docs/models.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pege.dialog import Context
from pege.errors import InputError
from pege.models.generation import seeded
from pege.models.plato2.encode import Positions, collate_prompts, encode_sample, text_of
from pege.words import guess_language

_PENALTY = 1000.0  # the original's: a candidate with a fault is behind all without one


@dataclass(frozen=True)
class Candidate:
    """One generated response.

    Attributes:
        text: what it says.
        ids: its tokens, without eos.
        log_prob: mean log-probability per token, eos among them.
        is_ended: whether it came to an end by itself.
    """

    text: str
    ids: tuple[int, ...]
    log_prob: float
    is_ended: bool


def respond(model: Any, tokenizer: Any, contexts: Sequence[Context], **how: Any) -> list[str]:
    """Give one response per context: the best of some candidates by `score_candidate`. An empty one is possible.

    The arguments, ``how`` among them, and what is raised are those of `generate_candidates`.
    """
    groups = generate_candidates(model, tokenizer, contexts, **how)
    return [
        max(group, key=lambda c: score_candidate(c, [u.content for u in context.utterances])).text
        for group, context in zip(groups, contexts, strict=True)
    ]


def generate_candidates(
    model: Any,
    tokenizer: Any,
    contexts: Sequence[Context],
    *,
    generation: dict[str, Any],
    n_candidates: int = 1,
    emotion_input: bool = False,
    positions: Positions = "continuous",
    max_response: int = 128,
    seed: int | None = None,
    logits_processor: Sequence[Any] = (),
) -> list[list[Candidate]]:
    """Give ``n_candidates`` per context.

    Args:
        model: a Plato2ForConditionalGeneration.
        tokenizer: of it.
        contexts: a batch.
        generation: names of GenerationConfig, ``max_new_tokens`` among them.
        n_candidates: drawn per context.
        emotion_input: whether the contexts' emotion goes in, as text or as the model's embedding.
        positions: as in training.
        max_response: as in training, for relative positions.
        seed: of the sampling.
        logits_processor: further ones for ``generate``.

    Raises:
        InputError: several candidates without sampling; more new tokens than the model has positions.
    """
    from transformers import GenerationConfig

    if n_candidates > 1 and not generation.get("do_sample"):
        raise InputError("several candidates need sampling", fix="set do_sample, or n_candidates to 1")
    config = model.config
    n_new = int(generation["max_new_tokens"])
    room = config.max_position_embeddings - (n_new if positions == "continuous" else max_response)
    if room < 3 or n_new > config.max_position_embeddings:
        raise InputError(f"max_new_tokens is {n_new}", fix=f"the model has {config.max_position_embeddings} positions")
    samples = [
        encode_sample(
            tokenizer,
            [u.content for u in c.utterances],
            emotion=c.emotion if emotion_input else None,
            emotion_text=not config.emotion_embedding,
            positions=positions,
            max_length=room,
            max_response=max_response,
        )
        for c in contexts
    ]
    batch = collate_prompts(samples, pad_id=tokenizer.pad_token_id, roles=config.role_type_size is not None)
    settings = GenerationConfig(
        **generation,
        num_return_sequences=n_candidates,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        suppress_tokens=model.generation_config.suppress_tokens,
        return_dict_in_generate=True,
        output_logits=True,
    )
    device = model.device
    with seeded(device, seed):
        inputs = {k: v.to(device) for k, v in batch.items()}
        out = model.generate(**inputs, generation_config=settings, logits_processor=list(logits_processor))
    ids = out.sequences[:, batch["input_ids"].shape[1] :]  # (B n, new)
    log_probs = _log_probs(out.logits, ids, settings.suppress_tokens or [])
    found = [_candidate(tokenizer, row, lp) for row, lp in zip(ids.tolist(), log_probs.tolist(), strict=True)]
    return [found[k : k + n_candidates] for k in range(0, len(found), n_candidates)]


def _log_probs(logits: Sequence[Tensor], ids: Tensor, suppressed: list[int]) -> Tensor:
    """Log-probability of each token, (B, new), where those that are never generated have none."""
    columns, never = [], torch.tensor(suppressed, dtype=torch.long, device=ids.device)
    for step, token in zip(logits, ids.unbind(1), strict=True):
        allowed = step.float().index_fill(1, never, -torch.inf)  # (B, V)
        columns.append(allowed.log_softmax(-1).gather(1, token[:, None]))
    return torch.cat(columns, dim=1)


def _candidate(tokenizer: Any, ids: list[int], log_probs: list[float]) -> Candidate:
    eos = tokenizer.eos_token_id
    is_ended = eos in ids
    n = ids.index(eos) if is_ended else len(ids)
    scored = log_probs[: n + is_ended]
    return Candidate(text_of(tokenizer, ids[:n]), tuple(ids[:n]), sum(scored) / len(scored), is_ended)


def score_candidate(candidate: Candidate, context: Sequence[str]) -> float:
    """Rank of a candidate: its mean log-probability, far lower for one with a fault.

    Faults, as the original has them: nothing is said; it was cut off at the limit; three tokens or three units in a row
    occur twice in it; or occur in an utterance of the context. Units are words, characters where it is Chinese.
    """
    language = guess_language(candidate.text)
    said = _triples(_units(candidate.text, language))
    before = {t for u in context for t in _triples(_units(u, language))}
    tokens = _triples(candidate.ids)
    repeats = len(set(said)) < len(said) or len(set(tokens)) < len(tokens)
    is_faulty = not candidate.text or not candidate.is_ended or repeats or not before.isdisjoint(said)
    return candidate.log_prob - _PENALTY * is_faulty


def _units(text: str, language: str) -> list[str]:
    words = text.lower().split()
    return list("".join(words)) if language == "zh" else words


def _triples(units: Sequence[Any]) -> list[tuple[Any, Any, Any]]:
    return list(zip(units, units[1:], units[2:], strict=False))
