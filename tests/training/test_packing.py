"""Dialogs without their padding, or as a tree: the same as each alone, and no dialog sees another."""

from __future__ import annotations

import itertools

import pytest
import torch
from tests.training.test_training import make_trainer
from transformers import AttentionMaskInterface
from transformers import modeling_flash_attention_utils as flash
from transformers.masking_utils import sdpa_mask

from pege.lexicon import load_lexicon
from pege.models import attention
from pege.models.attention import run_packed, run_tree, takes_trees, use_packed_attention
from pege.models.causal import load_model
from pege.models.head import run_to_head
from pege.training import LossSettings
from pege.training.samples import make_samples


@pytest.fixture
def setting(tiny_model_dir, lexicon_file, dialogs):
    model, tokenizer = load_model(tiny_model_dir, dtype="float32")
    lexicon = load_lexicon(lexicon_file)
    return model, tokenizer, lexicon, list(make_samples(dialogs, tokenizer, lexicon, max_length=200))


@pytest.mark.parametrize("kind", ["pege", "target"])
def test_packed_losses_and_gradients_are_those_of_padded_batches(setting, tmp_path, kind):
    trainer = make_trainer(setting, tmp_path, LossSettings(kind=kind))
    trainer.positive_vad = torch.tensor([0.9, 0.5, 0.6])
    batch = trainer.data_collator(setting[3])
    found = {}
    assert trainer.packs
    for trainer.packs in (True, False):
        trainer.model.zero_grad()
        loss = trainer.compute_loss(trainer.model, batch)
        loss.backward()
        found[trainer.packs] = loss.item(), {n: p.grad.clone() for n, p in trainer.model.named_parameters()}
    assert found[True][0] == pytest.approx(found[False][0], rel=1e-6)
    for name, gradient in found[False][1].items():
        torch.testing.assert_close(found[True][1][name], gradient, rtol=1e-5, atol=1e-6, msg=name)


def test_a_dialog_sees_nothing_of_the_one_before_it(setting):
    model = setting[0]
    assert use_packed_attention(model)
    ids = torch.randint(5, 390, (3, 20), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 11:] = 0
    before = run_packed(model, input_ids=ids, attention_mask=mask)
    other = ids.clone()
    other[0] = 7
    after = run_packed(model, input_ids=other, attention_mask=mask)
    assert torch.equal(before[1:], after[1:])
    assert not torch.equal(before[0], after[0])
    assert before[1, 11:].abs().sum() == 0


def test_no_token_of_padding_is_computed(setting, tmp_path, monkeypatch):
    trainer = make_trainer(setting, tmp_path, LossSettings())
    batch = trainer.data_collator(setting[3])
    shapes = []
    trainer.model.model.layers[0].mlp.register_forward_pre_hook(lambda _, inputs: shapes.append(inputs[0].shape[:2]))
    trainer.compute_loss(trainer.model, batch).backward()
    n_tokens = sum(len(s["input_ids"]) for s in setting[3])
    assert shapes == [(1, n_tokens)]
    assert n_tokens < batch["input_ids"].numel()


def gemma(window, kinds=("sliding_attention", "full_attention"), **more):
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=400, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, head_dim=8,
        num_key_value_heads=2, sliding_window=window, layer_types=list(kinds), initializer_range=0.5, **more,
    )  # fmt: skip
    return Gemma3ForCausalLM(config)


