"""What PLATO-2 gives the loss: hidden states at the learned tokens, without logits of the whole batch."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pege.models.causal import unwrap
from pege.models.plato2.encode import IGNORED


def learned_states(model: Any, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Give the states that meet the output matrix, and the tokens that they should give.

    With ``head_of(model)``'s weight and bias they are what `pege.loss.pege_loss` takes. The call goes through the model
    as it is wrapped, so that data parallelism sees it.

    Args:
        model: a Plato2ForConditionalGeneration, wrapped or not.
        batch: of `pege.models.plato2.encode.collate_samples`, labels (B, S) not shifted.

    Returns:
        States (T, H), after the head's transform, and labels (T,); T learned tokens, in the order of the batch.
    """
    labels = batch["labels"][:, 1:]  # position t learns token t + 1
    learned = labels != IGNORED  # (B, S - 1)
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    plain, caught = unwrap(model), []
    handle = plain.model.register_forward_hook(lambda _m, _i, output: caught.append(output))
    try:
        model(**inputs, use_cache=False, logits_to_keep=1)
    finally:
        handle.remove()
    hidden: Tensor = caught[0].last_hidden_state[:, :-1][learned]  # (T, H)
    return plain.lm_head.states(hidden), labels[learned]
