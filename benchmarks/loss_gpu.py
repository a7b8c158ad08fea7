"""The loss on a GPU: Triton kernel against the eager formula, then time and memory beside its peers.

    PYTHONPATH=src python benchmarks/loss_gpu.py [--repeats 10] [--sweep] [--output loss-gpu.md]

Needs CUDA, torch and triton, nothing else. It ends with exit code 1 where the kernel is wrong. Rows of a shape take
turns; the time is the median of a forward and a backward, the ratio is against `F.cross_entropy` on full logits; memory
is the peak of the allocator, inputs and gradients aside. Peers that are not installed are left out.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from pege.loss import eager, fused, pege_loss, tiles, triton_kernel

SHAPES = {  # T, H, V, dtype, trained
    "(4096, 2048, 128k) bf16, frozen": (4096, 2048, 128_256, torch.bfloat16, False),
    "(4096, 2048, 128k) bf16, trained": (4096, 2048, 128_256, torch.bfloat16, True),
    "(512, 640, 262k) bf16, frozen": (512, 640, 262_144, torch.bfloat16, False),
    "(512, 640, 262k) fp32, frozen": (512, 640, 262_144, torch.float32, False),
}
SWEEP = [(1, 2048, 4), (1, 4096, 8), (2, 1024, 4), (2, 2048, 8), (2, 4096, 16), (4, 1024, 8), (4, 2048, 16)]
Step = Callable[[], None]


def make_inputs(
    n_tokens: int, n_hidden: int, n_vocabulary: int, dtype: torch.dtype, trained: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, dict[str, Any]]:
    """Random hidden (T, H), weight (V, H), labels (T,) and what guides the loss."""
    g = torch.Generator("cuda").manual_seed(0)

    def normal(*shape: int, scale: float) -> torch.Tensor:
        return torch.randn(*shape, generator=g, device="cuda").mul_(scale).to(dtype)

    guidance = {
        "token_vad": torch.rand(n_vocabulary, 3, generator=g, device="cuda"),
        "user_vad": torch.tensor([0.2, 0.6, 0.3], device="cuda"),
        "p_positive": 0.1,
        "p_negative": 0.7,
        "n_utterances": 5,
    }
    hidden = normal(n_tokens, n_hidden, scale=1.0).requires_grad_()
    weight = normal(n_vocabulary, n_hidden, scale=3 * n_hidden**-0.5).requires_grad_(trained)
    labels = torch.randint(0, n_vocabulary, (n_tokens,), generator=g, device="cuda")
    return hidden, weight, labels, guidance


@contextmanager
def torch_path() -> Iterator[None]:
    """Have the loss computed by tiles of plain torch."""
    kernel = fused._kernel
    fused._kernel = lambda hidden: tiles.run
    try:
        yield
    finally:
        fused._kernel = kernel


def check() -> list[str]:
    """Lines of relative errors of loss and gradients against the eager formula in float64.

    Raises:
        SystemExit: an error above what the precision allows.
    """
    lines, worst = [], {torch.float32: 1e-4, torch.bfloat16: 3e-2}
    for dtype, bound in worst.items():
        for softcap, has_bias, chunk_bytes in ((None, False, 2**28), (None, True, 2**24), (5.0, True, 2**24)):
            hidden, weight, labels, guidance = make_inputs(515, 256, 32_007, dtype, True)
            labels[::7] = -100
            bias = torch.randn(32_007, device="cuda").to(dtype).requires_grad_() if has_bias else None
            leaves = [t for t in (hidden, weight, bias) if t is not None]
            before, triton_kernel.CHUNK_BYTES = triton_kernel.CHUNK_BYTES, chunk_bytes
            out = pege_loss(hidden, weight, labels, bias=bias, softcap=softcap, **guidance)
            found = [out.loss, *torch.autograd.grad(out.loss, leaves)]
            triton_kernel.CHUNK_BYTES = before
            exact = [t.detach().double().requires_grad_() for t in leaves]
            out = eager.pege_loss(
                exact[0], exact[1], labels, bias=exact[2] if has_bias else None, softcap=softcap, **guidance
            )
            wanted = [out.loss, *torch.autograd.grad(out.loss, exact)]
            errors = [
                float((a.detach().double() - b.detach().double()).norm() / b.detach().double().norm())
                for a, b in zip(found, wanted, strict=True)
            ]
            if not max(errors) <= bound:
                sys.exit(f"the kernel is wrong: {dtype}, softcap {softcap}, bias {has_bias}: {errors} > {bound}")
            case = f"{str(dtype)[6:]}, softcap {softcap}, {'bias' if has_bias else 'no bias'}"
            lines.append(f"- {case}: relative error of loss and gradients {', '.join(f'{e:.0e}' for e in errors)}")
    return lines


def make_steps(
    hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor, guidance: dict[str, Any]
) -> dict[str, Step]:
    """One forward and backward per row of the table."""

    def run(loss: Callable[[], torch.Tensor]) -> Step:
        def step() -> None:
            hidden.grad = weight.grad = None
            loss().backward()

        return step

    def by_torch() -> torch.Tensor:
        with torch_path():
            return pege_loss(hidden, weight, labels, **guidance).loss

    steps = {
        "PEGE, Triton": run(lambda: pege_loss(hidden, weight, labels, **guidance).loss),
        "PEGE, fused torch": run(by_torch),
        "PEGE, eager": run(lambda: eager.pege_loss(hidden, weight, labels, **guidance).loss),
        "cross_entropy, full logits": run(lambda: F.cross_entropy(F.linear(hidden, weight), labels)),
    }
    if hidden.dtype != torch.float32:
        steps["cross_entropy, full logits in float32"] = run(
            lambda: F.cross_entropy(F.linear(hidden, weight).float(), labels)
        )
    if hasattr(F, "linear_cross_entropy"):
        options = torch.nn.LinearCrossEntropyOptions()
        steps["linear_cross_entropy, chunked"] = run(
            lambda: F.linear_cross_entropy(hidden, weight, labels, options=options)
        )
    try:
        from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

        liger = LigerFusedLinearCrossEntropyLoss()
        steps["Liger fused linear cross entropy"] = run(lambda: liger(weight, hidden, labels))
    except ImportError:
        pass
    try:
        from cut_cross_entropy import linear_cross_entropy

        if hidden.dtype != torch.float32:
            steps["cut cross entropy"] = run(lambda: linear_cross_entropy(hidden, weight, labels))
    except ImportError:
        pass
    return steps


def milliseconds(step: Step) -> float:
    """Time of one step on the device."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    step()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end))


