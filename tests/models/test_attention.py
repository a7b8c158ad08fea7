"""Attention that does not repeat keys for the heads that share them."""

from types import SimpleNamespace

import pytest
import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from pege.models.attention import attention


@pytest.mark.parametrize("n", [1, 5])
@pytest.mark.parametrize("n_groups", [1, 3])
@pytest.mark.parametrize("kind", [torch.bool, torch.float32])
def test_shared_keys_give_what_repeated_ones_give(n, n_groups, kind):
    torch.manual_seed(0)
    query = torch.randn(2, n, 2 * n_groups, 8).transpose(1, 2)
    room = torch.randn(2, 2, 2, 20, 8)  # as in a cache that has columns to spare
    keys, values = room[0, :, :, :11], room[1, :, :, :11]
    seen = (torch.tensor([3, 6])[:, None] + torch.arange(n))[:, None, :, None] >= torch.arange(11)
    mask = seen if kind == torch.bool else torch.zeros(seen.shape).masked_fill(~seen, -torch.inf)
    layer = SimpleNamespace(num_key_value_groups=n_groups, is_causal=True)
    with torch.no_grad():
        ours, weights = attention(layer, query, keys, values, mask, scaling=0.3)
        theirs, _ = sdpa_attention_forward(layer, query, keys, values, mask, scaling=0.3)
    assert weights is None
    assert ours.shape == theirs.shape
    assert ours.is_contiguous()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("of_query", [True, False])  # with one for the query keys are repeated, without they are shared
def test_gradients_go_through_keys_that_are_shared(of_query):
    torch.manual_seed(0)
    query, keys = torch.randn(1, 4, 3, 8, requires_grad=of_query), torch.randn(1, 2, 3, 8, requires_grad=True)
    layer, mask = SimpleNamespace(num_key_value_groups=2, is_causal=True), torch.ones(3, 3).tril().bool()[None, None]
    gradients = []
    for run in (attention, sdpa_attention_forward):
        run(layer, query, keys, keys, mask)[0].square().sum().backward()
        gradients.append([x.grad for x in (query, keys) if x.requires_grad])
        query.grad = keys.grad = None
    torch.testing.assert_close(*gradients)
