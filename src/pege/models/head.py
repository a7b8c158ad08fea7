"""A causal LM's hidden states and its output matrix: what the loss is computed from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pege.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

_N_CHECKED = 9  # tokens of `check_head`


@dataclass(frozen=True)
class Head:
    """What turns hidden states into logits.

    Attributes:
        weight: (V, H).
        bias: (V,) or None.
        softcap: bound of the logits (Gemma), or None.
        scale: hidden states are multiplied by it first (Cohere, Granite); 1 for most.
    """

    weight: Tensor
    bias: Tensor | None
    softcap: float | None
    scale: float

    def logits(self, states: Tensor) -> Tensor:
        """Give the logits of hidden states (..., H): (..., V), float32."""
        import torch

        found: Tensor = torch.nn.functional.linear(states * self.scale, self.weight, self.bias).float()
        return self.softcap * torch.tanh(found / self.softcap) if self.softcap else found


def unwrap(model: Any) -> Any:
    """Give the plain model inside DDP and peft wrappers."""
    while hasattr(model, "module"):
        model = model.module
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def head_of(model: Any) -> Head:
    """Give a causal LM's output matrix and what else shapes its logits; `check_head` tells whether it is all.

    Raises:
        InputError: a model without an output matrix, or with an adapter on it.
    """
    plain = unwrap(model)
    head = plain.get_output_embeddings()
    if head is None:
        raise InputError("has no output matrix", where=type(plain).__name__, fix="name a causal language model")
    if hasattr(head, "base_layer"):
        raise InputError(
            "has an adapter on its output matrix, which the loss reads as it stands",
            where=type(plain).__name__,
            fix="leave it (lm_head) out of lora.target_modules; lora.modules_to_save may name it",
        )
    config = plain.config.get_text_config()
    scale = _number(config, "logit_scale", "lm_head_multiplier") or 1.0
    scale /= _number(config, "logits_scaling") or 1.0
    softcap = _number(config, "final_logit_softcapping", "logits_soft_cap")
    return Head(head.weight, getattr(head, "bias", None), softcap, scale)


def _number(config: Any, *names: str) -> float | None:
    """The first of some fields that a config has and that is not 0."""
    return next((float(value) for n in names if (value := getattr(config, n, None))), None)


def last_hidden_states(model: Any, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """Run a causal LM and give what its output matrix is multiplied with, (B, S, H); see `run_to_head`."""
    hidden: Tensor = run_to_head(model, input_ids=input_ids, attention_mask=attention_mask)[0]
    return hidden


def run_to_head(model: Any, *, at_head: Callable[[Tensor], Any] | None = None, **inputs: Any) -> tuple[Any, Any]:
    """Run a model, and give what its output matrix is multiplied with, (B, S, H), beside what it gives itself.

    Logits are computed for the last position only. The call goes through the model as it is wrapped, so that data
    parallelism sees it.

    Args:
        model: with an output matrix.
        at_head: called with the (B, S, H) where the output matrix is about to be; what it gives stands in their place
            in what is returned. Weights shared out among processes (FSDP) are whole there, and may not be later.
        **inputs: of its ``forward``.

    Raises:
        InputError: a model that does not use its output matrix as a module, once a call.
    """
    caught: list[Any] = []

    def catch(_module: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        caught.append(inputs[0] if at_head is None else at_head(inputs[0]))
        return (inputs[0][:, -1:], *inputs[1:])

    plain = unwrap(model)
    handle = plain.get_output_embeddings().register_forward_pre_hook(catch)
    try:
        output = model(**inputs, use_cache=False)
    finally:
        handle.remove()
    if len(caught) != 1:
        raise InputError(
            f"used its output matrix {len(caught)} times in a call, not once",
            where=type(plain).__name__,
            fix="train another model; on several GPUs start with torchrun",
        )
    return caught[0], output


def check_head(model: Any) -> None:
    """Compare, on a few tokens, a model's own logits with those of `last_hidden_states` and `head_of`.

    The two see different last tokens, so that a model whose earlier positions see what follows is found too.

    Raises:
        InputError: they differ: a loss from hidden states would be silently wrong.
    """
    import torch

    head, plain = head_of(model), unwrap(model)
    middle = torch.arange(_N_CHECKED) + head.weight.shape[0] // 2  # special tokens stand at the ends
    ids = (middle % head.weight.shape[0])[None].to(head.weight.device)  # (1, S)
    other = torch.cat((ids[:, :-1], ids[:, :1]), dim=1)
    mask, is_training = torch.ones_like(ids), plain.training
    plain.eval()
    try:
        with torch.no_grad():
            own = model(input_ids=other, attention_mask=mask, use_cache=False).logits[0, :-1].float()  # (S - 1, V)
            ours = head.logits(last_hidden_states(model, ids, mask)[0, :-1])
    finally:
        plain.train(is_training)
    tolerance = max(4 * torch.finfo(head.weight.dtype).eps, 2e-3)
    if own.shape != ours.shape or not (own - ours).abs().max() <= tolerance * own.abs().max():
        raise InputError(
            "its logits are not its output matrix times what earlier tokens give",
            where=type(plain).__name__,
            fix="train another causal language model",
        )
