"""Products by the other library are those of torch's own, forward and backward, and taken only where they fit."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pege import products
from pege.models.causal import load_model
from pege.products import Linear, add_product, product, use_fast_products


@pytest.fixture(autouse=True)
def taken(monkeypatch):
    """Takes them on any machine, however small; counts the calls."""
    calls = []
    multiply = products._multiply

    def counted(*tensors):
        calls.append([t.shape for t in tensors[:2]])
        return multiply(*tensors)

    monkeypatch.setattr(products, "has_idle_units", lambda: True)
    monkeypatch.setattr(products, "_LEAST", 1)
    monkeypatch.setattr(products, "_LEAST_ROWS", 1)
    monkeypatch.setattr(products, "_multiply", counted)
    return calls


def linear_pair(n_in, n_out, bias, seed):
    torch.manual_seed(seed)
    fast = Linear(n_in, n_out, bias=bias)
    return fast, nn.Linear(n_in, n_out, bias=bias).double().requires_grad_(True), torch.Generator().manual_seed(seed)


@given(
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    n_in=st.integers(1, 33),
    n_out=st.integers(1, 33),
    bias=st.booleans(),
    trained=st.sets(st.sampled_from(["input", "weight", "bias"])),
    seed=st.integers(0, 9),
)
@settings(max_examples=80, deadline=None)
def test_a_linear_layer_and_its_gradients_are_torchs_in_float64(shape, n_in, n_out, bias, trained, seed):
    fast, plain, g = linear_pair(n_in, n_out, bias, seed)
    plain.load_state_dict({k: v.double() for k, v in fast.state_dict().items()})
    x = torch.randn(*shape, n_in, generator=g)
    inputs = x.clone().requires_grad_("input" in trained), x.double().requires_grad_("input" in trained)
    for layer in (fast, plain):
        for name, p in layer.named_parameters():
            p.requires_grad_(name in trained)
    found, expected = fast(inputs[0]), plain(inputs[1])
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)
    assert found.requires_grad == expected.requires_grad
    if not expected.requires_grad:
        return
    grad = torch.randn(expected.shape, generator=g)
    found.backward(grad)
    expected.backward(grad.double())
    for a, b in ((inputs[0], inputs[1]), *zip(fast.parameters(), plain.parameters(), strict=True)):
        assert (a.grad is None) == (b.grad is None)
        if b.grad is not None:
            torch.testing.assert_close(a.grad.double(), b.grad, rtol=1e-4, atol=1e-4)


@given(m=st.integers(1, 20), k=st.integers(1, 20), n=st.integers(1, 20), turned=st.booleans(), seed=st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_products_fill_and_add_to_what_they_are_given(m, k, n, turned, seed):
    g = torch.Generator().manual_seed(seed)
    a = torch.randn(k, m, generator=g).T if turned else torch.randn(m, k, generator=g)
    b = torch.randn(n, k, generator=g).T if turned else torch.randn(k, n, generator=g)
    to = torch.randn(m, 2 * n, generator=g)[:, ::2]
    before = to.clone()
    expected = a.double() @ b.double()
    add_product(a, b, to=to)
    torch.testing.assert_close(to.double(), before.double() + expected, rtol=1e-4, atol=1e-4)
    assert product(a, b, out=to) is to
    torch.testing.assert_close(to.double(), expected, rtol=1e-4, atol=1e-4)


def test_strides_of_any_kind_are_followed():
    g = torch.Generator().manual_seed(0)
    wide = torch.randn(16, 40, generator=g)
    layer = Linear(8, 16)
    layer.weight = nn.Parameter(wide[:, 5:13])
    layer.bias = nn.Parameter(torch.randn(32, generator=g)[::2])
    for x in (torch.randn(7, 40, generator=g)[:, ::5], torch.randn(8, 7, generator=g).T, torch.randn(8).expand(7, 8)):
        x = x.detach().requires_grad_()
        found, expected = layer(x), nn.functional.linear(x.double(), layer.weight.double(), layer.bias.double())
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)
        for grad in (torch.ones(()).expand(7, 16), torch.randn(7, 1).expand(7, 16), torch.randn(16, 7).T):
            for a, b in zip(
                torch.autograd.grad(found, (x, layer.weight, layer.bias), grad, retain_graph=True),
                torch.autograd.grad(expected, (x, layer.weight, layer.bias), grad.double(), retain_graph=True),
                strict=True,
            ):
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_a_frozen_layer_keeps_no_inputs_and_multiplies_twice(taken):
    layer = Linear(8, 16).requires_grad_(False)
    x = torch.randn(5, 8, requires_grad=True)
    y = layer(x)
    affine = y.grad_fn
    while not hasattr(affine, "saved_tensors"):  # behind views
        ((affine, _),) = affine.next_functions
    assert [t is None for t in affine.saved_tensors] == [True, False]
    with FlopCounterMode(display=False) as counter:
        y.sum().backward()
    assert len(taken) == 2
    assert counter.get_total_flops() == 2 * 16 * 8 * 16  # 5 rows, filled up


def test_what_does_not_fit_stays_torchs_own(taken, monkeypatch):
    layer, x = Linear(8, 16), torch.randn(5, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    assert torch.equal(layer.double()(x.double()), nn.functional.linear(x.double(), layer.weight, layer.bias))
    layer = layer.bfloat16()
    assert torch.equal(layer(x.bfloat16()), nn.functional.linear(x.bfloat16(), layer.weight, layer.bias))
    layer = layer.float()
    monkeypatch.setattr(products, "_LEAST", 5 * 8 * 16 + 1)
    assert torch.equal(layer(x), nn.functional.linear(x, layer.weight, layer.bias))
    monkeypatch.setattr(products, "_LEAST", 1)
    monkeypatch.setattr(products, "has_idle_units", lambda: False)
    assert torch.equal(layer(x), nn.functional.linear(x, layer.weight, layer.bias))
    assert not taken


def test_nothing_is_a_product_too():
    assert Linear(8, 16)(torch.zeros(0, 8)).shape == (0, 16)
    layer = Linear(1, 5, bias=False)
    layer.weight = nn.Parameter(torch.zeros(5, 0))
    assert torch.equal(layer(torch.zeros(3, 0)), torch.zeros(3, 5))


@pytest.mark.parametrize("trained", [False, True])
def test_numbers_of_rows_that_differ_make_few_shapes(taken, trained):
    layer = Linear(8, 16).requires_grad_(trained)
    for n in range(1, 1000, 7):
        x = torch.randn(n, 8, requires_grad=True)
        found = layer(x)
        found += 1  # what follows may write into it
        found.sum().backward()
        torch.testing.assert_close(x.grad, layer.weight.sum(0).expand(n, 8), rtol=1e-4, atol=1e-5)
    # 16, 32, 48, 64, then multiples of 64: forward, and backward to each of what has a gradient
    assert len({tuple(map(tuple, shapes)) for shapes in taken}) <= (4 + 15) * (3 if trained else 2)
    taken.clear()
    for n in range(1, 400, 7):
        a, b, out = torch.randn(n, 8), torch.randn(8, n + 30), torch.zeros(n, n + 30)
        torch.testing.assert_close(product(a, b, out=out), a @ b, rtol=1e-4, atol=1e-5)
        add_product(a, b, to=out)
        torch.testing.assert_close(out, 2 * (a @ b), rtol=1e-4, atol=1e-5)
    assert len({tuple(map(tuple, shapes)) for shapes in taken}) <= 2 * (4 + 7)


def test_there_is_no_second_derivative(taken):
    x = torch.randn(5, 8, requires_grad=True)
    (grad,) = torch.autograd.grad(Linear(8, 16)(x).square().sum(), x, create_graph=True)
    assert taken
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_a_loaded_model_takes_them_and_is_the_same_model(tiny_model_dir, tmp_path, taken, monkeypatch):
    model, _ = load_model(tiny_model_dir, dtype="float32")
    kinds = {type(m) for m in model.modules() if isinstance(m, nn.Linear)}
    assert kinds == {Linear}
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        found = copy.deepcopy(model)(ids).logits
        assert taken
        monkeypatch.setattr(products, "has_idle_units", lambda: False)
        plain, _ = load_model(tiny_model_dir, dtype="float32")
        assert not any(isinstance(m, Linear) for m in plain.modules())
        torch.testing.assert_close(found, plain(ids).logits)
    model.save_pretrained(tmp_path / "a")
    plain.save_pretrained(tmp_path / "b")
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == (tmp_path / "b" / "model.safetensors").read_bytes()


def test_only_plain_layers_are_exchanged():
    class Other(nn.Linear):
        pass

    model = nn.Sequential(nn.Linear(2, 2), Other(2, 2), nn.ReLU())
    use_fast_products(model)
    assert [type(m) for m in model] == [Linear, Other, nn.ReLU]
    assert Linear.__name__ == nn.Linear.__name__  # FSDP's settings name layers by it
