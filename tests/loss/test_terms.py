"""The weights of Eq. 2-3 and the targets of PEGE-target, by hand."""

from __future__ import annotations

import pytest
import torch

from pege.errors import InputError
from pege.loss.terms import context_weight, target_guidance


@pytest.mark.parametrize(("n", "weight"), [(1, 0.901), (3, 0.223), (5, -0.623), (7, -1.0), (9, -1.0), (99, -1.0)])
def test_a_sad_user_is_met_first_and_led_later(n, weight):
    assert float(context_weight(n, 0.0)) == pytest.approx(weight, abs=1e-3)  # cos(pi * min(n, 7) / 7)


def test_a_happy_user_is_met_all_along():
    assert torch.equal(context_weight(torch.tensor([1, 3, 7, 20]), 1.0), torch.ones(4))


def test_the_period_says_when_the_weight_turns():
    assert float(context_weight(2, 0.0, period=4)) == pytest.approx(0.0, abs=1e-6)
    assert float(context_weight(4, 0.5, period=4)) == pytest.approx(0.5 - 0.5)


def test_a_context_without_utterances_is_refused():
    with pytest.raises(InputError, match="at least 1 utterance"):
        context_weight(torch.tensor([1, 0]), 0.5)


def test_the_target_moves_from_the_user_to_the_anchor():
    user, anchor = torch.tensor([0.2, 0.6, 0.3]), torch.tensor([0.9, 0.5, 0.7])
    first, last, happy = (
        target_guidance(user, anchor, p, n, period=7, like=torch.zeros(1)).target[0]
        for p, n in ((0.0, 1), (0.0, 7), (1.0, 1))
    )
    share = (1 - 0.90097) / 2  # lambda at c = 1: (1 - cos(pi / 7)) / 2
    assert first.tolist() == pytest.approx(((1 - share) * user + share * anchor).tolist(), abs=1e-4)
    assert last.tolist() == pytest.approx(anchor.tolist(), abs=1e-6)
    assert happy.tolist() == pytest.approx(anchor.tolist(), abs=1e-6)
