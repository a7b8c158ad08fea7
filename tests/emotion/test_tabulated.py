"""The table gives what the network gives."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pege.emotion import tabulated
from pege.emotion.classifier import pad
from pege.emotion.tabulated import TabulatedTextCnn, tabulate
from pege.emotion.textcnn import TextCnn, TextCnnShape


def network(widths=(1, 2, 5), seed=0):
    torch.manual_seed(seed)
    shape = TextCnnShape(vocabulary_size=30, embedding_size=6, widths=widths, n_filters=4, n_classes=2)
    return TextCnn(shape).eval()


@given(
    ids=st.lists(st.lists(st.integers(1, 29), min_size=1, max_size=12), min_size=1, max_size=5),
    widths=st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple),
    seed=st.integers(0, 5),
)
@settings(max_examples=60, deadline=None)
def test_the_table_gives_the_logits_of_the_network(ids, widths, seed):
    model, batch = network(widths, seed), pad(ids)
    with torch.inference_mode():
        plain, fast = model(**batch)["logits"], TabulatedTextCnn(model)(**batch)["logits"]
    assert torch.allclose(plain, fast, atol=1e-5)


def test_a_text_has_the_same_logits_in_any_batch():
    fast = TabulatedTextCnn(network())
    with torch.inference_mode():
        alone, padded = fast(**pad([[3, 4]]))["logits"], fast(**pad([[3, 4], [5] * 9]))["logits"]
    assert alone[0].tolist() == pytest.approx(padded[0].tolist(), abs=1e-6)


def test_a_network_too_large_for_a_table_stays_itself(monkeypatch):
    model = network()
    monkeypatch.setattr(tabulated, "MAX_NUMBERS", 30 * 4 * 8 - 1)  # V x F x (1 + 2 + 5) is one more
    assert tabulate(model) is model
    monkeypatch.setattr(tabulated, "MAX_NUMBERS", 30 * 4 * 8)
    assert isinstance(tabulate(model), TabulatedTextCnn)
