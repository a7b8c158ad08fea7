"""The kernel against the eager formula, cross-entropy, and the edges of floating point."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import pege.loss.fused as fused
from pege.errors import InputError
from pege.loss import eager, pege_loss, target_loss


def make_case(seed=0, n_tokens=7, n_hidden=5, n_vocabulary=23, *, dtype=torch.float32, scale=1.0, ignored=0.2):
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, n_vocabulary, (n_tokens,), generator=g)
    labels[torch.rand(n_tokens, generator=g) < ignored] = -100
    tensors = {
        "hidden": torch.randn(n_tokens, n_hidden, generator=g, dtype=dtype) * scale,
        "weight": torch.randn(n_vocabulary, n_hidden, generator=g, dtype=dtype),
        "bias": torch.randn(n_vocabulary, generator=g, dtype=dtype),
    }
    fixed = {
        "token_vad": torch.rand(n_vocabulary, 3, generator=g),
        "user_vad": torch.rand(n_tokens, 3, generator=g),
        "p_positive": torch.rand(n_tokens, generator=g) * 0.5,
        "p_negative": torch.rand(n_tokens, generator=g) * 0.5,
        "n_utterances": torch.randint(0, 6, (n_tokens,), generator=g) * 2 + 1,
    }
    return tensors, labels, fixed


def run(loss, tensors, labels, fixed, **options):
    leaves = {k: v.detach().clone().requires_grad_() for k, v in tensors.items()}
    out = loss(leaves["hidden"], leaves["weight"], labels, bias=leaves.get("bias"), **fixed, **options)
    grads = torch.autograd.grad(out.loss, list(leaves.values()))
    return out, dict(zip(leaves, grads, strict=True))


def relative_error(value, reference):
    reference = reference.double()
    scale = max(reference.norm().item(), 1e-6)
    return ((value.double() - reference).norm() / scale).item()


@pytest.fixture
def small_tiles(monkeypatch):
    monkeypatch.setattr(fused, "CHUNK_NUMBERS", 150)
    monkeypatch.setattr(fused, "TILE_COLUMNS", 8)


@given(
    seed=st.integers(0, 10_000),
    n_tokens=st.integers(1, 40),
    n_hidden=st.integers(1, 17),
    n_vocabulary=st.integers(2, 300),
    alpha=st.floats(0, 8),
    beta=st.floats(0, 4),
    softcap=st.sampled_from([None, 3.0, 30.0]),
    chunk=st.integers(1, 16),
    tile=st.integers(1, 128),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_the_kernel_equals_the_formula(seed, n_tokens, n_hidden, n_vocabulary, alpha, beta, softcap, chunk, tile):
    tensors, labels, fixed = make_case(seed, n_tokens, n_hidden, n_vocabulary)
    options = {"alpha": alpha, "beta": beta, "softcap": softcap}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fused, "CHUNK_NUMBERS", chunk * n_vocabulary)
        patch.setattr(fused, "TILE_COLUMNS", tile)
        out, grads = run(pege_loss, tensors, labels, fixed, **options)
    reference, reference_grads = run(eager.pege_loss, tensors, labels, fixed, **options)
    for name in ("loss", "nll", "ner", "ed"):
        assert relative_error(getattr(out, name), getattr(reference, name).detach()) < 1e-5, name
    # L_peg adds terms of both signs: its error is measured against the sum of their sizes
    size = max(reference.ed.sum().item() / max(out.n_tokens, 1), 1e-6)
    assert abs(out.peg.item() - reference.peg.item()) < 1e-5 * size
    for name in tensors:
        assert relative_error(grads[name], reference_grads[name]) < 1e-5, name
    assert out.n_tokens == reference.n_tokens == int((labels != -100).sum())


def test_the_kernel_equals_the_formula_in_float64_to_the_last_digits(small_tiles):
    tensors, labels, fixed = make_case(3, 20, 6, 50, dtype=torch.float64)
    out, grads = run(pege_loss, tensors, labels, fixed)
    reference, reference_grads = run(eager.pege_loss, tensors, labels, fixed)
    assert out.loss.item() == pytest.approx(reference.loss.item(), rel=1e-12)
    for name in tensors:
        assert relative_error(grads[name], reference_grads[name]) < 1e-12


def test_the_target_variant_equals_its_formula(small_tiles):
    tensors, labels, fixed = make_case(4, 20, 6, 50)
    fixed.pop("p_negative")
    fixed["positive_vad"] = torch.tensor([0.9, 0.5, 0.7])
    out, grads = run(target_loss, tensors, labels, fixed)
    reference, reference_grads = run(eager.target_loss, tensors, labels, fixed)
    assert out.loss.item() == pytest.approx(reference.loss.item(), rel=1e-6)
    for name in tensors:
        assert relative_error(grads[name], reference_grads[name]) < 1e-5


@pytest.mark.parametrize("loss", [pege_loss, eager.pege_loss], ids=["fused", "eager"])
def test_without_guidance_it_is_cross_entropy(loss, small_tiles):
    tensors, labels, fixed = make_case(5, 20, 6, 50)
    out, grads = run(loss, tensors, labels, fixed, alpha=0.0, beta=0.0)
    leaves = {k: v.clone().requires_grad_() for k, v in tensors.items()}
    nll = F.cross_entropy(F.linear(leaves["hidden"], leaves["weight"], leaves["bias"]), labels)
    reference = dict(zip(leaves, torch.autograd.grad(nll, list(leaves.values())), strict=True))
    assert out.loss.item() == out.nll.item() == pytest.approx(nll.item(), rel=1e-6)
    for name in tensors:
        assert relative_error(grads[name], reference[name]) < 1e-6


def test_the_loss_is_the_sum_of_its_terms():
    tensors, labels, fixed = make_case(6)
    out, _ = run(pege_loss, tensors, labels, fixed, alpha=3.0, beta=1.5)
    assert out.loss.item() == pytest.approx(out.nll.item() + 3 * out.peg.item() - 1.5 * out.ner.item(), rel=1e-6)


def test_batches_in_parts_add_up_to_the_whole_batch():
    tensors, labels, fixed = make_case(7, n_tokens=12)
    n_items = int((labels != -100).sum())
    whole, whole_grads = run(pege_loss, tensors, labels, fixed)
    parts = []
    for rows in (slice(0, 5), slice(5, 12)):
        piece = {**tensors, "hidden": tensors["hidden"][rows]}
        piece_fixed = {k: v if k == "token_vad" else v[rows] for k, v in fixed.items()}
        parts.append(run(pege_loss, piece, labels[rows], piece_fixed, num_items_in_batch=n_items))
    assert sum(p[0].loss.item() for p in parts) == pytest.approx(whole.loss.item(), rel=1e-6)
    assert relative_error(parts[0][1]["weight"] + parts[1][1]["weight"], whole_grads["weight"]) < 1e-5
    assert relative_error(torch.cat([p[1]["hidden"] for p in parts]), whole_grads["hidden"]) < 1e-5


def test_a_frozen_head_gets_no_gradient_and_the_hidden_states_the_same_one():
    tensors, labels, fixed = make_case(8)
    _, grads = run(pege_loss, tensors, labels, fixed)
    hidden = tensors["hidden"].clone().requires_grad_()
    out = pege_loss(hidden, tensors["weight"], labels, bias=tensors["bias"], **fixed)
    out.loss.backward()
    assert tensors["weight"].grad is None
    assert torch.equal(hidden.grad, grads["hidden"])


def test_scalars_and_one_vad_stand_for_all_tokens():
    tensors, labels, fixed = make_case(9)
    n = len(labels)
    one = {**fixed, "user_vad": torch.tensor([0.2, 0.6, 0.4]), "p_positive": 0.1, "p_negative": 0.7, "n_utterances": 3}
    each = {
        **fixed,
        "user_vad": one["user_vad"].expand(n, 3),
        "p_positive": torch.full((n,), 0.1),
        "p_negative": torch.full((n,), 0.7),
        "n_utterances": torch.full((n,), 3),
    }
    assert run(pege_loss, tensors, labels, one)[0].loss.item() == run(pege_loss, tensors, labels, each)[0].loss.item()


def test_under_no_grad_the_values_are_the_same():
    tensors, labels, fixed = make_case(10)
    out, _ = run(pege_loss, tensors, labels, fixed)
    with torch.no_grad():
        quiet = pege_loss(tensors["hidden"], tensors["weight"], labels, bias=tensors["bias"], **fixed)
    assert quiet.loss.item() == out.loss.item()
    assert not quiet.loss.requires_grad


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_near_the_exact_value(dtype, small_tiles):
    tensors, labels, fixed = make_case(11, 30, 16, 64, dtype=torch.float64, scale=0.5)
    low = {k: v.to(dtype) for k, v in tensors.items()}
    out, grads = run(pege_loss, low, labels, fixed)
    exact, exact_grads = run(eager.pege_loss, {k: v.double() for k, v in low.items()}, labels, fixed)
    assert out.loss.dtype == torch.float32
    assert out.loss.item() == pytest.approx(exact.loss.item(), rel=1e-2)
    for name in tensors:
        assert grads[name].dtype == dtype
        assert relative_error(grads[name], exact_grads[name]) < 2e-2


def test_under_autocast_the_products_are_bfloat16_and_the_gradients_float32():
    tensors, labels, fixed = make_case(12, 30, 16, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out, grads = run(pege_loss, tensors, labels, fixed)
    exact, exact_grads = run(eager.pege_loss, tensors, labels, fixed)
    assert out.loss.item() == pytest.approx(exact.loss.item(), rel=2e-2)
    assert grads["weight"].dtype == torch.float32
    assert relative_error(grads["weight"], exact_grads["weight"]) < 3e-2


@pytest.mark.parametrize("loss", [pege_loss, eager.pege_loss], ids=["fused", "eager"])
class TestEdges:
    def test_one_token(self, loss):
        tensors, labels, fixed = make_case(13, n_tokens=1, ignored=0)
        out, grads = run(loss, tensors, labels, fixed)
        assert out.loss.isfinite()
        assert all(g.isfinite().all() for g in grads.values())

    def test_all_masked_gives_zero_and_zero_gradients(self, loss):
        tensors, labels, fixed = make_case(14, ignored=1.1)
        out, grads = run(loss, tensors, labels, fixed)
        assert out.loss.item() == 0
        assert out.n_tokens == 0
        assert all((g == 0).all() for g in grads.values())

    def test_a_user_vad_that_is_met_exactly_has_subgradient_zero(self, loss):
        tensors, labels, fixed = make_case(15, ignored=0)
        fixed["token_vad"] = torch.full_like(fixed["token_vad"], 0.5)  # then v_t is 0.5 whatever the softmax
        fixed["user_vad"] = torch.full_like(fixed["user_vad"], 0.5)
        out, grads = run(loss, tensors, labels, fixed)
        _, plain_grads = run(loss, tensors, labels, fixed, alpha=0.0, beta=0.0)
        assert out.peg.item() == pytest.approx(0, abs=1e-6)
        for name, g in grads.items():
            assert torch.allclose(g, plain_grads[name], atol=1e-5)

    def test_a_zero_norm_has_subgradient_zero(self, loss):
        tensors, labels, fixed = make_case(16, ignored=0)
        fixed["token_vad"] = torch.zeros_like(fixed["token_vad"])
        out, grads = run(loss, tensors, labels, fixed)
        assert out.ner.item() == 0
        assert all(g.isfinite().all() for g in grads.values())

    def test_without_negative_emotion_the_norm_does_not_count(self, loss):
        tensors, labels, fixed = make_case(17)
        fixed["p_negative"] = 0.0
        with_beta, _ = run(loss, tensors, labels, fixed, beta=2.0)
        without, _ = run(loss, tensors, labels, fixed, beta=0.0)
        assert with_beta.ner.item() == 0
        assert with_beta.loss.item() == without.loss.item()

    def test_huge_logits_stay_finite(self, loss):
        tensors, labels, fixed = make_case(18, scale=1e5)
        out, grads = run(loss, tensors, labels, fixed)
        assert out.loss.isfinite()
        assert all(g.isfinite().all() for g in grads.values())

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"token_vad": torch.rand(4, 3)}, "token_vad is (4, 3)"),
            ({"user_vad": torch.rand(4, 3)}, "user_vad has shape (4, 3)"),
            ({"n_utterances": 0}, "n_utterances holds 0"),
            ({"period": 0}, "period is 0"),
        ],
    )
    def test_what_does_not_fit_is_named(self, loss, change, message):
        tensors, labels, fixed = make_case(19)
        with pytest.raises(InputError) as e:
            run(loss, tensors, labels, {**fixed, **change})
        assert message in str(e.value)

    def test_a_label_outside_the_vocabulary_is_named(self, loss):
        tensors, labels, fixed = make_case(20)
        labels[0] = 23
        with pytest.raises(InputError, match="label 23"):
            run(loss, tensors, labels, fixed)


def test_a_second_backward_is_refused():
    tensors, labels, fixed = make_case(21)
    hidden = tensors["hidden"].requires_grad_()
    out = pege_loss(hidden, tensors["weight"], labels, **fixed)
    out.loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="already backpropagated"):
        out.loss.backward()


def test_no_tensor_of_tokens_by_vocabulary_is_ever_made(monkeypatch):
    n_tokens, n_vocabulary = 2048, 4096
    monkeypatch.setattr(fused, "CHUNK_NUMBERS", 256 * n_vocabulary)
    tensors, labels, fixed = make_case(22, n_tokens, 4, n_vocabulary)
    hidden = tensors["hidden"].requires_grad_()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        pege_loss(hidden, tensors["weight"], labels, **fixed).loss.backward()
    largest = max(e.cpu_memory_usage for e in profile.events())
    assert largest < n_tokens * n_vocabulary * 4 / 4
