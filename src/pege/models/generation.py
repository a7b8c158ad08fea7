"""What every generation here shares: settings, checked before a model is loaded; the seed; the text that comes out."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pege.errors import InputError, did_you_mean

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class _Range:
    """Of a number: from ``low`` (itself only where ``with_low``) to ``high``."""

    low: float
    high: float = math.inf
    with_low: bool = True
    is_whole: bool = False

    def why_not(self, value: Any) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int if self.is_whole else (int, float)):
            return f"is no {'whole ' if self.is_whole else ''}number"
        if (value > self.low or (self.with_low and value == self.low)) and value <= self.high and value != math.inf:
            return None
        above = f"{'at least' if self.with_low else 'above'} {self.low:g}"
        return f"is not {above}" + (f" and at most {self.high:g}" if self.high < math.inf else "")


#: what transformers' own processors take, and ``max_tokens`` of an endpoint; top_k 0 turns it off
_RANGES = {
    "temperature": _Range(0, with_low=False),
    "top_p": _Range(0, 1, with_low=False),
    "min_p": _Range(0, 1),
    "typical_p": _Range(0, 1, with_low=False),
    "top_k": _Range(0, is_whole=True),
    "max_new_tokens": _Range(1, is_whole=True),
    "max_tokens": _Range(1, is_whole=True),
    "min_new_tokens": _Range(0, is_whole=True),
    "repetition_penalty": _Range(0, with_low=False),
    "no_repeat_ngram_size": _Range(0, is_whole=True),
    "num_beams": _Range(1, is_whole=True),
    "num_return_sequences": _Range(1, is_whole=True),
}
#: what an agent sets itself
_OWN = ("eos_token_id", "pad_token_id", "return_dict_in_generate")


def check_generation(settings: Mapping[str, Any], *, known: frozenset[str] | None = None) -> None:
    """Check settings of generation; None stands for one that is not set.

    Args:
        settings: by their names in ``transformers.GenerationConfig``, or in an endpoint's request.
        known: the names there are; None where the receiver decides.

    Raises:
        InputError: an unknown name, one that pege sets itself, a value out of its range.
    """
    for name, value in settings.items():
        if known is not None and name not in known:
            raise InputError(f"unknown generation setting {name!r}", fix=did_you_mean(name, known))
        if name in _OWN and value is not None:
            raise InputError("is set by pege itself", where=f"generation.{name}", fix="leave it out")
        problem = _RANGES[name].why_not(value) if name in _RANGES and value is not None else None
        if problem:
            raise InputError(f"{value!r} {problem}", where=f"generation.{name}")


def local_names() -> frozenset[str]:
    """Names that a local model's generation knows."""
    from transformers import GenerationConfig

    return frozenset(vars(GenerationConfig()))


@contextlib.contextmanager
def seeded(device: torch.device, seed: int | None) -> Iterator[None]:
    """Sample without gradients from a seed of one's own; torch's generators are afterwards as they were."""
    import torch

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.inference_mode():
        if seed is not None:
            torch.manual_seed(seed)
        yield


def tidy(text: str) -> str:
    """Give generated text with single spaces, without the bytes of a character that was cut off."""
    return " ".join(text.replace("\ufffd", " ").split())
