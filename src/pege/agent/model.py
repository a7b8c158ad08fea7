"""What all agents with a model of their own share."""

from __future__ import annotations

import copy
import functools
from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any, Self

from pege.agent.settings import Settings
from pege.dialog import Context
from pege.errors import InputError
from pege.models.generation import check_generation
from pege.words import guess_language

if TYPE_CHECKING:
    from torch import Tensor

    from pege.agent.guided import Guide

# Sampling from the 20 likeliest tokens, as the released decoders of PLATO-2 do, a little cooler than 1.
GENERATION: dict[str, Any] = {"do_sample": True, "top_k": 20, "temperature": 0.9, "max_new_tokens": 40}
FALLBACK = {"en": "I see.", "zh": "嗯。"}


class ModelAgent(ABC):
    """An agent that never says nothing; a kind of model gives ``_generate``.

    Args:
        name: what logs and rows call it.
        model: a Hugging Face model.
        tokenizer: its tokenizer.
        emotion_input: whether p(positive | u1) and p(negative | u1) go in, as in its training.
        generation: names of GenerationConfig; over the defaults of this module.
        keep_cache: whether a call may keep what the next one, with the same dialogs a turn later, need not read again.
        guide: guidance while decoding; none unless given.

    Raises:
        InputError: a setting of generation out of its range; candidates of a model that does not rank them.
    """

    ranks = False  # whether it says the best of ``num_return_sequences`` candidates

    def __init__(
        self,
        name: str,
        model: Any,
        tokenizer: Any,
        *,
        emotion_input: bool = False,
        generation: dict[str, Any] | None = None,
        keep_cache: bool = False,
        guide: Guide | None = None,
    ) -> None:
        self.guide = guide
        self.name, self.model, self.tokenizer = name, model, tokenizer
        self.emotion_input, self.keep_cache = emotion_input, keep_cache
        self.generation = GENERATION | (generation or {})
        check_generation(self.generation)
        if not self.ranks and self.generation.get("num_return_sequences", 1) != 1:
            raise InputError(
                "only PLATO-2 ranks candidates", where="generation.num_return_sequences", fix="leave it out"
            )
        self.n_fallbacks = 0

    def respond(self, contexts: Sequence[Context], *, seed: int | None = None) -> list[str]:
        """Give one response per context. An empty one is drawn once more, then replaced by a fixed one and counted."""
        responses = self._generate(contexts, seed, keep_cache=self.keep_cache)
        empty = [k for k, r in enumerate(responses) if not r]
        if empty:
            again = self._generate([contexts[k] for k in empty], None if seed is None else seed + 1)
            for k, response in zip(empty, again, strict=True):
                responses[k] = response or self.fall_back(contexts[k])
        return responses

    def fall_back(self, context: Context) -> str:
        """Give, and count, what is said where the model says nothing twice."""
        self.n_fallbacks += 1
        return FALLBACK[guess_language(context.utterances[-1].content)]

    def stream(self, context: Context, *, seed: int | None = None) -> Generator[str]:
        """Give the response to one context in pieces; here in one."""
        yield self.respond([context], seed=seed)[0]

    def with_settings(self, settings: Settings) -> Self:
        """Give the same agent, decoding with a request's settings; model and tokenizer are shared."""
        if self.guide is not None:
            _ = self._token_vad  # read once, for all copies
        changed = copy.copy(self)
        changed.generation = settings.over(self.generation)
        return changed

    def processors(self, contexts: Sequence[Context]) -> dict[str, Any]:
        """What ``generate`` is given for guided decoding; nothing without a guide."""
        if self.guide is None:
            return {}
        from pege.agent.guided import GuidedLogits

        return {"logits_processor": [GuidedLogits(self.guide, contexts, self._token_vad)]}

    @functools.cached_property
    def _token_vad(self) -> Tensor:
        """What a guide needs of the lexicon, (V, 3): read at the first response, kept for the others."""
        from pege.agent.guided import guide_table

        assert self.guide is not None
        return guide_table(self.guide, self.tokenizer, self.model.get_output_embeddings().weight.shape[0])

    @abstractmethod
    def _generate(self, contexts: Sequence[Context], seed: int | None, *, keep_cache: bool = False) -> list[str]:
        """Give one response per context; an empty one is possible."""
