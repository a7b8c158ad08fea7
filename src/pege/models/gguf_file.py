"""A causal LM on the embedded base model as one GGUF file, for llama.cpp."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pege.errors import InputError
from pege.io import write_atomic
from pege.models.causal import BASE, base_gguf, load_model, load_tokenizer, resolve_model

_OURS = ("GGUF.", "general.architecture", "general.file_type", "general.quantization_version", "general.name")


def export_gguf(name: str | Path, output: Path) -> Path:
    """Write a run on ``base`` as GGUF in 16-bit floats; LoRA adapters are merged in.

    Tokenizer and hyperparameters are those of the base model's own GGUF file, which llama.cpp knows; so only a model
    with its architecture and vocabulary can be written. Others: `export_model`, then llama.cpp's converter.

    Raises:
        InputError: another architecture or vocabulary; a file that is there; no such model.
    """
    import gguf
    import torch

    if output.exists():
        raise InputError("is there already", where=output, fix="name a new file")
    reader = gguf.GGUFReader(base_gguf())
    model, tokenizer = load_model(name, dtype="float32")
    if model.config.model_type != "llama" or tokenizer.get_vocab() != load_tokenizer(resolve_model(BASE)).get_vocab():
        fix = "export safetensors, and convert them with llama.cpp's convert_hf_to_gguf.py"
        raise InputError("is not of the embedded base model's kind", where=name, fix=fix)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, model.config.num_hidden_layers)
    with write_atomic(output) as temporary:
        writer = gguf.GGUFWriter(temporary, "llama")
        writer.add_name(Path(name).name)
        writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
        for field in reader.fields.values():
            if not field.name.startswith(_OURS):
                kinds = field.types
                part = kinds[-1] if kinds[0] == gguf.GGUFValueType.ARRAY else None
                writer.add_key_value(field.name, field.contents(), kinds[0], sub_type=part)
        for key, value in model.state_dict().items():
            if key == "lm_head.weight" and model.config.tie_word_embeddings:
                continue
            array = _as_llama(key, value, model.config).to(torch.float16 if value.ndim > 1 else torch.float32)
            writer.add_tensor(names.get_name(key, try_suffixes=(".weight", ".bias")), array.contiguous().numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return output


def _as_llama(key: str, value: Any, config: Any) -> Any:
    """A weight as llama.cpp has it: it rotates pairs of neighbours in a head, transformers the two halves."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    n = next((n for part, n in heads.items() if part in key), None)
    if n is None:
        return value
    return value.reshape(n, 2, value.shape[0] // n // 2, *value.shape[1:]).swapaxes(1, 2).reshape(value.shape)
