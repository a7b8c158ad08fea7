"""The kernel against the eager formula, cross-entropy and finite differences."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from cases import make_case, relative_error, run
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pege.errors import InputError
from pege.loss import chunk as chunks
from pege.loss import eager, fused, pege_loss, target_loss, tiles


@given(
    seed=st.integers(0, 10_000),
    n_tokens=st.integers(1, 24),
    n_hidden=st.integers(1, 17),
    n_vocabulary=st.integers(2, 120),
    alpha=st.floats(0, 8),
    beta=st.floats(0, 4),
    softcap=st.sampled_from([None, 3.0, 30.0]),
    trained=st.sampled_from([("hidden",), ("hidden", "weight"), ("hidden", "weight", "bias"), ("weight", "bias")]),
    has_bias=st.booleans(),
    num_items=st.sampled_from([None, 0, 5, 100]),
    chunk=st.integers(1, 16),
    tile=st.integers(1, 64),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_the_kernel_equals_the_formula(
    seed, n_tokens, n_hidden, n_vocabulary, alpha, beta, softcap, trained, has_bias, num_items, chunk, tile
):
    # logits of size 1: where the label is all but certain, softmax minus one loses its digits in both versions
    tensors, labels, fixed = make_case(seed, n_tokens, n_hidden, n_vocabulary, scale=n_hidden**-0.5)
    if not has_bias:
        del tensors["bias"]
    options = {"alpha": alpha, "beta": beta, "softcap": softcap, "trained": trained, "num_items_in_batch": num_items}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "CHUNK_TOKENS", chunk)
        patch.setattr(chunks, "TILE_COLUMNS", tile)
        out, grads = run(pege_loss, tensors, labels, fixed, filter_eps=0.0, **options)
    reference, reference_grads = run(eager.pege_loss, tensors, labels, fixed, **options)
    for name in ("nll", "ner", "ed"):
        assert relative_error(getattr(out, name), getattr(reference, name).detach()) < 1e-5, name
    # L_peg, and the loss, add terms of both signs: their error is measured against the sum of the terms' sizes
    size = max(reference.ed.sum().item() / max(out.n_tokens if num_items is None else num_items, 1), 1e-6)
    assert abs(out.peg.item() - reference.peg.item()) < 1e-5 * size
    size = abs(reference.nll.item()) + alpha * size + beta * abs(reference.ner.item())
    assert abs(out.loss.item() - reference.loss.item()) <= 1e-5 * max(size, 1e-6)
    assert grads.keys() == reference_grads.keys()
    for name in grads:
        assert relative_error(grads[name], reference_grads[name]) < 1e-5, name
    assert out.n_tokens == reference.n_tokens == int((labels != -100).sum())


def test_the_kernel_equals_the_formula_in_float64_to_the_last_digits(small_tiles):
    tensors, labels, fixed = make_case(3, 20, 6, 50, dtype=torch.float64)
    out, grads = run(pege_loss, tensors, labels, fixed)
    reference, reference_grads = run(eager.pege_loss, tensors, labels, fixed)
    assert out.loss.item() == pytest.approx(reference.loss.item(), rel=1e-12)
    for name in tensors:
        assert relative_error(grads[name], reference_grads[name]) < 1e-12


@pytest.mark.parametrize("softcap", [None, 4.0])
def test_gradients_equal_finite_differences(softcap, small_tiles):
    tensors, labels, fixed = make_case(2, 5, 3, 19, dtype=torch.float64)
    leaves = [t.requires_grad_() for t in tensors.values()]

    def value(hidden, weight, bias):
        return pege_loss(hidden, weight, labels, bias=bias, softcap=softcap, **fixed).loss

    assert torch.autograd.gradcheck(value, leaves, atol=1e-7)


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


def test_half_precision_is_summed_in_float32(monkeypatch):
    monkeypatch.setattr(tiles, "CHUNK_TOKENS", 1)
    tensors, _, fixed = make_case(23, 1000, 4, 6, dtype=torch.bfloat16)
    tensors["hidden"] = tensors[
        "hidden"
    ].abs()  # all gradients of a label point one way: a bfloat16 sum would stop short
    labels = torch.zeros(1000, dtype=torch.int64)
    _, grads = run(pege_loss, tensors, labels, fixed)
    _, exact = run(eager.pege_loss, {k: v.double() for k, v in tensors.items()}, labels, fixed)
    for name in ("weight", "bias"):
        assert relative_error(grads[name], exact[name]) < 5e-3, name  # bfloat16 has 8 bits: 2e-3 from rounding once


def test_under_autocast_the_products_are_bfloat16_and_the_gradients_float32():
    tensors, labels, fixed = make_case(12, 30, 16, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out, grads = run(pege_loss, tensors, labels, fixed)
    exact, exact_grads = run(eager.pege_loss, tensors, labels, fixed)
    assert out.loss.item() == pytest.approx(exact.loss.item(), rel=2e-2)
    assert grads["weight"].dtype == torch.float32
    assert relative_error(grads["weight"], exact_grads["weight"]) < 3e-2


def test_a_head_of_another_precision_is_taken_in_that_of_the_hidden_states():
    tensors, labels, fixed = make_case(24, 30, 16, 64)
    mixed = {**tensors, "hidden": tensors["hidden"].bfloat16()}
    exact, exact_grads = run(eager.pege_loss, tensors, labels, fixed)
    for loss in (pege_loss, eager.pege_loss):
        out, grads = run(loss, mixed, labels, fixed)
        assert out.loss.item() == pytest.approx(exact.loss.item(), rel=1e-2)
        for name in tensors:
            assert grads[name].dtype == mixed[name].dtype
            assert relative_error(grads[name], exact_grads[name]) < 3e-2


def test_a_second_backward_gives_the_same_on_a_retained_graph_and_is_refused_on_a_freed_one():
    tensors, labels, fixed = make_case(21)
    _, grads = run(pege_loss, tensors, labels, fixed)
    leaves = {k: v.requires_grad_() for k, v in tensors.items()}
    out = pege_loss(leaves["hidden"], leaves["weight"], labels, bias=leaves["bias"], **fixed)
    (3 * out.loss).backward(retain_graph=True)
    out.loss.backward(retain_graph=True)
    out.loss.backward()
    for name, leaf in leaves.items():
        assert relative_error(leaf.grad, 5 * grads[name]) < 1e-6
    with pytest.raises(RuntimeError, match="a second time"):
        out.loss.backward()


def test_a_second_derivative_is_refused():
    tensors, labels, fixed = make_case(21)
    out = pege_loss(tensors["hidden"].requires_grad_(), tensors["weight"], labels, **fixed)
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(out.loss, tensors["hidden"], create_graph=True)


class LargestTensor(TorchDispatchMode):
    """Notes the most numbers that an operation gave."""

    n_numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.n_numbers = max(self.n_numbers, *(t.numel() for t in tree_leaves(out) if isinstance(t, torch.Tensor)), 0)
        return out


@pytest.mark.parametrize("softcap", [None, 30.0])
@pytest.mark.parametrize("n_vocabulary", [2000, 10_000])
def test_no_tensor_of_tokens_by_vocabulary_is_ever_made(n_vocabulary, softcap):
    tensors, labels, fixed = make_case(22, 900, 4, n_vocabulary)
    hidden, weight = tensors["hidden"].requires_grad_(), tensors["weight"].requires_grad_()
    with LargestTensor() as largest:
        pege_loss(hidden, weight, labels, softcap=softcap, **fixed).loss.backward()
    held = (1 if softcap is None else 2) * tiles.CHUNK_TOKENS * n_vocabulary  # of a chunk: exponentials, slopes
    assert largest.n_numbers == min(held, tiles.FILTERED_NUMBERS)


def peaked_case(seed, n_tokens=40, n_hidden=16, n_vocabulary=300, dtype=torch.float64):
    """Logits as a trained model has them: nearly all mass on few columns."""
    tensors, labels, fixed = make_case(seed, n_tokens, n_hidden, n_vocabulary, dtype=dtype, scale=1.0)
    tensors["weight"].mul_(6.0)
    return tensors, labels, fixed


@pytest.fixture
def held(monkeypatch):
    """Of each chunk: its tokens, and how many columns it holds as they are, and in bfloat16."""
    found, real = [], chunks.Chunk.add_gradients

    def add_gradients(chunk, *args):
        counts = {False: 0, True: 0}
        for piece in chunk.pieces:
            counts[piece.powers.dtype == torch.bfloat16] += piece.powers.shape[1]
        found.append((len(chunk.hidden), counts[False], counts[True]))
        real(chunk, *args)

    monkeypatch.setattr(chunks.Chunk, "add_gradients", add_gradients)
    return found


@pytest.mark.parametrize("softcap", [None, 40.0])
@pytest.mark.parametrize("seed", range(4))
def test_filtered_gradients_are_exact_to_about_the_bound(seed, softcap, small_tiles, held, monkeypatch):
    monkeypatch.setattr(tiles, "FILTERED_TOKENS", 4)
    tensors, labels, fixed = peaked_case(seed)
    out, grads = run(pege_loss, tensors, labels, fixed, softcap=softcap, filter_eps=1e-6)
    reference, exact = run(eager.pege_loss, tensors, labels, fixed, softcap=softcap)
    assert out.loss.item() == pytest.approx(reference.loss.item(), rel=1e-12)
    for name in tensors:
        assert relative_error(grads[name], exact[name]) < 1e-5
    n_columns = len(tensors["weight"])
    assert sum(n for _, n, _ in held) < 0.7 * n_columns * len(held)  # else there is nothing to be fast about


def test_what_all_rows_of_the_head_share_does_not_count_as_left_out(small_tiles):
    tensors, labels, fixed = peaked_case(5)
    tensors["bias"].zero_()
    shared = 100 * torch.randn(16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    moved = {**tensors, "weight": tensors["weight"] + shared}  # softmax and gradient by the hidden states stay
    _, exact = run(eager.pege_loss, tensors, labels, fixed, trained=("hidden",))
    for case in (tensors, moved):
        _, grads = run(pege_loss, case, labels, fixed, trained=("hidden",), filter_eps=1e-5)
        assert 1e-12 < relative_error(grads["hidden"], exact["hidden"]) < 1e-4


def test_by_default_only_a_frozen_head_in_float32_leaves_out_what_it_cannot_feel(small_tiles):
    tensors, labels, fixed = peaked_case(6)
    single = {k: v.float() for k, v in tensors.items()}
    for case, trained, is_exact in (
        (tensors, ("hidden",), True),
        (single, ("hidden", "weight", "bias"), True),
        (single, ("hidden",), False),
    ):
        _, exact = run(eager.pege_loss, tensors, labels, fixed, trained=trained)
        _, by_default = run(pege_loss, case, labels, fixed, trained=trained)
        _, all_of_it = run(pege_loss, case, labels, fixed, trained=trained, filter_eps=0.0)
        assert torch.equal(by_default["hidden"], all_of_it["hidden"]) == is_exact
        for name in trained:
            assert relative_error(by_default[name], exact[name]) < 1e-5


def test_float16_keeps_small_gradients_of_many_items():
    tensors, labels, fixed = make_case(14, 30, 16, 4000, dtype=torch.float64, scale=0.5)
    low = {k: v.half() for k, v in tensors.items()}
    scale = 2.0**16  # of a GradScaler; float16 itself ends at 6e-8
    given = {k: v.clone().requires_grad_() for k, v in low.items()}
    out = pege_loss(given["hidden"], given["weight"], labels, bias=given["bias"], num_items_in_batch=1e5, **fixed)
    (scale * out.loss).backward()
    _, exact = run(eager.pege_loss, {k: v.double() for k, v in low.items()}, labels, fixed, num_items_in_batch=1e5)
    assert relative_error(given["hidden"].grad.double() / scale, exact["hidden"]) < 2e-3


def test_well_learnt_tokens_whose_gradient_is_small_are_as_exact(small_tiles):
    tensors, labels, fixed = peaked_case(10)
    logits = tensors["hidden"] @ tensors["weight"].T + tensors["bias"]
    margin = logits.topk(2).values.diff(dim=1)[:, 0].neg()
    logits, keep = logits * 4, margin > 3  # of these the likeliest has all but less than a thousandth
    labels = torch.where(keep, logits.argmax(1), -100)
    tensors = {"hidden": tensors["hidden"] * 4, "weight": tensors["weight"], "bias": tensors["bias"] * 4}
    no_label = 1 - logits.softmax(1).amax(1)[keep]
    assert keep.sum() > 10
    assert no_label.max() < 1e-3
    _, exact = run(eager.pege_loss, tensors, labels, fixed)
    _, grads = run(pege_loss, tensors, labels, fixed, filter_eps=1e-3)
    for name in tensors:
        assert 0 < relative_error(grads[name], exact[name]) < 5e-3


def test_a_label_without_any_mass_still_pulls(small_tiles):
    tensors, labels, fixed = peaked_case(9, n_tokens=6)
    _, exact = run(eager.pege_loss, tensors, labels, fixed)
    _, grads = run(pege_loss, tensors, labels, fixed, filter_eps=0.5)  # nearly nothing but labels is left
    for row in labels[labels >= 0].unique():
        direction = torch.cosine_similarity(grads["weight"][row], exact["weight"][row], dim=0)
        assert direction > 0.5


@given(seed=st.integers(0, 999), eps=st.sampled_from([1e-12, 1e-9, 1e-6, 1e-3, 0.1]))
@settings(max_examples=25)
def test_what_a_filter_leaves_out_is_bounded_by_it(seed, eps):
    tensors, labels, fixed = peaked_case(seed, n_tokens=10, n_vocabulary=80)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "TILE_COLUMNS", 16)
        _, grads = run(pege_loss, tensors, labels, fixed, filter_eps=eps, alpha=5.0, beta=2.0)
    _, exact = run(eager.pege_loss, tensors, labels, fixed, alpha=5.0, beta=2.0)
    # an entry left out is s (1 + O g - v g), at most s (1 + 2 sqrt(3) (alpha + beta)); their s add up to eps a token
    counted = labels >= 0
    shares = (tensors["hidden"] @ tensors["weight"].T + tensors["bias"]).softmax(1)[counted]
    no_label = (1 - shares.gather(1, labels[counted, None])).mean()
    bound = eps * no_label * (1 + 2 * 3**0.5 * 7) * tensors["hidden"].norm(dim=1).max() * 1.01
    assert (grads["weight"] - exact["weight"]).norm(dim=1).sum() <= bound + 1e-12


def test_chunks_grow_where_little_is_held(monkeypatch, held):
    monkeypatch.setattr(tiles, "FILTERED_NUMBERS", 3000)
    monkeypatch.setattr(tiles, "FILTERED_TOKENS", 1)
    monkeypatch.setattr(chunks, "TILE_COLUMNS", 32)
    tensors, labels, fixed = peaked_case(7, n_tokens=60)
    tensors["bias"][50:] = -40.0  # all but never used
    run(pege_loss, tensors, labels, fixed, filter_eps=1e-6)
    assert held[0][0] <= 10 < held[1][0]  # 3000 numbers are 10 tokens of 300 columns
    held.clear()
    monkeypatch.setattr(tiles, "EXACT_NUMBERS", 3000)
    run(pege_loss, tensors, labels, fixed, filter_eps=0.0)
    assert max(n for n, _, _ in held) <= 10


@pytest.mark.parametrize("loss", [pege_loss])
def test_a_filter_that_is_no_probability_is_refused(loss):
    tensors, labels, fixed = make_case(0, 4, 3, 9)
    for name in ("filter_eps", "low_eps"):
        for eps in (-1e-9, 1.0):
            with pytest.raises(InputError, match=name):
                run(loss, tensors, labels, fixed, **{name: eps})


def peaked_singles(seed):
    """In float32: some columns are frequent and most are rare, at all positions."""
    tensors, labels, fixed = make_case(seed, 40, 16, 300)
    shared = torch.randn(16, generator=torch.Generator().manual_seed(seed))
    tensors["hidden"] = tensors["hidden"] / 2 + 5 * shared / shared.norm()
    return tensors, labels, fixed


def doubled(tensors):
    return {k: v.double() for k, v in tensors.items()}


@given(
    seed=st.integers(0, 999),
    low_eps=st.sampled_from([1e-4, 1e-3, 1e-2]),
    filter_eps=st.sampled_from([0.0, 1e-5, None]),
    softcap=st.sampled_from([None, 40.0]),
    trained=st.sampled_from([("hidden",), ("hidden", "weight"), ("hidden", "weight", "bias"), ("hidden", "bias")]),
    has_bias=st.booleans(),
    chunk=st.integers(4, 40),
    tile=st.integers(8, 128),
    step=st.sampled_from([1, 3]),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_products_in_bfloat16_cost_a_small_part_of_their_share(
    seed, low_eps, filter_eps, softcap, trained, has_bias, chunk, tile, step
):
    tensors, labels, fixed = peaked_singles(seed)
    if not has_bias:
        del tensors["bias"]
        trained = tuple(t for t in trained if t != "bias")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "CHUNK_TOKENS", chunk)
        patch.setattr(chunks, "TILE_COLUMNS", tile)
        patch.setattr(chunks, "_STEP", step)
        options = {"softcap": softcap, "trained": trained}
        out, grads = run(pege_loss, tensors, labels, fixed, low_eps=low_eps, filter_eps=filter_eps, **options)
    reference, exact = run(eager.pege_loss, doubled(tensors), labels, fixed, **options)
    single, _ = run(eager.pege_loss, tensors, labels, fixed, **options)  # what float32 does by itself
    for name in ("nll", "ed"):
        rounding = relative_error(getattr(single, name), getattr(reference, name).detach())
        assert relative_error(getattr(out, name), getattr(reference, name).detach()) < 3 * rounding + 0.02 * low_eps
    for name in trained:
        assert relative_error(grads[name], exact[name]) < 0.05 * low_eps + 2e-5, name


def test_most_columns_of_a_peaked_softmax_are_multiplied_in_bfloat16(small_tiles, held, monkeypatch):
    monkeypatch.setattr(chunks, "TILE_COLUMNS", 128)
    tensors, labels, fixed = peaked_singles(3)
    n = len(tensors["weight"])
    run(pege_loss, tensors, labels, fixed, low_eps=1e-2, filter_eps=0.0)
    assert all(low > n / 3 and exact + low >= n for _, exact, low in held)  # what is exact has its 0 in bfloat16
    held.clear()
    run(pege_loss, tensors, labels, fixed, low_eps=1e-2, filter_eps=1e-4)
    assert all(exact + low < 0.8 * n for _, exact, low in held)
    assert any(low for _, _, low in held)


def test_what_all_rows_and_all_hidden_states_share_costs_no_digits_in_bfloat16(small_tiles):
    tensors, labels, fixed = peaked_singles(5)
    g = torch.Generator().manual_seed(1)
    moved = {**tensors, "weight": tensors["weight"] + 30 * torch.randn(16, generator=g)}
    moved["hidden"] = tensors["hidden"] + 3 * torch.randn(16, generator=g)
    _, exact = run(eager.pege_loss, doubled(moved), labels, fixed)
    _, single = run(eager.pege_loss, moved, labels, fixed)
    _, grads = run(pege_loss, moved, labels, fixed, low_eps=1e-2)
    # in bfloat16 a logit of 100 is off by up to a half, its exponential by the half of it, and these columns are 1e-2
    for name in exact:
        assert relative_error(grads[name], exact[name]) < 5e-4 + 3 * relative_error(single[name], exact[name])


def test_a_trained_row_gets_its_gradient_however_small(small_tiles):
    tensors, labels, fixed = peaked_singles(6)
    _, exact = run(eager.pege_loss, doubled(tensors), labels, fixed)
    _, grads = run(pege_loss, tensors, labels, fixed, low_eps=1e-2)
    _, filtered = run(pege_loss, tensors, labels, fixed, low_eps=1e-2, filter_eps=1e-3)
    for found, least in ((grads["weight"], 0.99), (filtered["weight"], -1.0)):
        sizes = found.double().norm(dim=1) * exact["weight"].norm(dim=1)
        assert (sizes == 0).any() == (least < 0)
        cosine = (found.double() * exact["weight"]).sum(1) / sizes
        assert cosine[sizes > 0].min() > least


def test_where_no_column_is_multiplied_again_the_loss_goes_on(monkeypatch, held):
    monkeypatch.setattr(chunks, "TILE_COLUMNS", 8)
    tensors, labels, fixed = make_case(12, 20, 16, 24, scale=0.01, ignored=0.0)
    tensors["bias"][8:] = -40.0
    labels %= 8
    _, exact = run(eager.pege_loss, doubled(tensors), labels, fixed)
    _, grads = run(pege_loss, tensors, labels, fixed, low_eps=1e-3)
    assert any(low for _, _, low in held)  # a tile without any column of mass; those with mass are all as they are
    for name in exact:
        assert relative_error(grads[name], exact[name]) < 1e-4


@pytest.mark.parametrize("trained", [("hidden", "bias"), ("hidden", "weight")])
def test_by_default_what_is_trained_gets_its_gradient(trained, small_tiles):
    tensors, labels, fixed = peaked_case(6)
    single = {k: v.float() for k, v in tensors.items()}
    _, exact = run(pege_loss, single, labels, fixed, trained=trained, filter_eps=0.0)
    _, by_default = run(pege_loss, single, labels, fixed, trained=trained)
    assert torch.equal(by_default[trained[1]] == 0, exact[trained[1]] == 0)


def test_a_flat_softmax_is_multiplied_as_it_is_from_the_second_chunk_on(small_tiles, held, monkeypatch):
    monkeypatch.setattr(tiles, "FILTERED_TOKENS", 10)
    tensors, labels, fixed = make_case(11, 40, 16, 300, scale=0.01)
    tried, real = [], chunks.Low.tries
    monkeypatch.setattr(chunks.Low, "tries", lambda low: tried.append(real(low)) or tried[-1])
    _, grads = run(pege_loss, tensors, labels, fixed, low_eps=1e-3, filter_eps=1e-5)
    n_tiles = 300 // 8 + 1
    assert len(tried) == n_tiles  # in the first chunk alone
    assert 1 < sum(tried) < n_tiles / 4
    assert len(held) > 1
    assert all((exact, low) == (300, 0) for _, exact, low in held)
    _, exact = run(pege_loss, tensors, labels, fixed, filter_eps=0.0)
    for name in exact:
        assert relative_error(grads[name], exact[name]) < 1e-6


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_products_in_bfloat16_are_for_float32(dtype, small_tiles, held):
    tensors, labels, fixed = peaked_case(6, dtype=torch.float64)
    run(pege_loss, {k: v.to(dtype) for k, v in tensors.items()}, labels, fixed, low_eps=0.1)
    assert all(low == 0 for _, _, low in held)


def test_by_default_large_products_are_in_bfloat16_where_the_processor_has_it(small_tiles, held, monkeypatch):
    tensors, labels, fixed = peaked_singles(6)
    monkeypatch.setattr(fused, "LOW_EPS", 1e-2)
    monkeypatch.setattr(chunks, "TILE_COLUMNS", 128)
    for trained in (("hidden",), ("hidden", "weight", "bias")):
        for has_it, least, low_eps in ((True, 0, 1e-2), (False, 0, 0.0), (True, 1e9, 0.0)):
            monkeypatch.setattr(fused, "_has_bfloat16", lambda has_it=has_it: has_it)
            monkeypatch.setattr(fused, "_LEAST_PRODUCT", least)
            held.clear()
            _, by_default = run(pege_loss, tensors, labels, fixed, trained=trained)
            assert any(low for _, _, low in held) == bool(low_eps)
            _, named = run(pege_loss, tensors, labels, fixed, trained=trained, low_eps=low_eps)
            _, exact = run(pege_loss, tensors, labels, fixed, trained=trained, filter_eps=0.0)
            assert all(torch.equal(by_default[k], named[k]) for k in trained)
            assert torch.equal(by_default["hidden"], exact["hidden"]) == (low_eps == 0 and "weight" in trained)
