"""Where models are found, and what is taken from them."""

from __future__ import annotations

import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn.functional import linear
from transformers import AutoConfig, AutoModelForCausalLM

from pege.errors import InputError
from pege.models import causal
from pege.models.causal import load_model
from pege.models.head import check_head, head_of, last_hidden_states, run_to_head

SIZES = {
    "vocab_size": 61, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "initializer_range": 0.5, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
GPT_SIZES = {
    "vocab_size": 61,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "initializer_range": 0.5,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
HEAD_SIZES = SIZES | {"head_dim": 8, "num_key_value_heads": 2}
OPT_SIZES = SIZES | {"ffn_dim": 48, "word_embed_proj_dim": 16, "init_std": 0.5}
RIGHT = {
    "gpt2": GPT_SIZES, "opt": OPT_SIZES, "llama": SIZES, "qwen2": HEAD_SIZES, "mixtral": HEAD_SIZES | {"num_local_experts": 2},
    "gemma2": HEAD_SIZES | {"final_logit_softcapping": 3.0}, "gemma3_text": HEAD_SIZES | {"final_logit_softcapping": 3.0},
    "recurrent_gemma": {k: v for k, v in SIZES.items() if k != "initializer_range"} | {
        "num_hidden_layers": 3, "lru_width": 32, "logits_soft_cap": 0.5, "w_init_variance_scale": 5.0},
    "cohere": SIZES | {"logit_scale": 0.25}, "granite": SIZES | {"logits_scaling": 4.0}, "phi": SIZES, "gpt_neox": SIZES,
    "bloom": SIZES | {"n_head": 4}, "mamba": SIZES | {"state_size": 4},
    "falcon_h1": HEAD_SIZES | {"lm_head_multiplier": 0.5, "mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8},
    "roberta": SIZES | {"is_decoder": True}, "bert": SIZES | {"is_decoder": True},
    "modernbert-decoder": SIZES | {"initializer_cutoff_factor": 2.0, "cls_token_id": 1, "sep_token_id": 2},
}  # fmt: skip
WRONG = {
    "hyperclovax": SIZES | {"logits_scaling": 4.0},  # multiplies where granite divides
    "roberta": SIZES,  # sees what follows
    "xlnet": {"vocab_size": 61, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48, "initializer_range": 0.5},
}


def random_model(kind, settings):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings)).eval()


def own_and_ours(model):
    """Logits of the model itself, and of its hidden states and head."""
    ids = torch.tensor([[5, 9, 30, 2, 41], [7, 7, 8, 50, 3]])
    mask = torch.ones_like(ids)
    head = head_of(model)
    with torch.no_grad():
        logits = linear(last_hidden_states(model, ids, mask) * head.scale, head.weight, head.bias)
        own = model(input_ids=ids, attention_mask=mask).logits
    return own, torch.tanh(logits / head.softcap) * head.softcap if head.softcap else logits


@pytest.mark.parametrize(("kind", "settings"), RIGHT.items(), ids=RIGHT)
def test_hidden_states_and_head_give_the_logits(kind, settings):
    model = random_model(kind, settings)
    own, ours = own_and_ours(model)
    assert torch.allclose(own, ours, atol=1e-4)
    check_head(model)


@pytest.mark.parametrize(("kind", "settings"), WRONG.items(), ids=WRONG)
def test_a_model_whose_loss_would_be_wrong_is_refused(kind, settings):
    model = random_model(kind, settings)
    with pytest.raises(InputError, match=f"{type(model).__name__}: its logits are not"):
        check_head(model)


def test_an_adapter_beside_the_head_is_seen_and_one_on_it_refused():
    lora = {"task_type": "CAUSAL_LM", "r": 2, "init_lora_weights": False}
    wrapped = get_peft_model(random_model("llama", SIZES), LoraConfig(target_modules=["q_proj"], **lora))
    check_head(wrapped)
    wrapped = get_peft_model(random_model("llama", SIZES), LoraConfig(target_modules=["lm_head"], **lora))
    with pytest.raises(InputError, match=r"has an adapter on its output matrix.*lora\.target_modules"):
        head_of(wrapped)
    saved = LoraConfig(target_modules=["q_proj"], modules_to_save=["lm_head"], **lora)
    wrapped = get_peft_model(random_model("llama", SIZES), saved)
    with torch.no_grad():
        head_of(wrapped).weight.mul_(2)
    check_head(wrapped)


def test_gradients_reach_the_model_with_checkpointing_and_no_hook_stays():
    model = random_model("llama", SIZES).train()
    ids = torch.tensor([[5, 9, 30, 2]])
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        model.zero_grad()
        last_hidden_states(model, ids, torch.ones_like(ids)).square().sum().backward()
        gradients.append(model.model.embed_tokens.weight.grad.clone())
    assert torch.allclose(*gradients)
    assert gradients[0].abs().sum() > 0
    with pytest.raises(IndexError):
        last_hidden_states(model, ids + 60, torch.ones_like(ids))
    assert not model.lm_head._forward_pre_hooks


def test_a_checkpoint_cut_in_half_is_one_line(tiny_model_dir, tmp_path):
    folder = tmp_path / "cut"
    shutil.copytree(tiny_model_dir, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    with pytest.raises(InputError, match="cut or broken"):
        load_model(folder)


def test_what_is_no_model_is_named(tmp_path):
    with pytest.raises(InputError, match="holds no model"):
        load_model(tmp_path)
    with pytest.raises(InputError, match="no such model"):
        load_model(tmp_path / "nothing")
    with pytest.raises(InputError, match="cannot be loaded"):
        load_model("no-such-model-anywhere")


def test_what_is_done_at_the_head_is_done_before_the_model_multiplies_with_it():
    model = random_model("llama", SIZES)
    order, ids = [], torch.arange(7)[None]
    handle = model.lm_head.register_forward_hook(lambda *_: order.append("called"))
    found, _ = run_to_head(model, at_head=lambda hidden: order.append("at") or hidden.sum(), input_ids=ids)
    handle.remove()
    assert order == ["at", "called"]
    assert found == last_hidden_states(model, ids, torch.ones_like(ids)).sum()


def test_of_two_processes_that_convert_the_base_at_once_both_have_it(tmp_path, monkeypatch):
    def convert(_file, folder):
        for place in (folder, tmp_path / "smollm2-135m-instruct"):  # ours, and that of a faster process
            place.mkdir(exist_ok=True)
            (place / "config.json").write_text("{}")

    monkeypatch.setattr(causal, "base_gguf", lambda: tmp_path / "x.gguf")
    monkeypatch.setattr(causal, "_convert_gguf", convert)
    found = causal.resolve_model("base", cache_dir=tmp_path)
    assert found == str(tmp_path / "smollm2-135m-instruct")
    assert [p.name for p in tmp_path.iterdir()] == ["smollm2-135m-instruct"]