@pytest.mark.parametrize("window", [4, 11, 64])
def test_layers_that_see_a_window_see_it_in_packed_rows(window):
    model = gemma(window).eval()
    ids = torch.randint(5, 390, (3, 20), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[0, 3:] = mask[1, 11:] = 0
    padded = run_to_head(model, input_ids=ids, attention_mask=mask)[0]
    assert use_packed_attention(model)
    packed = run_packed(model, input_ids=ids, attention_mask=mask)
    torch.testing.assert_close(packed, padded * mask[..., None], rtol=1e-4, atol=1e-5)
    wide = gemma(64).eval()
    assert use_packed_attention(wide)
    whole = run_packed(wide, input_ids=ids, attention_mask=mask)
    assert torch.allclose(packed, whole, atol=1e-3) == (window == 64)


def varlen(
    q, k, v, *, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, softmax_scale, causal, window_size=(-1, 0)
):
    """What the kernel of flash attention for rows of different lengths computes, as its documentation has it."""
    assert causal
    assert cu_seqlens_q.dtype == cu_seqlens_k.dtype == torch.int32
    assert torch.equal(cu_seqlens_q, cu_seqlens_k)
    assert max_seqlen_q == max_seqlen_k >= cu_seqlens_q.diff().max()
    parts = []
    for start, end in itertools.pairwise(cu_seqlens_q.tolist()):
        queries, keys, values = (x[start:end].transpose(0, 1) for x in (q, k, v))  # (heads, S, D)
        keys, values = (x.repeat_interleave(q.shape[1] // k.shape[1], 0) for x in (keys, values))
        before = torch.arange(end - start)[:, None] - torch.arange(end - start)
        hidden = (before < 0) | ((before > window_size[0]) if window_size[0] >= 0 else False)
        scores = (queries @ keys.transpose(1, 2) * softmax_scale).masked_fill(hidden, float("-inf"))
        parts.append((scores.softmax(-1) @ values).transpose(0, 1))
    return torch.cat(parts)


@pytest.mark.parametrize("window", [None, 4])
def test_flash_attention_is_told_where_each_dialog_starts(setting, monkeypatch, window):
    """The kernel needs a GPU; all around it is transformers' own."""
    monkeypatch.setattr(flash, "_loaded_implementation", "flash_attention_2")
    monkeypatch.setattr(flash, "_flash_varlen_fn", varlen)
    monkeypatch.setattr(flash, "_process_flash_kwargs_fn", flash._lazy_define_process_function(varlen))
    model = setting[0] if window is None else gemma(window).eval()
    monkeypatch.setattr(model, "_check_and_adjust_attn_implementation", lambda kind, **_: kind)
    ids = torch.randint(5, 390, (3, 20), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[0, 3:] = mask[1, 11:] = 0
    padded = run_to_head(model, input_ids=ids, attention_mask=mask)[0]
    model.set_attn_implementation("flash_attention_2")
    assert use_packed_attention(model)
    assert model.config._attn_implementation == "flash_attention_2"
    packed = run_packed(model, input_ids=ids, attention_mask=mask)
    torch.testing.assert_close(packed, padded * mask[..., None], rtol=1e-4, atol=1e-5)


def test_no_mask_of_all_tokens_by_all_is_made(setting, monkeypatch):
    made = []

    def spy(*args, **more):
        made.append(sdpa_mask(*args, **more))
        return made[-1]

    for model in (setting[0], gemma(4)):
        assert use_packed_attention(model)
        monkeypatch.setitem(AttentionMaskInterface._global_mapping, attention.OWN, spy)
        ids = torch.randint(5, 390, (3, 20), generator=torch.Generator().manual_seed(0))
        run_packed(model, input_ids=ids, attention_mask=torch.ones_like(ids))
        assert not made
        run_to_head(model, input_ids=ids, attention_mask=torch.tril(torch.ones_like(ids)))
        assert made
        made.clear()


def test_rows_that_are_not_packed_and_other_kinds_of_models_go_on_as_they_were(setting):
    from transformers import MistralConfig, MistralForCausalLM

    model = setting[0]
    ids = torch.randint(5, 390, (2, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[0, :4] = 0  # padding on the left, which a causal mask alone does not hide
    before = run_to_head(model, input_ids=ids, attention_mask=mask)[0]
    assert use_packed_attention(model)
    assert torch.equal(run_to_head(model, input_ids=ids, attention_mask=mask)[0], before)
    window = MistralForCausalLM(
        MistralConfig(vocab_size=50, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
                      num_key_value_heads=1, sliding_window=4)
    )  # fmt: skip
    assert use_packed_attention(window)
    assert not takes_trees(window)
    assert not takes_trees(gemma(4))
    other = gemma(4)
    other.config.attention_chunk_size, other.config.layer_types[1] = 4, "chunked_attention"
    assert not use_packed_attention(other)
    assert takes_trees(model)
    model.set_attn_implementation("eager")
    assert not takes_trees(model)


def forked_rows():
    ids = torch.randint(5, 390, (9, 12), generator=torch.Generator().manual_seed(0)).tolist()
    start, more = ids[0], [*ids[0], *ids[1]]
    return [start, more, [*start, *ids[2]], [*more, *ids[3]], [*more[:-1], *ids[4]], ids[5], start, ids[6][:1]]


@pytest.mark.parametrize("most_nodes", [2048, 60, 1])
def test_a_tree_gives_each_row_what_it_gets_alone(setting, monkeypatch, most_nodes):
    model, rows = setting[0], forked_rows()
    monkeypatch.setattr(attention, "_MOST_NODES", most_nodes)
    with torch.inference_mode():
        found = run_tree(model, rows)
        alone = [run_to_head(model, input_ids=torch.tensor([row]))[0][0] for row in rows]
    assert [len(f) for f in found] == [len(row) for row in rows]
    for ours, theirs in zip(found, alone, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert run_tree(model, []) == []


def test_a_tree_computes_once_what_rows_share(setting):
    shapes = []
    setting[0].model.layers[0].mlp.register_forward_pre_hook(lambda _, inputs: shapes.append(inputs[0].shape[:2]))
    run_tree(setting[0], forked_rows())
    assert shapes == [(1, 12 + 12 + 12 + 12 + 12 + 12 + 1)]


@pytest.mark.parametrize("kind", ["nemotron", "phimoe", "qwen2_moe"])
def test_layers_that_do_not_tell_their_attention_are_padded(kind):
    from transformers import AutoConfig, AutoModelForCausalLM

    kinds = {"layer_types": ["sliding_attention"] * 2} if kind == "qwen2_moe" else {}
    config = AutoConfig.for_model(
        kind, **kinds, vocab_size=50, hidden_size=16, intermediate_size=16, moe_intermediate_size=8, num_hidden_layers=2,
        shared_expert_intermediate_size=8, num_attention_heads=2, num_key_value_heads=2, num_local_experts=2,
        num_experts=2, num_experts_per_tok=1, sliding_window=4, use_sliding_window=True, max_window_layers=0, pad_token_id=0,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    assert attention.windows_of(model) is not None
    assert not use_packed_attention(model)
    assert model.config._attn_implementation == "sdpa"
