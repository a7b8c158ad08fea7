"""Time, peak memory and gradient error of the fused PEGE loss beside its peers, forward and backward.

    python benchmarks/loss.py [--repeats 5] [--output FILE]

Rows: the fused loss as it is by default; with columns left out of the gradients of a trained head too (`filter_eps`);
with all products in float32 (`low_eps=0`); and exact. The eager formula; and with plain NLL `F.cross_entropy` on full
logits, torch's `linear_cross_entropy` in chunks of its own choice and of 128 tokens, cut-cross-entropy's compiled path
and Liger's chunked loss (`pip install 'pege[bench]'`; a C++ compiler). Liger has no plain NLL in chunks; its GRPO loss
with advantages of 1, on policy and without a reference, has NLL's gradient. All rows of a shape take turns, so that a
noisy machine disturbs them alike. The goals are against plain cross-entropy. Memory is what
the process grew by, its inputs aside, measured in a process of its own, in which large blocks are given back when they
are freed: else it is the allocator that is measured. The error is the largest of a row's gradients': the norm of the
difference from the plain formula's in float64, over that one's norm.

Random inputs are as peaked as a trained model's, in float32 and, as weights are on a processor that multiplies it, in
bfloat16. The last shape has the embedded base model's own hidden states and head on real dialogs that it has not
learnt, where most of the softmax is spread over most of the vocabulary.
"""

from __future__ import annotations

import math
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
from cyclopts import App, Parameter
from rows import Row, show, table
from timing import Step, time_steps

from pege.loss import eager, pege_loss

SHAPES = {
    "(512, 640, 262k) frozen": (512, 640, 262_144, False, torch.float32),
    "(1024, 1024, 30k) trained": (1024, 1024, 30_000, True, torch.float32),
    "(512, 640, 262k) frozen, bfloat16": (512, 640, 262_144, False, torch.bfloat16),
}
GOALS = dict.fromkeys(("(512, 640, 262k) frozen", "(1024, 1024, 30k) trained"), 1 / 0.6)
PLAIN = "cross_entropy, full logits"
REAL = "(1024, 576, 49k) frozen, SmolLM2 on dialogs"
N_REAL = 1024

COMMON, OWN = 5.5, 3.0  # of 262k columns 17 % have a softmax above 1e-7 somewhere in 128 tokens; entropy 2.4 nats


