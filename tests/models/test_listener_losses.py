"""The losses of MoEL and MIME against PyTorch's own and values worked by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from pege.models.listener_losses import as_probabilities, count_tokens, emotion_loss, token_losses

LOGITS = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([[4, 5, 2], [6, 2, -100]])


def test_without_smoothing_it_is_the_nll():
    total, mean = token_losses(LOGITS, LABELS, smoothing=0.0, pad_token_id=1)
    wanted = F.cross_entropy(LOGITS.flatten(0, 1), LABELS.flatten(), reduction="sum")
    torch.testing.assert_close(total, wanted)
    torch.testing.assert_close(mean, wanted / 5)


def test_with_smoothing_it_is_the_divergence_from_the_smoothed_target():
    total, mean = token_losses(LOGITS, LABELS, smoothing=0.1, pad_token_id=1)
    kept = LABELS.flatten() != -100
    target = torch.full((5, 7), 0.1 / 5)
    target[torch.arange(5), LABELS.flatten()[kept]] = 0.9
    target[:, 1] = 0
    torch.testing.assert_close(target.sum(dim=1), torch.ones(5))
    log_probs = LOGITS.flatten(0, 1)[kept].log_softmax(-1)
    torch.testing.assert_close(total, F.kl_div(log_probs, target, reduction="sum"))
    torch.testing.assert_close(mean, F.cross_entropy(LOGITS.flatten(0, 1), LABELS.flatten()))


def test_a_batch_without_labels_costs_nothing():
    total, mean = token_losses(LOGITS, torch.full((2, 3), -100), smoothing=0.1, pad_token_id=1)
    assert (total, mean, count_tokens(torch.full((2, 3), -100))) == (0, 0, 1)


def test_classes_and_certain_probabilities_are_the_same():
    logits = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    by_hand = (math.log(math.e + math.e**2 + math.e**3) - 1 + math.log(3)) / 2
    classes = torch.tensor([0, 2])
    assert float(emotion_loss(logits, classes)) == pytest.approx(by_hand, abs=1e-6)
    assert float(emotion_loss(logits, as_probabilities(classes, 3))) == pytest.approx(by_hand, abs=1e-6)


def test_probabilities_weigh_the_classes():
    logits = torch.tensor([[1.0, 2.0, 3.0]])
    by_hand = math.log(math.e + math.e**2 + math.e**3) - (0.5 * 1 + 0.2 * 2 + 0.3 * 3)
    assert float(emotion_loss(logits, torch.tensor([[0.5, 0.2, 0.3]]))) == pytest.approx(by_hand, abs=1e-6)
