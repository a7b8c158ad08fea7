"""Our loss in the Hugging Face Trainer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import Trainer

from pege.errors import InputError
from pege.loss import PegeOutput, pege_loss, target_loss
from pege.models.attention import run_packed, use_packed_attention
from pege.models.causal import OUR_KINDS
from pege.models.head import check_head, head_of, run_to_head, unwrap
from pege.models.padding import IGNORED
from pege.training.config import LossSettings

GUIDANCE = ("labels", "n_utterances", "user_vad", "p_positive", "p_negative")  #: of a batch, not of a model
_MAX_COUNT = 9  # mean ED is logged for c = 1 ... 9; larger ones share the last
_SUMS = ("nll", "peg", "ner", "n_tokens", *(f"{n}_{c}" for n in ("ed", "n_ed") for c in range(1, _MAX_COUNT + 1)))


class PegeTrainer(Trainer):  # type: ignore[misc]
    """A Trainer whose loss is Eq. 5, computed from hidden states by the fused kernel.

    Batches are those of `pege.training.samples.collate` or `pege.training.responses.collate_responses`.
    With ``alpha = beta = 0`` it is a plain NLL trainer; MoEL's and MIME's losses of the emotion are added. Logged
    besides what the Trainer logs: ``nll``, ``peg``, ``ner``, and ``ed_1``, ``ed_3``, ... the mean distance by c.

    A causal LM reads the dialogs of a batch without their padding wherever it can (`pege.models.attention`); ``packs``
    tells, and turns it off.

    Args:
        token_vad: O, (V, 3) in [0, 1], V the rows of the model's output matrix.
        loss: kind and weights.
        positive_vad: anchor of PEGE-target, (3,); needed for ``loss.kind == "target"`` only.
        *args: of the Trainer.
        **kwargs: of the Trainer.

    Raises:
        InputError: a model whose logits are not made as the loss takes them (`pege.models.head.check_head`); FSDP on
            CPUs.
    """

    def __init__(
        self,
        *args: Any,
        token_vad: NDArray[np.float32],
        loss: LossSettings,
        positive_vad: NDArray[np.float64] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if self.args.fsdp and not self.is_fsdp_enabled:  # accelerate would train with whole weights, and not say so
            raise InputError("weights are shared out among GPUs only", where="training.fsdp", fix="leave it out")
        self.packs = False
        if unwrap(self.model).config.model_type not in OUR_KINDS:  # theirs are tested, and PLATO-2 reads both ways
            check_head(self.model)
            self.packs = use_packed_attention(unwrap(self.model))
        self.model_accepts_loss_kwargs = True  # so that the tokens of the global batch are counted for us
        self.token_vad = torch.as_tensor(token_vad, device=self.args.device)
        self.positive_vad = None if positive_vad is None else torch.as_tensor(positive_vad, dtype=torch.float32)
        self.loss_settings = loss
        self._sums = torch.zeros(len(_SUMS), dtype=torch.float64, device=self.args.device)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Give the loss over the tokens of the global batch; see `transformers.Trainer.compute_loss`."""
        out, extra = self._run(model, inputs, num_items_in_batch)
        loss = out.loss
        if extra is not None:
            loss = loss + extra / self.args.gradient_accumulation_steps
        if model.training:
            self._collect(out, inputs, num_items_in_batch)
            if num_items_in_batch is not None and self.args.average_tokens_across_devices:
                loss = loss * self.accelerator.num_processes  # gradients are averaged over processes
        return (loss, {"nll": out.nll.detach()}) if return_outputs else loss

    def _run(
        self, model: Any, inputs: dict[str, Tensor], num_items_in_batch: Tensor | int | None
    ) -> tuple[PegeOutput, Tensor | None]:
        """Our loss, and what MoEL and MIME learn besides: the emotion, a KL (means over the batch)."""
        own = {k: v for k, v in inputs.items() if k not in GUIDANCE}

        def at_head(hidden: Tensor) -> PegeOutput:
            with torch.autocast(hidden.device.type, enabled=False):
                return self._guided_loss(model, hidden, inputs, num_items_in_batch)

        if self.packs:
            return run_packed(model, at_head=at_head, **own), None
        out, output = run_to_head(model, at_head=at_head, **own)
        terms = [t for name in ("emotion_loss", "kl") if (t := getattr(output, name, None)) is not None]
        return out, torch.stack(terms).sum() if terms else None

    def _guided_loss(
        self, model: Any, hidden: Tensor, inputs: dict[str, Tensor], num_items_in_batch: Tensor | int | None
    ) -> PegeOutput:
        labels = inputs["labels"][:, 1:]  # position t learns token t + 1
        learned = labels != IGNORED  # (B, S - 1)
        row = learned.nonzero()[:, 0]  # (T,), the dialog each learned token belongs to
        head, settings = head_of(model), self.loss_settings
        states = hidden[:, :-1][learned]  # (T, H)
        common: dict[str, Any] = {
            "token_vad": self.token_vad,
            "user_vad": inputs["user_vad"][row],  # (T, 3)
            "p_positive": inputs["p_positive"][row],
            "n_utterances": inputs["n_utterances"][:, 1:][learned],
            "alpha": settings.alpha,
            "period": settings.period,
            "bias": head.bias,
            "softcap": head.softcap,
            "num_items_in_batch": num_items_in_batch,
        }
        if head.scale != 1:
            states = states * head.scale
        if settings.kind == "target":
            if self.positive_vad is None:
                raise InputError("PEGE-target needs positive_vad", fix="give pege.lexicon.positive_anchor(lexicon)")
            return target_loss(states, head.weight, labels[learned], positive_vad=self.positive_vad, **common)
        p_negative = inputs["p_negative"][row]
        return pege_loss(states, head.weight, labels[learned], p_negative=p_negative, beta=settings.beta, **common)

    def _collect(self, out: PegeOutput, inputs: dict[str, Tensor], num_items_in_batch: Tensor | int | None) -> None:
        """Add up a step's terms until the next log, on the device: nothing waits for them."""
        terms = torch.stack([out.nll, out.peg, out.ner]).detach().double()
        divisor = max(out.n_tokens, 1) if num_items_in_batch is None else num_items_in_batch
        learned = inputs["labels"][:, 1:] != IGNORED
        counts = inputs["n_utterances"][:, 1:][learned].clamp(max=_MAX_COUNT) - 1  # (T,)
        by_count = torch.zeros(2, _MAX_COUNT, dtype=torch.float64, device=counts.device)
        by_count[0].index_add_(0, counts, out.ed.double())
        by_count[1].index_add_(0, counts, torch.ones_like(out.ed, dtype=torch.float64))
        n_tokens = torch.tensor([out.n_tokens], dtype=torch.float64, device=counts.device)
        self._sums += torch.cat((terms * divisor, n_tokens, by_count.flatten()))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, with our terms averaged over the tokens since the last log."""
        if "loss" in logs:
            # the same names in the same order on every process, whatever counts its dialogs had
            found = dict(zip(_SUMS, self.accelerator.reduce(self._sums).tolist(), strict=True))
            logs |= {n: found[n] / max(found["n_tokens"], 1) for n in ("nll", "peg", "ner")}
            logs |= {
                f"ed_{c}": found[f"ed_{c}"] / found[f"n_ed_{c}"] for c in range(1, _MAX_COUNT + 1) if found[f"n_ed_{c}"]
            }
            self._sums = torch.zeros_like(self._sums)
        super().log(logs, start_time)

    def prediction_step(
        self, model: Any, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Evaluate one batch: sums of the NLL and the number of tokens, so that perplexity is per token."""
        model.eval()
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            out, _ = self._run(model, inputs, None)
        total = out.nll.double() * out.n_tokens
        sums = torch.stack((total, torch.full_like(total, out.n_tokens)))[None]  # (1, 2), where the loss is
        return out.loss.detach(), sums, sums


def perplexity(prediction: Any) -> dict[str, float]:
    """Metric for the Trainer: mean NLL per response token and its exponential."""
    total, n_tokens = np.asarray(prediction.predictions).sum(axis=0)
    nll = float(total / max(n_tokens, 1))
    return {"nll": nll, "perplexity": math.exp(min(nll, 700))}