def make_inputs(
    n_tokens: int, n_hidden: int, n_vocabulary: int, trained: bool, dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """Random inputs of a shape: hidden (T, H), weight (V, H), labels (T,), VAD table (V, 3).

    As in a trained model some tokens are frequent and most are rare: logits are normal with standard deviation `COMMON`
    from one token of the vocabulary to another, the same at all positions, and `OWN` at each. Labels are drawn from the
    softmax.
    """
    g = torch.Generator().manual_seed(0)
    weight = torch.randn(n_vocabulary, n_hidden, generator=g)
    direction = torch.randn(n_hidden, generator=g)
    hidden = COMMON * direction / direction.norm() + torch.randn(n_tokens, n_hidden, generator=g) * OWN / n_hidden**0.5
    parts = [torch.multinomial((h @ weight.T).softmax(1), 1, generator=g).squeeze(1) for h in hidden.split(64)]
    return {
        "hidden": hidden.to(dtype).requires_grad_(),
        "weight": weight.to(dtype).requires_grad_(trained),
        "labels": torch.cat(parts),
        "token_vad": torch.rand(n_vocabulary, 3, generator=g),
    }


def inputs_of(shape: str) -> dict[str, torch.Tensor]:
    """Inputs of a shape by its name."""
    return real_inputs() if shape == REAL else make_inputs(*SHAPES[shape])


def real_inputs() -> dict[str, torch.Tensor]:
    """Hidden states and head of the embedded base model on the first dialogs of the demo's source, and what follows."""
    from train import some_dialogs

    from pege.lexicon import extend_lexicon, load_lexicon
    from pege.models.causal import load_model
    from pege.models.prompt import encode_dialog

    model, tokenizer = load_model("base", dtype="float32")
    hidden, labels = [], []
    for dialog in some_dialogs(40):
        ids = torch.tensor(encode_dialog(tokenizer, dialog.messages, dialog.emotion).ids)
        with torch.no_grad():
            hidden.append(model.base_model(ids[None]).last_hidden_state[0, :-1])
        labels.append(ids[1:])
    weight = model.lm_head.weight.detach().clone()
    return {
        "hidden": torch.cat(hidden)[:N_REAL].clone().requires_grad_(),
        "weight": weight,
        "labels": torch.cat(labels)[:N_REAL],
        "token_vad": torch.from_numpy(extend_lexicon(load_lexicon("pege-en"), tokenizer, n_rows=len(weight)).values),
    }


def make_steps(inputs: dict[str, torch.Tensor]) -> dict[str, Step]:
    """One forward and backward per row of the table."""
    hidden, weight, labels = inputs["hidden"], inputs["weight"], inputs["labels"]
    guidance = {
        "token_vad": inputs["token_vad"],
        "user_vad": torch.tensor([0.2, 0.6, 0.3]),
        "p_positive": 0.1,
        "p_negative": 0.7,
        "n_utterances": 5,
    }

    def run(loss: Callable[[], torch.Tensor]) -> Step:
        def step() -> None:
            hidden.grad = weight.grad = None
            loss().backward()

        return step

    options = {
        "linear_cross_entropy, its own chunks": torch.nn.LinearCrossEntropyOptions(),
        "linear_cross_entropy, chunks of 128": torch.nn.LinearCrossEntropyOptions(
            batch_chunk_size=128, chunking_method=None
        ),
    }

    def fused(**exactness: float) -> Step:
        return run(lambda: pege_loss(hidden, weight, labels, **exactness, **guidance).loss)

    steps = {
        "PEGE fused": fused(),
        "PEGE fused, filter_eps=1e-5": fused(filter_eps=1e-5),
        "PEGE fused, filter_eps=1e-5, low_eps=0": fused(filter_eps=1e-5, low_eps=0.0),
        "PEGE fused, filter_eps=0": fused(filter_eps=0.0),
        "PEGE eager": run(lambda: eager.pege_loss(hidden, weight, labels, **guidance).loss),
        PLAIN: run(lambda: F.cross_entropy(F.linear(hidden, weight), labels)),
    }
    for name, how in options.items():
        steps[name] = run(lambda how=how: F.linear_cross_entropy(hidden, weight, labels, options=how))
    if find_spec("cut_cross_entropy"):
        from cut_cross_entropy import linear_cross_entropy

        steps["cut-cross-entropy, compiled"] = run(
            lambda: linear_cross_entropy(hidden, weight, labels, impl="torch_compile")
        )
    if find_spec("liger_kernel"):
        steps["Liger chunked"] = run(liger_loss(hidden, weight, labels))
    return steps


LIGER_ROWS = 4  # Liger's chunks are samples


def liger_loss(hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> Callable[[], torch.Tensor]:
    """Liger's chunked GRPO loss where its gradient is NLL's; its value is not."""
    from liger_kernel.chunked_loss import LigerFusedLinearGRPOLoss

    grpo = LigerFusedLinearGRPOLoss(beta=0.0, use_ref_model=False, loss_type="bnpo")
    n_rows = math.gcd(LIGER_ROWS, len(labels))
    ids = labels.view(n_rows, -1)
    mask, advantages = torch.ones_like(ids), torch.ones(n_rows)
    return lambda: grpo(hidden.view(n_rows, -1, hidden.shape[-1]), weight, ids, mask, advantages)[0]


def references(inputs: dict[str, torch.Tensor]) -> dict[bool, list[torch.Tensor]]:
    """Gradients of hidden states and weight in float64, of NLL (False) and PEGE (True)."""
    double = {k: t.detach().double().requires_grad_(t.requires_grad) if t.is_floating_point() else t
              for k, t in inputs.items()}  # fmt: skip
    steps = make_steps(double)
    found = {}
    for guided, row in ((False, PLAIN), (True, "PEGE eager")):
        steps[row]()
        found[guided] = gradients(double)
    return found


def gradients(inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """Those of hidden states and weight that there are."""
    return [t.grad.clone() for t in (inputs["hidden"], inputs["weight"]) if t.grad is not None]


def errors(inputs: dict[str, torch.Tensor], steps: dict[str, Step]) -> dict[str, float]:
    """Largest relative error of each row's gradients."""
    right, found = references(inputs), {}
    for row, step in steps.items():
        step()
        pairs = zip(gradients(inputs), right[row.startswith("PEGE")], strict=True)
        found[row] = max(float((a.double() - b).norm() / b.norm()) for a, b in pairs)
    return found


def peak_memory_mb(shape: str, row: str) -> float:
    """MB by which a fresh process grows at most during one step, inputs aside."""
    command = [sys.executable, __file__, "--probe-shape", shape, "--probe-row", row]
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "262144"}  # of glibc
    found = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return float(found.stdout)


def probe(shape: str, row: str) -> float:
    """What `peak_memory_mb` runs in its own process."""
    inputs = inputs_of(shape)
    step = make_steps(inputs)[row]
    # loads libraries, starts threads, compiles: the second time for any size; the third is large enough for bfloat16
    for size in ((8, 8, 16), (16, 12, 40), (512, 640, 4096)):
        make_steps(make_inputs(*size, inputs["weight"].requires_grad, inputs["weight"].dtype))[row]()
    page, peak, done = resource.getpagesize(), 0, threading.Event()

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * page

    def watch() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, resident())
            time.sleep(0.001)

    before = resident()
    watcher = threading.Thread(target=watch)
    watcher.start()
    step()
    done.set()
    watcher.join()
    gradients = sum(t.grad.nbytes for t in (inputs["hidden"], inputs["weight"]) if t.grad is not None)
    return (max(peak, resident()) - before - gradients) / 1e6


def measure(repeats: int) -> list[Row]:
    """All rows of all shapes."""
    rows = []
    for shape in (*SHAPES, REAL):
        inputs = inputs_of(shape)
        steps = make_steps(inputs)
        times, wrong = time_steps(steps, repeats), errors(inputs, steps)
        ours = next(iter(times.values()))
        for name, seconds in times.items():
            note = f"{peak_memory_mb(shape, name):.0f} MB more, gradients off by {wrong[name]:.0e}"
            goal = GOALS.get(shape) if name == PLAIN else None
            rows.append(Row(f"loss, {shape}", name, seconds, "s", None if seconds is ours else ours, goal, note))
    return rows


app = App(
    help="Time, memory and gradient error of the PEGE loss beside its peers.", default_parameter=Parameter(negative=())
)


@app.default
def main(
    *,
    repeats: int = 5,
    output: Path | None = None,
    probe_shape: Annotated[str | None, Parameter(show=False)] = None,
    probe_row: Annotated[str | None, Parameter(show=False)] = None,
) -> None:
    """Print the table; write it to a file where one is named."""
    if probe_shape and probe_row:
        print(probe(probe_shape, probe_row))
        return
    show(table(measure(repeats)), output)


if __name__ == "__main__":
    app()
