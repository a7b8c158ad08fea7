"""Perplexity of a model on rows, against the model's own loss."""

from __future__ import annotations

import math

import pytest
import torch

from pege.errors import InputError
from pege.io import write_rows
from pege.training.measure import measure_perplexity
from pege.training.samples import ready_dialogs


@pytest.fixture
def rows(dialogs, tmp_path):
    write_rows(tmp_path / "rows.jsonl", dialogs)
    return str(tmp_path / "rows.jsonl")


def test_perplexity_is_that_of_the_models_own_loss(tiny_model_dir, rows):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from pege.lexicon import load_lexicon
    from pege.training.samples import make_samples

    model, tokenizer = (c.from_pretrained(tiny_model_dir) for c in (AutoModelForCausalLM, AutoTokenizer))
    model.eval()
    total = n_tokens = 0
    import random

    for sample in make_samples(ready_dialogs([rows], None, random.Random(0)), tokenizer, load_lexicon("pege-en")):
        labels = torch.tensor([sample["labels"]])
        with torch.no_grad():
            logits = model(torch.tensor([sample["input_ids"]])).logits
        total += float(
            torch.nn.functional.cross_entropy(logits[0, :-1], labels[0, 1:], ignore_index=-100, reduction="sum")
        )
        n_tokens += int((labels[0, 1:] != -100).sum())
    found = measure_perplexity(str(tiny_model_dir), [rows], batch_size=3)
    assert found["perplexity"] == pytest.approx(math.exp(total / n_tokens), rel=1e-4)
    assert found["n_dialogs"] == 4


def test_a_part_of_the_rows_is_drawn_by_the_seed(tiny_model_dir, rows):
    found = [measure_perplexity(str(tiny_model_dir), [rows], n_dialogs=2, seed=s) for s in (0, 0, 3)]
    assert found[0] == found[1]
    assert found[0]["n_dialogs"] == found[2]["n_dialogs"] == 2
    assert found[0]["nll"] != found[2]["nll"]


def test_rows_that_are_not_there_are_named(tiny_model_dir):
    with pytest.raises(InputError, match="nowhere"):
        measure_perplexity(str(tiny_model_dir), ["nowhere.jsonl"])
