"""The layers that MoEL and MIME share: their values are tested with each model, here what belongs to neither."""

from __future__ import annotations

import math

import pytest
import torch

from pege.models.listener_layers import (
    ContextEncoder,
    KeyDepthAttention,
    ListenerConfig,
    ListenerNorm,
    initialise_listener_weights,
    timing_signal,
)


def test_timing_goes_from_one_radian_a_step_to_a_ten_thousandth():
    found = timing_signal(torch.tensor([[0, 1], [300, 2]]), 301, 7)
    assert found.shape == (2, 2, 7)
    for position, row in ((0, found[0, 0]), (1, found[0, 1]), (300, found[1, 0])):
        angles = [position, position / 100, position / 10_000]
        wanted = [*map(math.sin, angles), *map(math.cos, angles), 0.0]
        torch.testing.assert_close(row, torch.tensor(wanted), atol=1e-6, rtol=0)


def test_the_norm_divides_by_the_samples_deviation():
    # mean 2, squares 1 + 0 + 1 over 3 - 1 = 1
    torch.testing.assert_close(
        ListenerNorm(3)(torch.tensor([1.0, 2.0, 3.0])), torch.tensor([-1.0, 0.0, 1.0]), atol=1e-5, rtol=0
    )


def test_first_weights_are_xaviers():
    torch.manual_seed(0)
    config = ListenerConfig(vocab_size=2000, embedding_size=40, hidden_size=40)
    encoder = ContextEncoder(config)
    encoder.apply(initialise_listener_weights).requires_grad_(False)
    assert float(encoder.words.weight[7:].std()) == pytest.approx(0.01, rel=0.02)
    assert not encoder.words.weight[config.pad_token_id].any()
    attention: KeyDepthAttention = encoder.layers[0].attention
    bound = math.sqrt(6 / (40 + 40))
    assert float(attention.q_proj.weight.abs().max()) == pytest.approx(bound, rel=0.01)
    conv = encoder.layers[0].filter.conv1
    assert float(conv.weight.abs().max()) == pytest.approx(math.sqrt(6 / (3 * 40 + 3 * 50)), rel=0.01)
    assert float(conv.bias.abs().max()) <= 1 / math.sqrt(3 * 40)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"num_attention_heads": 3}, "no multiple of 3 heads"),
        ({"tie_word_embeddings": True, "hidden_size": 200}, "tied output"),
        ({"pad_token_id": 2}, "pad token"),
        ({"pad_token_id": None}, "pad token"),
    ],
)
def test_an_impossible_shape_is_refused(more, words):
    with pytest.raises(ValueError, match=words):
        ListenerConfig(**more)
