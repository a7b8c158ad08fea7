"""The reference against numbers worked by hand and against finite differences."""

from __future__ import annotations

import math

import pytest
import torch

from pege.loss import eager


def test_the_formula_gives_what_the_equations_give_by_hand():
    # Two tokens in the vocabulary, logits log 3 and 0: softmax 3/4, 1/4.
    hidden, weight = torch.tensor([[1.0]]), torch.tensor([[math.log(3.0)], [0.0]])
    token_vad = torch.tensor([[0.8, 0.4, 0.0], [0.4, 0.8, 0.0]])  # v = (0.7, 0.5, 0)
    out = eager.pege_loss(
        hidden,
        weight,
        torch.tensor([1]),
        token_vad=token_vad,
        user_vad=torch.tensor([0.4, 0.1, 0.0]),  # distance (0.3, 0.4): 0.5
        p_positive=0.2,
        p_negative=0.5,
        n_utterances=7,  # f = cos(pi) = -1, weight 0.2 - 0.8 = -0.6
        alpha=5.0,
        beta=2.0,
    )
    assert out.ed.item() == pytest.approx(0.5)
    assert out.nll.item() == pytest.approx(math.log(4))
    assert out.peg.item() == pytest.approx(-0.3)
    assert out.ner.item() == pytest.approx(0.5 * math.sqrt(0.49 + 0.25))
    assert out.loss.item() == pytest.approx(math.log(4) + 5 * -0.3 - 2 * 0.5 * math.sqrt(0.74))


@pytest.mark.parametrize("softcap", [None, 4.0])
def test_gradients_equal_finite_differences(softcap):
    g = torch.Generator().manual_seed(0)
    hidden, weight, bias = (
        torch.randn(*shape, generator=g, dtype=torch.float64, requires_grad=True) for shape in ((4, 3), (9, 3), (9,))
    )
    labels = torch.tensor([1, -100, 8, 0])
    fixed = {
        "token_vad": torch.rand(9, 3, generator=g, dtype=torch.float64),
        "user_vad": torch.rand(4, 3, generator=g, dtype=torch.float64),
        "p_positive": torch.rand(4, generator=g, dtype=torch.float64),
        "p_negative": torch.rand(4, generator=g, dtype=torch.float64),
        "n_utterances": torch.tensor([1, 1, 3, 9]),
    }

    def value(h, w, b):
        return eager.pege_loss(h, w, labels, bias=b, softcap=softcap, **fixed).loss

    assert torch.autograd.gradcheck(value, (hidden, weight, bias), atol=1e-7)
