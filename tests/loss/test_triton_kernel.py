"""The GPU's kernel in Triton's interpreter, against the eager formula."""

from __future__ import annotations

import pytest
import torch
from cases import make_case, relative_error, run

import pege.loss.fused as fused
from pege.loss import eager, pege_loss, target_loss

pytest.importorskip("triton", reason="Triton comes for Linux only")
pytestmark = pytest.mark.skipif(
    torch.cuda.is_available(), reason="compiled where there is a GPU: benchmarks/loss_gpu.py"
)


@pytest.fixture(autouse=True)
def kernel(monkeypatch):
    import pege.loss.triton_kernel as kernel

    monkeypatch.setattr(kernel, "COLUMNS", 16)
    monkeypatch.setattr(fused, "_kernel", lambda hidden: kernel.run)
    return kernel


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("softcap", [None, 4.0])
@pytest.mark.parametrize("trained", [("hidden",), ("hidden", "weight", "bias"), ("weight",)])
@pytest.mark.parametrize("chunk_bytes", [4 * 50 * 3, 2**20])
def test_it_equals_the_formula(kernel, monkeypatch, trained, softcap, has_bias, chunk_bytes):
    monkeypatch.setattr(kernel, "CHUNK_BYTES", chunk_bytes)
    tensors, labels, fixed = make_case(3, 9, 6, 50)
    if not has_bias:
        del tensors["bias"]
    options = {"softcap": softcap, "trained": trained, "num_items_in_batch": 5}
    out, grads = run(pege_loss, tensors, labels, fixed, **options)
    reference, exact = run(eager.pege_loss, tensors, labels, fixed, **options)
    for name in ("loss", "nll", "peg", "ner", "ed"):
        assert relative_error(getattr(out, name), getattr(reference, name).detach()) < 1e-5, name
    assert grads.keys() == exact.keys()
    for name in grads:
        assert relative_error(grads[name], exact[name]) < 1e-5, name


def test_the_target_variant_equals_its_formula():
    tensors, labels, fixed = make_case(4, 7, 6, 40)
    fixed.pop("p_negative")
    fixed["positive_vad"] = torch.tensor([0.9, 0.5, 0.7])
    out, grads = run(target_loss, tensors, labels, fixed)
    reference, exact = run(eager.target_loss, tensors, labels, fixed)
    assert out.loss.item() == pytest.approx(reference.loss.item(), rel=1e-6)
    for name in tensors:
        assert relative_error(grads[name], exact[name]) < 1e-5, name


@pytest.mark.parametrize("chunk_bytes", [2 * 64 * 4, 2**20])
def test_bfloat16_stays_near_the_exact_value(kernel, monkeypatch, chunk_bytes):
    monkeypatch.setattr(kernel, "CHUNK_BYTES", chunk_bytes)
    tensors, labels, fixed = make_case(11, 10, 16, 64, dtype=torch.float64, scale=0.5)
    low = {k: v.bfloat16() for k, v in tensors.items()}
    out, grads = run(pege_loss, low, labels, fixed)
    exact, exact_grads = run(eager.pege_loss, {k: v.double() for k, v in low.items()}, labels, fixed)
    assert out.loss.item() == pytest.approx(exact.loss.item(), rel=1e-2)
    for name in tensors:
        assert grads[name].dtype == torch.bfloat16
        assert relative_error(grads[name], exact_grads[name]) < 2e-2, name


def test_logits_of_minus_infinity_have_no_part():
    tensors, labels, fixed = make_case(5, 4, 6, 40, ignored=0)
    labels = labels.clamp_min(20)
    tensors["bias"][:17] = -torch.inf  # a whole block
    out, grads = run(pege_loss, tensors, labels, fixed)
    reference, exact = run(eager.pege_loss, tensors, labels, fixed)
    assert out.loss.item() == pytest.approx(reference.loss.item(), rel=1e-6)
    for name in tensors:
        assert relative_error(grads[name], exact[name]) < 1e-5, name


def test_no_token_counts():
    tensors, labels, fixed = make_case(6, 4, 6, 40)
    out, grads = run(pege_loss, tensors, torch.full_like(labels, -100), fixed)
    assert out.loss.item() == 0
    assert all((g == 0).all() for g in grads.values())


def test_without_gradients_only_the_value_is_made():
    tensors, labels, fixed = make_case(7, 5, 6, 40)
    out, _ = run(pege_loss, tensors, labels, fixed)
    with torch.no_grad():
        quiet = pege_loss(tensors["hidden"], tensors["weight"], labels, bias=tensors["bias"], **fixed)
    assert quiet.loss.item() == out.loss.item()
