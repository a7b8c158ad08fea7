"""What one request may change of how an agent decodes."""

from __future__ import annotations

from typing import Annotated, Any, Protocol, Self, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field

MAX_STOPS = 4
_COLDEST = 0.01  # of sampling; logits over less overflow, and the likeliest token is all that is left long before
Stop = Annotated[str, Field(max_length=100)]


class Settings(BaseModel):
    """Settings of one request; what is None is the run's own.

    Attributes:
        max_tokens: tokens of the response; a server has a limit of its own above it.
        temperature: of sampling; 0, and all below 0.01, take the likeliest token each time.
        top_p: share of the probability that is sampled from.
        stop: texts before which the response ends; at most four of at most 100 characters.
        seed: repeats a response, up to the rounding of floating point: a batch of other rows may round otherwise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    max_tokens: int | None = Field(default=None, ge=1, le=100_000)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    stop: tuple[Annotated[Stop, Field(min_length=1)], ...] = Field(default=(), max_length=MAX_STOPS)
    seed: int | None = Field(default=None, ge=0, lt=2**32)

    def again(self) -> Settings:
        """Give the settings of a second try: another seed where there is one."""
        return self if self.seed is None else self.model_copy(update={"seed": (self.seed + 1) % 2**32})

    def over(self, generation: dict[str, Any]) -> dict[str, Any]:
        """Give settings of generation with these over them, by their names in ``GenerationConfig``."""
        found = dict(generation)
        if self.max_tokens is not None:
            found["max_new_tokens"] = self.max_tokens
        if self.top_p is not None:
            found["top_p"] = self.top_p
        if self.temperature is None:
            return found
        if self.temperature < _COLDEST:
            return found | {"do_sample": False, "temperature": None, "top_k": None, "top_p": None}
        return found | {"do_sample": True, "temperature": self.temperature}


@runtime_checkable
class Adjustable(Protocol):
    """An agent that heeds the settings of a request."""

    def with_settings(self, settings: Settings) -> Self:
        """Give the same agent, decoding with these settings; model and tokenizer are shared."""
