"""PLATO-2 as an agent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pege.agent.generate import FALLBACK, GENERATION
from pege.dialog import Context
from pege.io import read_yaml
from pege.models.causal import fast_dtype, load_causal
from pege.models.plato2 import Plato2ForConditionalGeneration
from pege.models.plato2.encode import Positions
from pege.models.plato2.generate import respond
from pege.words import guess_language


class Plato2Agent:
    """A PLATO-2 that responds, whichever side is next; the best of several candidates where more than one is drawn.

    Args:
        name: what logs and rows call it.
        model: a Plato2ForConditionalGeneration.
        tokenizer: its tokenizer.
        emotion_input: whether p(positive | u1) and p(negative | u1) go in, as in its training.
        generation: names of GenerationConfig; over the defaults of `pege.agent.generate`.
        n_candidates: drawn per response.
        positions: as in its training.
    """

    def __init__(
        self,
        name: str,
        model: Plato2ForConditionalGeneration,
        tokenizer: Any,
        *,
        emotion_input: bool = False,
        generation: dict[str, Any] | None = None,
        n_candidates: int = 1,
        positions: Positions = "continuous",
    ) -> None:
        self.name, self.model, self.tokenizer = name, model, tokenizer
        self.emotion_input, self.n_candidates = emotion_input, n_candidates
        self.positions: Positions = positions
        self.generation = GENERATION | (generation or {})
        self.n_fallbacks = 0

    def respond(self, contexts: Sequence[Context], *, seed: int | None = None) -> list[str]:
        """Give one response per context. An empty one is replaced by a fixed one and counted."""
        responses = respond(
            self.model,
            self.tokenizer,
            contexts,
            generation=self.generation,
            n_candidates=self.n_candidates,
            emotion_input=self.emotion_input,
            positions=self.positions,
            seed=seed,
        )
        self.n_fallbacks += sum(not r for r in responses)
        return [
            r or FALLBACK[guess_language(c.utterances[-1].content)] for r, c in zip(responses, contexts, strict=True)
        ]


def load_plato2_agent(
    spec: str, *, generation: dict[str, Any] | None = None, dtype: str = "fast", n_candidates: int = 1
) -> Plato2Agent:
    """Load a run or a converted folder as an agent; a run brings its own generation settings.

    Raises:
        InputError: no such model.
    """
    model, tokenizer = load_causal(spec, dtype=fast_dtype() if dtype == "fast" else dtype)
    run = read_yaml(Path(spec) / "config.yaml") if (Path(spec) / "config.yaml").is_file() else {}
    return Plato2Agent(
        spec,
        model,
        tokenizer,
        emotion_input=bool(run.get("emotion_input", False)),
        generation=run.get("generation", {}) | (generation or {}),
        n_candidates=n_candidates,
    )
