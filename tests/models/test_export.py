"""A run as one plain folder: the same logits, no pickle, whole or not at all."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from pege.errors import InputError
from pege.models.causal import load_model
from pege.models.export import export_model
from pege.models.gguf_file import _as_llama, export_gguf


def test_an_adapter_is_merged_and_the_folder_loads_alone(tiny_model_dir, tmp_path):
    model, tokenizer = load_model(tiny_model_dir)
    torch.manual_seed(0)
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)).eval()
    adapted.save_pretrained(tmp_path / "run")
    tokenizer.save_pretrained(tmp_path / "run")
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.inference_mode():
        wanted = adapted(input_ids=ids).logits
    folder = export_model(tmp_path / "run", tmp_path / "out" / "plain")
    assert not [f for f in folder.iterdir() if f.suffix in (".bin", ".pt", ".pkl")]
    plain = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True).eval()
    with torch.inference_mode():
        torch.testing.assert_close(plain(input_ids=ids).logits, wanted, atol=1e-5, rtol=1e-5)
    assert AutoTokenizer.from_pretrained(folder).chat_template == tokenizer.chat_template
    with pytest.raises(InputError, match="is there already"):
        export_model(tmp_path / "run", folder)
    assert [p.name for p in folder.parent.iterdir()] == ["plain"]


def test_only_a_model_of_the_base_kind_is_written_as_gguf(tiny_model_dir, tmp_path, monkeypatch):
    import gguf

    monkeypatch.setattr(gguf, "GGUFReader", lambda file: None)
    monkeypatch.setattr("pege.models.gguf_file.base_gguf", lambda: tmp_path)
    monkeypatch.setattr("pege.models.gguf_file.resolve_model", lambda name: str(tmp_path / "other"))
    _, tokenizer = load_model(tiny_model_dir)
    tokenizer.add_tokens(["another"])
    tokenizer.save_pretrained(tmp_path / "other")
    with pytest.raises(InputError, match="not of the embedded base model's kind"):
        export_gguf(tiny_model_dir, tmp_path / "x.gguf")
    assert not (tmp_path / "x.gguf").exists()


def test_rotated_halves_become_pairs_of_neighbours(tiny_model_dir):
    model, _ = load_model(tiny_model_dir)
    rows = torch.arange(32.0)[:, None].expand(32, 32)  # four heads of eight rows
    assert _as_llama("q_proj", rows, model.config)[:8, 0].tolist() == [0, 4, 1, 5, 2, 6, 3, 7]
    assert _as_llama("v_proj", rows, model.config) is rows
