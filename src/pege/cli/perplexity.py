"""``pege perplexity``."""

from __future__ import annotations

import json as jsonlib
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

Count = Annotated[int, Parameter(validator=Number(gte=1))]


def perplexity(
    *,
    model: str,
    data: Annotated[tuple[str, ...], Parameter(consume_multiple=True)],
    n_dialogs: Count | None = None,
    seed: int = 0,
    batch_size: Count = 16,
    json: bool = False,
) -> None:
    """Measure the perplexity of the agent's utterances, with the prompt of the model's training.

    Args:
        model: a run, base, or a hub name.
        data: files of rows.
        n_dialogs: at most so many, drawn by the seed.
        seed: of the draw.
        batch_size: samples at once.
        json: print one JSON object.
    """
    from pege.training.measure import measure_perplexity

    found = measure_perplexity(model, data, n_dialogs=n_dialogs, seed=seed, batch_size=batch_size)
    text = "perplexity {perplexity:.2f}  ({n_samples} samples of {n_dialogs} dialogs)\n  {signature}"
    print(jsonlib.dumps(found) if json else text.format(**found))
