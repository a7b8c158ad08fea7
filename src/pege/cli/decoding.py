"""Flags of every command that lets agents speak: how they decode."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

if TYPE_CHECKING:
    from pege.agent import Agent
    from pege.dialog import Role


@dataclass(frozen=True)
class Decoding:
    """How agents decode. What is not named is the model's own, or `pege.agent.model`'s default."""

    temperature: float | None = None
    """Of generation."""
    top_k: int | None = None
    """Of generation; 1 takes the likeliest token."""
    top_p: float | None = None
    """Of generation."""
    max_new_tokens: int | None = None
    """Of generation."""
    dtype: Literal["fast", "auto", "float32", "bfloat16", "float16"] = "fast"
    """Of the weights: fast (bfloat16 where the machine multiplies it in hardware), auto, or a type."""
    guide: Annotated[float | None, Parameter(validator=Number(gte=0))] = None
    """Guide the agent while it decodes, with this strength (docs/selfchat.md)."""
    guide_lexicon: str = "pege"
    """Of the guide: one of ours or a file."""

    def generation(self) -> dict[str, Any]:
        """Give the settings of generation that are named, checked.

        Raises:
            InputError: one out of its range.
        """
        from pege.models.generation import check_generation

        names = ("temperature", "top_k", "top_p", "max_new_tokens")
        named = {n: v for n in names if (v := getattr(self, n)) is not None}
        check_generation(named)
        return named

    def settings(self) -> dict[str, Any]:
        """Give all that what is said depends on, for ``OUTPUT.run.json``."""
        guide = {} if self.guide is None else {"guide": self.guide, "guide_lexicon": self.guide_lexicon}
        return {"dtype": self.dtype, "generation": self.generation(), **guide}

    def load(self, spec: str, role: Role = "assistant") -> Agent:
        """Load an agent that decodes so; a user is never guided. The key of an endpoint is in OPENAI_API_KEY."""
        from pege.agent import load_agent
        from pege.agent.guided import Guide
        from pege.lexicon import load_lexicon

        is_guided = self.guide is not None and role == "assistant"
        return load_agent(
            spec,
            role=role,
            generation=self.generation(),
            dtype=self.dtype,
            api_key=os.environ.get("OPENAI_API_KEY"),
            keep_cache=True,
            guide=Guide(load_lexicon(self.guide_lexicon), self.guide or 0.0) if is_guided else None,
        )
