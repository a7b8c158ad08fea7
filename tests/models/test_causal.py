"""Where models are found, and what is taken from them."""

from __future__ import annotations

import shutil

import pytest
import torch

from pege.errors import InputError
from pege.models.causal import head_of, last_hidden_states, load_causal


def test_hidden_states_and_head_give_the_logits(tiny_model_dir):
    model, _ = load_causal(tiny_model_dir, dtype="float32")
    ids = torch.tensor([[5, 9, 30, 2]])
    mask = torch.ones_like(ids)
    with torch.no_grad():
        hidden = last_hidden_states(model, ids, mask)
        logits = hidden @ head_of(model).weight.T
        assert torch.allclose(logits, model(input_ids=ids, attention_mask=mask).logits, atol=1e-5)


def test_a_checkpoint_cut_in_half_is_one_line(tiny_model_dir, tmp_path):
    folder = tmp_path / "cut"
    shutil.copytree(tiny_model_dir, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    with pytest.raises(InputError, match="cut or broken"):
        load_causal(folder)


def test_what_is_no_model_is_named(tmp_path):
    with pytest.raises(InputError, match="holds no model"):
        load_causal(tmp_path)
    with pytest.raises(InputError, match="no such model"):
        load_causal(tmp_path / "nothing")
    with pytest.raises(InputError, match="cannot be loaded"):
        load_causal("no-such-model-anywhere")
