"""Tokens per second of PLATO-2 beside GPT-2 of equal parameters (transformers), in training and in generation.

    python benchmarks/models.py [--size 12L] [--repeats 5] [--output docs/results/bench-models.md]

Both models take the same batch, and take turns in the same run, so that a noisy machine disturbs them alike; the
figure is the median, the ratio PLATO-2's over GPT-2's: 1 and above is as fast. GPT-2 gets PLATO-2's hidden size, heads,
positions and vocabulary; its feed-forward is widened by what PLATO-2's head has more. Training is forward, NLL over the
response, backward, without an optimizer; once from all logits, as in GPT-2, and once as `PegeTrainer` does it, with the
fused loss, which makes logits of the response only. Generation is greedy, with a KV cache, and always as many tokens as
asked for.
"""

from __future__ import annotations

import os
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from cyclopts import App, Parameter
from rows import processor, show
from timing import Step, time_steps
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel

from pege.loss import pege_loss
from pege.models.head import head_of, run_to_head
from pege.models.plato2 import Plato2Config, Plato2ForConditionalGeneration


@dataclass(frozen=True)
class Load:
    """What both models work on: B dialogs, their context, their response."""

    n_dialogs: int
    n_context: int
    n_response: int


FUSED = "PLATO-2, fused loss"
LOADS = {"tiny": Load(2, 8, 4), "mini": Load(8, 96, 32), "12L": Load(8, 96, 32)}


def make_models(size: str) -> dict[str, Any]:
    """PLATO-2 of a size, and GPT-2 of as many parameters."""
    torch.manual_seed(0)
    plato = Plato2ForConditionalGeneration(Plato2Config.of_size(size))
    config = plato.config

    def gpt2(n_inner: int) -> GPT2LMHeadModel:
        return GPT2LMHeadModel(
            GPT2Config(
                vocab_size=config.vocab_size, n_embd=config.hidden_size, n_layer=config.num_hidden_layers,
                n_head=config.num_attention_heads, n_positions=config.max_position_embeddings, n_inner=n_inner,
                activation_function="gelu", bos_token_id=1, eos_token_id=2, pad_token_id=0,
            )
        )  # fmt: skip

    with torch.device("meta"):
        lacking = plato.num_parameters() - gpt2(config.intermediate_size).num_parameters()
    more = round(lacking / (config.num_hidden_layers * (2 * config.hidden_size + 1)))
    return {"PLATO-2": plato, "GPT-2": gpt2(config.intermediate_size + more)}


def make_steps(models: dict[str, Any], load: Load) -> dict[tuple[str, str], Step]:
    """A training step and a generation per model, on the same random ids."""
    g = torch.Generator().manual_seed(0)
    n = load.n_context + load.n_response
    ids = torch.randint(3, models["PLATO-2"].config.vocab_size - 1, (load.n_dialogs, n), generator=g)
    types = (torch.arange(n) >= load.n_context).long().expand_as(ids)
    labels = ids.masked_fill(types == 0, -100)
    mask = torch.ones_like(ids)
    inputs = {name: {"input_ids": ids, "attention_mask": mask} for name in models}
    inputs["PLATO-2"]["token_type_ids"] = types
    settings = GenerationConfig(
        do_sample=False, max_new_tokens=load.n_response, min_new_tokens=load.n_response, pad_token_id=0, eos_token_id=2
    )

    def train(name: str) -> Step:
        def step() -> None:
            models[name].train().zero_grad(set_to_none=True)
            models[name](**inputs[name], labels=labels).loss.backward()

        return step

    def generate(name: str) -> Step:
        prompt = {k: v[:, : load.n_context + 1] for k, v in inputs[name].items()}

        def step() -> None:
            models[name].eval()
            with torch.inference_mode():
                models[name].generate(**prompt, generation_config=settings)

        return step

    def train_fused() -> None:
        plato = models["PLATO-2"]
        plato.train().zero_grad(set_to_none=True)
        hidden, _ = run_to_head(plato, **inputs["PLATO-2"])
        learned = labels[:, 1:] != -100
        states = hidden[:, :-1][learned]  # (T, H)
        ones, head = torch.ones(len(states)), head_of(plato)
        out = pege_loss(
            states, head.weight, labels[:, 1:][learned], bias=head.bias, alpha=0.0, beta=0.0, n_utterances=ones,
            token_vad=torch.zeros(head.weight.shape[0], 3), user_vad=torch.zeros(len(states), 3), p_positive=ones,
            p_negative=ones,
        )  # fmt: skip
        out.loss.backward()

    steps = {("training", name): train(name) for name in models} | {("training", FUSED): train_fused}
    return steps | {("generation", name): generate(name) for name in models}


def table(size: str, repeats: int) -> str:
    """All figures as one Markdown table."""
    models, load = make_models(size), LOADS[size]
    times = time_steps(make_steps(models, load), repeats)
    n_tokens = {
        "training": load.n_dialogs * (load.n_context + load.n_response),  # all that are read
        "generation": load.n_dialogs * load.n_response,  # those that are new
    }
    lines = [
        f"{processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}, transformers {transformers.__version__}, float32, median of {repeats}; "
        f"size {size}, {load.n_dialogs} dialogs, context {load.n_context}, response {load.n_response} tokens",
        "",
        "| work | model | parameters | tokens/s | spread (min - max) | ratio to GPT-2 |",
        "|---|---|---|---|---|---|",
    ]
    for (kind, name), seconds in times.items():
        rates = sorted(n_tokens[kind] / s for s in seconds)
        ratio = statistics.median(times[kind, "GPT-2"]) / statistics.median(seconds)
        lines.append(
            f"| {kind} | {name} | {models[name.partition(',')[0]].num_parameters() / 1e6:.2f} M "
            f"| {n_tokens[kind] / statistics.median(seconds):.0f} | {rates[0]:.0f} - {rates[-1]:.0f} | {ratio:.2f} |"
        )
    return "\n".join(lines) + "\n"


app = App(help="Tokens per second of PLATO-2 beside GPT-2.", default_parameter=Parameter(negative=()))


@app.default
def main(*, size: Literal["tiny", "mini", "12L"] = "12L", repeats: int = 5, output: Path | None = None) -> None:
    """Print the table; write it to a file where one is named."""
    text = table(size, repeats)
    show(text, output)


if __name__ == "__main__":
    app()
