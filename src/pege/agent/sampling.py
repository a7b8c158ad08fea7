"""Sampling a token for each row of a batch, each by its own settings; the processors are those of ``generate``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers.generation.logits_process import TopKLogitsWarper

#: settings that are known here; with others ``generate`` has to do it
_WARPERS = ("temperature", "top_k", "top_p", "min_p", "typical_p")  # in the order of ``generate``
_BY_IDS = ("repetition_penalty", "no_repeat_ngram_size", "min_new_tokens")
# what of a generation config has no part in which token is drawn
_NO_PART = ("bos_token_id", "eos_token_id", "pad_token_id", "max_length", "transformers_version", "use_cache")
Processor = Callable[[Tensor, Tensor], Tensor]  # token ids (1, n), scores (1, V) -> scores


@dataclass
class RowSampler:
    """How one row is sampled.

    Attributes:
        generation: names of GenerationConfig; those of ``is_known``.
        prompt: token ids.
        stop_ids: tokens that end it.
        guides: further processors, after those that read the ids and before those that narrow the choice.
        generator: of its random numbers, on the CPU; None is torch's own.
        new: tokens drawn so far.
    """

    generation: dict[str, Any]
    prompt: list[int]
    stop_ids: frozenset[int]
    guides: list[Processor] = field(default_factory=list)
    generator: torch.Generator | None = None
    new: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make the processors that read the ids."""
        self._processors = [*self._by_ids(), *self.guides]

    @property
    def warping(self) -> tuple[float | None, ...] | None:
        """What narrows the choice, in the order of ``generate``; None where the likeliest token is taken."""
        if not self.generation.get("do_sample"):
            return None
        return tuple(self.generation.get(name) for name in _WARPERS)

    def process(self, scores: Tensor) -> Tensor:
        """Scores (V,) after all that is of this row alone."""
        if not self._processors:
            return scores
        ids, found = torch.tensor([self.prompt + self.new], device=scores.device), scores[None]
        for processor in self._processors:
            found = processor(ids, found)
        return found[0]

    def draw(self) -> float:
        """A number of this row's, from [0, 1)."""
        return float(torch.rand((), generator=self.generator, dtype=torch.float64))

    def _by_ids(self) -> list[Processor]:
        import transformers.generation.logits_process as lib

        penalty, size, least = (self.generation.get(name) for name in _BY_IDS)
        found: list[Processor] = []
        if penalty not in (None, 1.0):
            found.append(lib.RepetitionPenaltyLogitsProcessor(penalty=float(penalty)))
        if size:
            found.append(lib.NoRepeatNGramLogitsProcessor(size))
        if least:
            stops = sorted(self.stop_ids)
            found.append(lib.MinNewTokensLengthLogitsProcessor(len(self.prompt), least, torch.tensor(stops)))
        return found


def own_settings(model: Any) -> dict[str, Any]:
    """Give what a model's own generation config sets, which holds where a run says nothing."""
    found: dict[str, Any] = model.generation_config.to_diff_dict()
    return {n: v for n, v in found.items() if v and n not in _NO_PART and not n.startswith(("_", "output_"))}


def is_known(generation: dict[str, Any]) -> bool:
    """Whether these settings of generation are all sampled by here as ``generate`` would."""
    known = {"do_sample", "max_new_tokens", "num_beams", "num_return_sequences", *_WARPERS, *_BY_IDS}
    named = {n for n, v in generation.items() if v is not None}
    return named <= known and generation.get("num_beams") in (None, 1)


def sample(rows: Sequence[RowSampler], logits: Tensor) -> list[int]:
    """Draw a token a row from logits, (B, V), and note it in the row; rows of equal settings are narrowed together.

    Raises:
        ValueError: scores that are no numbers; nothing was drawn then.
    """
    scores = torch.stack([row.process(row_scores) for row, row_scores in zip(rows, logits, strict=True)])
    if not scores.amax(-1).isfinite().all():
        raise ValueError("the model's scores are no numbers")
    tokens = [0] * len(rows)
    for warping in {row.warping for row in rows}:
        members = [k for k, row in enumerate(rows) if row.warping == warping]
        of_these = scores[members]  # (G, V)
        warpers = [] if warping is None else _warpers(warping)
        draws = None if warping is None else [rows[k].draw() for k in members]
        for k, token in zip(members, pick(of_these, warpers, draws), strict=True):
            tokens[k] = token
    for row, token in zip(rows, tokens, strict=True):
        row.new.append(token)
    return tokens


def pick(scores: Tensor, warpers: Sequence[Any], draws: Sequence[float] | None) -> list[int]:
    """Give a token a row of scores, (R, V): the likeliest, or the one at the row's number, drawn from [0, 1).

    Args:
        scores: logits, after all that is of a row alone.
        warpers: of ``generate``; they narrow the choice.
        draws: R numbers; None takes the likeliest tokens.

    Raises:
        ValueError: a row whose scores are no numbers once they are narrowed.
    """
    chosen: Tensor | None = None  # (R, k), once only the likeliest k are left
    for warp in warpers:
        if isinstance(warp, TopKLogitsWarper):
            scores, chosen = scores.topk(min(warp.top_k, scores.shape[1]))
        else:
            scores = warp(None, scores)
    if draws is None:
        return scores.argmax(-1).tolist()
    shares = scores.double().softmax(-1).cumsum(-1)
    points = torch.tensor(draws, dtype=torch.float64, device=scores.device)[:, None] * shares[:, -1:]
    if not shares[:, -1].isfinite().all():
        raise ValueError("the narrowed scores are no numbers")
    places = torch.searchsorted(shares, points, right=True).clamp_(max=shares.shape[1] - 1)  # (R, 1)
    return (places if chosen is None else chosen.gather(1, places))[:, 0].tolist()


@functools.lru_cache(maxsize=256)
def _warpers(warping: tuple[float | None, ...]) -> list[Any]:
    import transformers.generation.logits_process as lib

    temperature, top_k, top_p, min_p, typical_p = warping
    found: list[Any] = []
    if temperature not in (None, 1.0):
        found.append(lib.TemperatureLogitsWarper(float(temperature)))
    if top_k:
        found.append(lib.TopKLogitsWarper(int(top_k)))
    if top_p is not None and top_p < 1:
        found.append(lib.TopPLogitsWarper(float(top_p)))
    if min_p is not None:
        found.append(lib.MinPLogitsWarper(float(min_p)))
    if typical_p is not None and typical_p < 1:
        found.append(lib.TypicalLogitsWarper(float(typical_p)))
    return found