def peak_mb(step: Step, leaves: list[torch.Tensor]) -> float:
    """MB that the allocator holds at most during a step, inputs and gradients aside."""
    for leaf in leaves:
        leaf.grad = None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    torch.cuda.synchronize()
    gradients = sum(leaf.grad.nbytes for leaf in leaves if leaf.grad is not None)
    return (torch.cuda.max_memory_allocated() - before - gradients) / 1e6


def measure(repeats: int) -> list[str]:
    """Lines of the table."""
    lines = [
        "| shape (T, H, V) and head | loss | ms | spread (min - max) | ratio to cross_entropy | extra memory, MB |",
        "|---|---|---|---|---|---|",
    ]
    for shape, size in SHAPES.items():
        hidden, weight, labels, guidance = make_inputs(*size)
        steps, memory, times = make_steps(hidden, weight, labels, guidance), {}, {}
        for name, step in list(steps.items()):
            try:
                step()  # compiles
                memory[name] = peak_mb(step, [hidden, weight])
                times[name] = []
            except Exception as error:  # a peer that fails is a row that says so
                del steps[name]
                lines.append(f"| {shape} | {name} | failed: {type(error).__name__}: {str(error)[:80]!r} | | | |")
        for k in range(repeats):
            for name in list(steps) if k % 2 else reversed(list(steps)):
                times[name].append(milliseconds(steps[name]))
        plain = statistics.median(times["cross_entropy, full logits"])
        for name, found in times.items():
            median = statistics.median(found)
            lines.append(
                f"| {shape} | {name} | {median:.2f} | {min(found):.2f} - {max(found):.2f} | {median / plain:.2f} "
                f"| {memory[name]:.0f} |"
            )
        del hidden, weight, labels, guidance, steps
        torch.cuda.empty_cache()
    return lines


def sweep() -> list[str]:
    """Lines of a table of the Triton kernel's sizes."""
    lines = ["", "| shape | rows | columns | warps | logits, MB | ms, median of 5 |", "|---|---|---|---|---|---|"]
    defaults = (triton_kernel.ROWS, triton_kernel.COLUMNS, triton_kernel.WARPS, triton_kernel.CHUNK_BYTES)
    tried = [(*sizes, defaults[3]) for sizes in SWEEP] + [(*defaults[:3], 2**k) for k in (26, 27, 29, 30)]
    for shape in list(SHAPES)[1:3]:
        step = make_steps(*make_inputs(*SHAPES[shape]))["PEGE, Triton"]
        for sizes in tried:
            triton_kernel.ROWS, triton_kernel.COLUMNS, triton_kernel.WARPS, triton_kernel.CHUNK_BYTES = sizes
            step()
            found = statistics.median(milliseconds(step) for _ in range(5))
            lines.append(f"| {shape} | {' | '.join(map(str, sizes[:3]))} | {sizes[3] / 2**20:.0f} | {found:.2f} |")
    triton_kernel.ROWS, triton_kernel.COLUMNS, triton_kernel.WARPS, triton_kernel.CHUNK_BYTES = defaults
    return lines


def main() -> None:
    """Check, measure, print."""
    parser = argparse.ArgumentParser(description="The loss on a GPU: kernel checked, then timed beside its peers.")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--sweep", action="store_true", help="also time the kernel's sizes")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("no CUDA device here: this benchmark is for GPUs; benchmarks/loss.py is for the CPU")
    import triton

    head = f"{torch.cuda.get_device_name()}, torch {torch.__version__}, triton {triton.__version__}"
    lines = [f"{head}, median of {options.repeats}", "", *check(), "", *measure(options.repeats)]
    if options.sweep:
        lines += sweep()
    text = "\n".join(lines) + "\n"
    print(text)
    if options.output:
        options.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
