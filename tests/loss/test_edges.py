"""The edges of floating point and of input, where the kernel and the eager formula do alike."""

from __future__ import annotations

import math

import pytest
import torch
from cases import make_case, run

from pege.errors import InputError
from pege.loss import eager, pege_loss

pytestmark = pytest.mark.parametrize("loss", [pege_loss, eager.pege_loss], ids=["fused", "eager"])


def test_one_token(loss):
    tensors, labels, fixed = make_case(13, n_tokens=1, ignored=0)
    out, grads = run(loss, tensors, labels, fixed)
    assert out.loss.isfinite()
    assert all(g.isfinite().all() for g in grads.values())


def test_one_entry_in_the_vocabulary_leaves_nothing_to_learn(loss):
    tensors, labels, fixed = make_case(25, n_vocabulary=1, ignored=0)
    out, grads = run(loss, tensors, labels, fixed)
    assert out.nll.item() == 0
    assert out.ed == pytest.approx((fixed["token_vad"] - fixed["user_vad"]).norm(dim=1), abs=1e-6)
    assert all(g.abs().max() < 1e-6 for g in grads.values())


@pytest.mark.parametrize("ignored", [0.2, 1.1], ids=["some counted", "all masked"])
@pytest.mark.parametrize("num_items", [0, torch.tensor(0)])
def test_a_batch_of_no_items_counts_as_one(loss, ignored, num_items):
    tensors, labels, fixed = make_case(26, ignored=ignored)
    out, grads = run(loss, tensors, labels, fixed, num_items_in_batch=num_items)
    one, one_grads = run(loss, tensors, labels, fixed, num_items_in_batch=1)
    assert out.loss.isfinite()
    assert out.loss.item() == one.loss.item()
    assert all(torch.equal(grads[name], one_grads[name]) for name in grads)


def test_labels_of_int32_are_those_of_int64(loss):
    tensors, labels, fixed = make_case(27)
    out, grads = run(loss, tensors, labels.int(), fixed)
    same, same_grads = run(loss, tensors, labels, fixed)
    assert out.loss.item() == same.loss.item()
    assert all(torch.equal(grads[name], same_grads[name]) for name in grads)


def test_weights_are_as_exact_as_float64_hidden_states(loss):
    tensors, labels, fixed = make_case(28, dtype=torch.float64, ignored=0)
    fixed |= {"p_positive": 0.1, "p_negative": 0.7, "n_utterances": 3}
    out, _ = run(loss, tensors, labels, fixed)
    weight = 0.1 + 0.9 * math.cos(3 * math.pi / 7)  # Eq. 2 and 3
    assert out.peg.item() == pytest.approx(weight * out.ed.mean().item(), rel=1e-14)


def test_logits_of_minus_infinity_are_tokens_that_never_come(loss, small_tiles):
    tensors, labels, fixed = make_case(29, n_vocabulary=24, ignored=0)
    labels = labels % 8 + 16
    tensors["bias"][:16] = -math.inf  # two whole tiles
    fewer = {k: v if k == "hidden" else v[16:] for k, v in tensors.items()}
    out, grads = run(loss, tensors, labels, fixed)
    without, _ = run(loss, fewer, labels - 16, {**fixed, "token_vad": fixed["token_vad"][16:]})
    assert out.loss.item() == pytest.approx(without.loss.item(), rel=1e-6)
    assert all(g.isfinite().all() for g in grads.values())


def test_all_masked_gives_zero_and_zero_gradients(loss):
    tensors, labels, fixed = make_case(14, ignored=1.1)
    out, grads = run(loss, tensors, labels, fixed)
    assert out.loss.item() == 0
    assert out.n_tokens == 0
    assert all((g == 0).all() for g in grads.values())


def test_a_user_vad_that_is_met_exactly_has_subgradient_zero(loss):
    tensors, labels, fixed = make_case(15, ignored=0)
    fixed["token_vad"] = torch.full_like(fixed["token_vad"], 0.5)  # then v_t is 0.5 whatever the softmax
    fixed["user_vad"] = torch.full_like(fixed["user_vad"], 0.5)
    out, grads = run(loss, tensors, labels, fixed)
    _, plain_grads = run(loss, tensors, labels, fixed, alpha=0.0, beta=0.0)
    assert out.peg.item() == pytest.approx(0, abs=1e-6)
    for name, g in grads.items():
        assert torch.allclose(g, plain_grads[name], atol=1e-5)


def test_a_user_vad_that_is_met_exactly_among_different_tokens_adds_no_gradient(loss):
    tensors, labels, fixed = make_case(30, n_vocabulary=4, ignored=0)
    for name in tensors:
        tensors[name].zero_()  # a uniform softmax
    fixed["token_vad"] = torch.tensor([[0.0, 0.5, 0.25], [1.0, 0.5, 0.25], [0.25, 0.0, 0.75], [0.75, 1.0, 0.75]])
    fixed["user_vad"] = torch.full((3,), 0.5)
    out, grads = run(loss, tensors, labels, fixed, beta=0.0)
    _, plain_grads = run(loss, tensors, labels, fixed, alpha=0.0, beta=0.0)
    assert (out.ed == 0).all()
    assert all(torch.equal(grads[name], plain_grads[name]) for name in grads)


def test_a_zero_norm_has_subgradient_zero(loss):
    tensors, labels, fixed = make_case(16, ignored=0)
    fixed["token_vad"] = torch.zeros_like(fixed["token_vad"])
    out, grads = run(loss, tensors, labels, fixed)
    assert out.ner.item() == 0
    assert all(g.isfinite().all() for g in grads.values())


def test_without_negative_emotion_the_norm_does_not_count(loss):
    tensors, labels, fixed = make_case(17)
    fixed["p_negative"] = 0.0
    with_beta, _ = run(loss, tensors, labels, fixed, beta=2.0)
    without, _ = run(loss, tensors, labels, fixed, beta=0.0)
    assert with_beta.ner.item() == 0
    assert with_beta.loss.item() == without.loss.item()


@pytest.mark.parametrize("scale", [1e4, 1e5])
@pytest.mark.parametrize("softcap", [None, 30.0])
def test_huge_logits_stay_finite(loss, scale, softcap):
    tensors, labels, fixed = make_case(18, scale=scale)
    out, grads = run(loss, tensors, labels, fixed, softcap=softcap)
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
def test_what_does_not_fit_is_named(loss, change, message):
    tensors, labels, fixed = make_case(19)
    with pytest.raises(InputError) as e:
        run(loss, tensors, labels, {**fixed, **change})
    assert message in str(e.value)


def test_a_label_outside_the_vocabulary_is_named(loss):
    tensors, labels, fixed = make_case(20)
    labels[0] = 23
    with pytest.raises(InputError, match="label 23"):
        run(loss, tensors, labels, fixed)


def test_labels_that_are_no_integers_are_named(loss):
    tensors, labels, fixed = make_case(20)
    with pytest.raises(InputError, match=r"labels is of torch\.float32"):
        run(loss, tensors, labels.float(), fixed)
