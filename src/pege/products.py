"""Float32 matrix products on AMD Zen 5, where torch's own library leaves half of the vector units idle.

Torch multiplies float32 on x86 with MKL, which takes the instructions of 256 bits on every processor but Intel's.
oneDNN, which torch ships too, takes those of 512 bits: on a Zen 5 core 240 Gflop/s, not 105 (`benchmarks/shares.py`).
On other machines, dtypes and devices everything is torch's own.

oneDNN keeps a program for each shape, so the rows of a product, which differ from batch to batch, are filled up with
zeros to a multiple of 64; then shapes are few.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.flop_counter import register_flop_formula

_LEAST = 2**21  # multiplications; below, a call costs more than it saves
_LEAST_ROWS = 16  # with fewer, memory is the limit
_STEP, _SMALL_STEP = 64, 16  # rows are a multiple of


@functools.cache
def has_idle_units() -> bool:
    """Whether this is an AMD Zen 5 or later, and torch has both libraries."""
    found = torch.cpu.get_capabilities()
    is_amd = str(found.get("cpu_name", "")).startswith("AMD")
    is_wide = is_amd and bool(found.get("avx512_vp2intersect"))  # Zen 4 has instructions of 512 bits, but not this one
    return is_wide and torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


def product(a: Tensor, b: Tensor, *, out: Tensor) -> Tensor:
    """Fill ``out`` (M, N) with a (M, K) times b (K, N), of one dtype and without gradients; give it."""
    return out.copy_(_filled_product(a, b)) if _gains(len(a), a, b.T) else torch.mm(a, b, out=out)


def add_product(a: Tensor, b: Tensor, *, to: Tensor) -> None:
    """Add a (M, K) times b (K, N) to (M, N); as `product`."""
    if _gains(len(a), a, b.T):
        to += _filled_product(a, b)
    else:
        to.addmm_(a, b)


def _filled_product(a: Tensor, b: Tensor) -> Tensor:
    (m, _), n = a.shape, b.shape[1]
    return _multiply(_filled(_filled(a).T).T, _filled(_filled(b).T))[:m, :n]


def _gains(m: int, a: Tensor, b: Tensor) -> bool:
    """Whether a (..., K) of M rows times the rows of b (N, K) is faster here."""
    return (
        a.dtype == b.dtype == torch.float32
        and a.device.type == b.device.type == "cpu"
        and m >= _LEAST_ROWS
        and m * b.numel() >= _LEAST
        and has_idle_units()
    )


def _filled(rows: Tensor) -> Tensor:
    """Fill up (M, K) with rows of zeros to a multiple of 64; of 16 where there are fewer."""
    n = len(rows)
    step = _STEP if n > _STEP else _SMALL_STEP
    return rows if n % step == 0 else nn.functional.pad(rows, (0, 0, 0, -n % step))


def _multiply(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """(M, K) times the rows of (N, K), plus (N,): (M, N)."""
    bias = None if bias is None else bias.contiguous()  # oneDNN takes strides of matrices only
    found: Tensor = torch.ops.mkldnn._linear_pointwise(a, b, bias, "none", [], "")
    return found


def _flops(a: torch.Size, b: torch.Size, *_: Any, **__: Any) -> int:
    return 2 * a[0] * a[1] * b[0]


if torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
    register_flop_formula(torch.ops.mkldnn._linear_pointwise)(_flops)


class _Affine(torch.autograd.Function):
    """y = x W^T + b, of x (M, K), W (N, K), b (N,) or None; dx = dy W, dW = dy^T x, db = sum of dy."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        needs_x, needs_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(x if needs_weight else None, weight if needs_x else None)
        return _multiply(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        return (
            None if weight is None else _multiply(grad, weight.T),
            None if x is None else _multiply(grad.T, x.T),
            grad.sum(0) if ctx.needs_input_grad[2] else None,
        )


class Linear(nn.Linear):
    """`torch.nn.Linear`, multiplied by oneDNN where that is faster; it has no second derivative there.

    It has the same name, for by that FSDP's settings know the layers.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(..., K) to (..., N)."""
        x, weight, bias = input, self.weight, self.bias
        n_rows = x.shape[:-1].numel()
        if torch.is_autocast_enabled("cpu") or not _gains(n_rows, x, weight):
            return super().forward(x)
        filled = _filled(x.reshape(-1, x.shape[-1]))
        if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, weight, bias)):
            found = _Affine.apply(filled, weight, bias)  # type: ignore[no-untyped-call]
        else:
            found = _multiply(filled, weight, bias)
        return found[:n_rows].view(*x.shape[:-1], weight.shape[0])  # type: ignore[no-any-return]


def use_fast_products(model: nn.Module) -> None:
    """Let a model's linear layers multiply as fast as this machine can; elsewhere they stay torch's own."""
    if not has_idle_units():
        return
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = Linear
