"""MoEL against a plain numpy re-computation of the published formulas (tests/reference/moel.py), and what it promises."""

from __future__ import annotations

import importlib.util
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForSeq2SeqLM

from pege.models.embeddings import initialise_embeddings
from pege.models.moel import MoelConfig, MoelForConditionalGeneration

spec = importlib.util.spec_from_file_location("reference_moel", Path(__file__).parents[1] / "reference" / "moel.py")
reference = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reference)

#: Our names -> the authors'.
NAMES = [
    (r"encoder\.words\.", r"embedding.lut."),
    (r"(encoder|decoder)\.projection\.", r"\1.embedding_proj."),
    (r"emotion_keys\.", r"decoder_key."),
    (r"output\.", r"generator.proj."),
    (r"encoder\.layers\.(\d+)\.attention\.", r"encoder.enc.\1.multi_head_attention."),
    (r"encoder\.layers\.(\d+)\.attention_norm\.", r"encoder.enc.\1.layer_norm_mha."),
    (r"encoder\.layers\.", r"encoder.enc."),
    (r"decoder\.shared\.", r"decoder.basic."),
    (r"decoder\.listeners\.", r"decoder.experts."),
    (r"decoder\.layers\.", r"decoder.dec."),
    (r"\.attention\.", r".multi_head_attention_dec."),
    (r"\.cross_attention\.", r".multi_head_attention_enc_dec."),
    (r"\.attention_norm\.", r".layer_norm_mha_dec."),
    (r"\.cross_norm\.", r".layer_norm_mha_enc."),
    (r"\.filter_norm\.", r".layer_norm_ffn."),
    (r"(encoder|decoder)\.norm\.", r"\1.layer_norm."),
    (r"\.filter\.conv1\.", r".positionwise_feed_forward.layers.0.conv."),
    (r"\.filter\.conv2\.", r".positionwise_feed_forward.layers.1.conv."),
    (r"\.q_proj\.", r".query_linear."),
    (r"\.k_proj\.", r".key_linear."),
    (r"\.v_proj\.", r".value_linear."),
    (r"\.out_proj\.", r".output_linear."),
    (r"(layer_norm[a-z_]*)\.weight", r"\1.gamma"),
    (r"(layer_norm[a-z_]*)\.bias", r"\1.beta"),
]
V, START = 40, 3
CONTEXT = torch.tensor([[8, 9, 10, 11, 12, 13], [20, 21, 22, 23, 1, 1], [30, 31, 1, 1, 1, 1]])
SEEN = (CONTEXT != 1).long()
ROLES = torch.tensor([[0, 0, 1, 1, 1, 0], [0, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]])
LABELS = torch.tensor([[14, 15, 16, 17, 2], [24, 25, 2, -100, -100], [2, -100, -100, -100, -100]])
EMOTION = torch.tensor([[0.1, 0.2, 0.4, 0.3], [1.0, 0.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]])


def small(**more):
    shape = {
        "vocab_size": V, "embedding_size": 10, "hidden_size": 12, "num_hidden_layers": 2, "key_depth": 8,
        "filter_size": 7, "n_emotions": 4, "n_top_listeners": 2,
    }  # fmt: skip
    model = MoelForConditionalGeneration(MoelConfig(**{**shape, **more}))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # biases, norms and word vectors too, so that every weight counts
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator) * 0.3
            parameter.copy_(noise + (1 if "norm.weight" in name else 0))
    return model.eval()


def their_weights(model):
    found = {}
    for name, value in model.named_parameters():
        for ours, theirs in NAMES:
            name = re.sub(ours, theirs, name)
        found[name] = value.detach().numpy().astype(np.float64)
    return found


def recomputed(model, k, mixture=None):
    config, n = model.config, int(SEEN[k].sum())
    ids = np.array([config.query_token_id, *CONTEXT[k, :n]])
    states = np.array([config.query_token_id, *(config.role_token_ids[r] for r in ROLES[k, :n])])
    labels = [int(t) for t in LABELS[k] if t >= 0]
    logits, emotion, hidden = reference.moel(
        their_weights(model), ids, states, np.array([START, *labels[:-1]]), n_heads=config.num_attention_heads,
        n_layers=config.num_hidden_layers, n_experts=config.n_emotions, top=config.n_top_listeners, mixture=mixture,
    )  # fmt: skip
    return logits, emotion, hidden, labels


def run(model, **more):
    inputs = {"input_ids": CONTEXT, "attention_mask": SEEN, "role_ids": ROLES, "labels": LABELS, "emotion": EMOTION}
    with torch.no_grad():
        return model(**{**inputs, **more})


@pytest.mark.parametrize(
    "more", [{}, {"n_top_listeners": 0}, {"num_hidden_layers": 1, "hidden_size": 11, "num_attention_heads": 4}]
)
def test_each_dialog_of_a_padded_batch_is_the_numpy_recomputation(more):
    model = small(**more)
    out = run(model)
    for k in range(3):
        logits, emotion, hidden, labels = recomputed(model, k)
        np.testing.assert_allclose(out.logits[k, : len(labels)], logits, atol=1e-5)
        np.testing.assert_allclose(out.emotion_logits[k], emotion, atol=1e-5)
        np.testing.assert_allclose(out.decoder_hidden[k, : len(labels)], hidden, atol=1e-5)


def test_the_loss_is_the_numpy_recomputation():
    model = small()
    out = run(model)
    parts = [recomputed(model, k) for k in range(3)]
    total, of_emotion = reference.loss(
        [p[0] for p in parts], [p[3] for p in parts], np.stack([p[1] for p in parts]), EMOTION.numpy(),
        smoothing=0.1, pad=1,
    )  # fmt: skip
    assert float(out.loss) == pytest.approx(total + of_emotion, rel=1e-5)
    assert float(out.emotion_loss) == pytest.approx(of_emotion, rel=1e-5)


def test_nll_is_the_mean_over_the_labels():
    out = run(small())
    nll = torch.nn.functional.cross_entropy(out.logits.flatten(0, 1), LABELS.flatten())
    assert float(out.nll) == pytest.approx(float(nll), rel=1e-6)
    plain = run(small(label_smoothing=0.0, sum_over_tokens=False))
    assert float(plain.loss) == pytest.approx(float(plain.nll + plain.emotion_loss), rel=1e-6)


def test_each_term_stands_alone():
    model = small()
    both = run(model)
    assert float(run(model, emotion=None).loss + both.emotion_loss) == pytest.approx(float(both.loss), rel=1e-6)
    decoder_input_ids = torch.tensor([[START]] * 3)
    assert run(model, labels=None, decoder_input_ids=decoder_input_ids).loss == both.emotion_loss
    assert run(model, labels=None, emotion=None, decoder_input_ids=decoder_input_ids).loss is None


def test_the_output_matrix_gives_the_logits_of_the_hidden_states():
    model = small()
    out, head = run(model), model.get_output_embeddings()
    assert head.weight.shape == (V, 12)
    torch.testing.assert_close(out.decoder_hidden @ head.weight.T + head.bias, out.logits)


def test_the_published_command_has_as_many_weights_as_the_authors_code():
    v, e, h, depth, filter_, n = 24_000, 300, 300, 40, 50, 32
    attention = 3 * h * depth + depth * h
    norm = 2 * h
    feed = (h * filter_ * 3 + filter_) + (filter_ * h * 3 + h)
    encoder = e * h + (attention + feed + 2 * norm) + norm
    layer = 2 * attention + feed + 3 * norm
    decoder = e * h + (1 + n + 1) * layer + norm  # shared, experts, stack
    generator, never_read = h * v + v, (h + 1) + 64 * e  # of the pointer (p_gen), of emoji
    theirs = v * e + encoder + decoder + h * n + generator + never_read
    with torch.device("meta"):
        model = MoelForConditionalGeneration(MoelConfig())
    assert sum(p.numel() for p in model.parameters()) == theirs - never_read
    assert (layer, theirs - never_read) == (188_150, 21_151_450)


def test_padding_on_either_side_changes_nothing():
    model = small()
    right = run(model)
    moved = [
        torch.stack([t.roll(int(6 - n)) for t, n in zip(x, SEEN.sum(1), strict=True)]) for x in (CONTEXT, SEEN, ROLES)
    ]
    left = run(model, input_ids=moved[0], attention_mask=moved[1], role_ids=moved[2])
    torch.testing.assert_close(left.logits, right.logits, atol=1e-5, rtol=0)
    noise = run(model, input_ids=torch.where(SEEN.bool(), CONTEXT, 33), role_ids=torch.where(SEEN.bool(), ROLES, 1))
    torch.testing.assert_close(noise.logits, right.logits, atol=0, rtol=0)


@pytest.mark.parametrize("t", range(1, 5))
def test_a_later_target_token_never_changes_earlier_logits(t):
    model = small()
    changed = LABELS.clone()
    changed[0, t - 1] = 35  # the decoder's input at t
    before, after = run(model), run(model, labels=changed)
    assert torch.equal(before.logits[0, :t], after.logits[0, :t])
    assert not torch.equal(before.logits[0, t], after.logits[0, t])


def test_who_speaks_matters():
    assert not torch.allclose(run(small()).logits[0], run(small(), role_ids=1 - ROLES).logits[0])


def test_the_true_emotion_replaces_the_prediction_in_training():
    model = small().train()
    for k in range(3):
        logits, *_, labels = recomputed(model, k, mixture=EMOTION[k].numpy())
        np.testing.assert_allclose(run(model, step=0).logits[k, : len(labels)], logits, atol=1e-5)
    assert int(model.step) == 0  # given, not counted


def test_a_class_is_a_certain_emotion():
    model, classes = small().train(), torch.tensor([2, 0, 3])
    certain = torch.nn.functional.one_hot(classes, 4).float()
    torch.testing.assert_close(run(model, emotion=classes, step=0).loss, run(model, emotion=certain, step=0).loss)


def test_the_share_of_such_steps_falls_as_published():
    config = MoelConfig()
    assert config.oracle_share(0) == 1.0
    assert config.oracle_share(10_000) == pytest.approx(0.0001 + 0.9999 / math.e)
    assert config.oracle_share(10**6) == pytest.approx(0.0001)
    assert MoelConfig(oracle_steps=0).oracle_share(0) == 0


def test_which_steps_see_it_is_by_the_seed():
    config, other = MoelConfig(oracle_steps=2000), MoelConfig(oracle_steps=2000, oracle_seed=1)
    found = [config.is_oracle_step(s) for s in range(4000)]
    assert found == [config.is_oracle_step(s) for s in range(4000)]
    assert found != [other.is_oracle_step(s) for s in range(4000)]
    assert sum(found[:2000]) == pytest.approx(2000 * (1 - 1 / math.e), abs=60)  # 1264, deviation below 22
    assert sum(found[2000:]) == pytest.approx(2000 * (1 - 1 / math.e) / math.e, abs=60)  # 465


def test_a_step_without_the_true_emotion_sees_the_prediction():
    model = small(oracle_steps=20)
    predicted, config = run(model).logits, model.config
    late = next(s for s in range(100) if not config.is_oracle_step(s))
    model.train()
    assert torch.equal(run(model, step=late).logits, predicted)
    assert not torch.equal(run(model, step=0).logits, predicted)


def test_the_step_is_counted_in_training_only_and_saved(tmp_path):
    model = small().train()
    run(model)
    run(model)
    run(model.eval())
    model.save_pretrained(tmp_path)
    assert int(MoelForConditionalGeneration.from_pretrained(tmp_path).step) == 2


def test_the_prediction_stands_outside_training():
    model = small()
    assert torch.equal(run(model).logits, run(model, emotion=None).logits)


def test_listeners_nobody_hears_learn_nothing_but_take_part():
    model = small(n_top_listeners=1, oracle_steps=0).train()
    out = model(input_ids=CONTEXT[:1], labels=LABELS[:1], emotion=EMOTION[:1])
    out.loss.backward()
    heard = int(out.emotion_logits.argmax())
    for k, listener in enumerate(model.decoder.listeners):
        assert bool(listener.filter.conv1.weight.grad.any()) == (k == heard)


@pytest.mark.parametrize("more", [{}, {"tie_word_embeddings": True, "embedding_size": 12}])
def test_saved_and_loaded_it_is_the_same(tmp_path, more):
    model = small(**more)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path).eval()
    assert isinstance(loaded, MoelForConditionalGeneration)
    assert AutoConfig.from_pretrained(tmp_path).to_dict() == loaded.config.to_dict()
    assert torch.equal(run(model).logits, run(loaded).logits)
    if more:
        assert loaded.output.weight is loaded.encoder.words.weight


SAMPLED = {"do_sample": True, "top_k": 10}


@pytest.mark.parametrize("how", [{}, SAMPLED, {"num_beams": 3}, {"num_beams": 2, "num_return_sequences": 2}])
def test_generation_is_the_same_with_and_without_the_cache(how):
    model, found = small(), []
    for use_cache in (True, False):
        torch.manual_seed(5)
        inputs = {"input_ids": CONTEXT, "attention_mask": SEEN, "role_ids": ROLES}
        found.append(model.generate(**inputs, max_new_tokens=9, min_new_tokens=4, use_cache=use_cache, **how))
    assert torch.equal(*found)
    assert (found[0][:, 0] == START).all()


def test_the_likeliest_tokens_are_generated():
    model = small()
    found = model.generate(input_ids=CONTEXT, attention_mask=SEEN, role_ids=ROLES, max_new_tokens=6, do_sample=False)
    with torch.no_grad():
        logits = model(CONTEXT, SEEN, ROLES, decoder_input_ids=found[:, :-1]).logits
    is_written = (found[:, 1:] != 1) | (found[:, :-1] == START)
    assert torch.equal(logits.argmax(-1)[is_written], found[:, 1:][is_written])


def test_step_by_step_the_logits_are_those_of_all_at_once():
    model = small()
    ids = model.prepare_decoder_input_ids_from_labels(LABELS)[:1]
    cache, steps = None, []
    with torch.no_grad():
        for start, stop in ((0, 2), (2, 3), (3, 5)):
            out = model(CONTEXT[:1], role_ids=ROLES[:1], decoder_input_ids=ids[:, start:stop], cache=cache)
            cache = out.cache
            steps.append(out.logits)
        wanted = model(CONTEXT[:1], role_ids=ROLES[:1], decoder_input_ids=ids, use_cache=False)
    torch.testing.assert_close(torch.cat(steps, 1), wanted.logits, atol=1e-5, rtol=0)
    assert wanted.cache is None


def test_sampling_is_by_the_seed():
    model, found = small(), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(model.generate(input_ids=CONTEXT, attention_mask=SEEN, max_new_tokens=9, **SAMPLED))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_it_starts_from_given_word_vectors():
    model = small()
    initialise_embeddings(model, np.arange(V * 2).reshape(V, 2))
    assert model.encoder.words.weight[7, :3].tolist() == [14, 15, 0]


def test_it_learns_a_response():
    torch.manual_seed(0)
    model = small(label_smoothing=0.0).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    inputs = {"input_ids": CONTEXT, "attention_mask": SEEN, "role_ids": ROLES, "labels": LABELS}
    for _ in range(25):
        optimizer.zero_grad()
        model(**inputs, emotion=torch.tensor([2, 0, 1])).loss.backward()
        optimizer.step()
    model.eval()
    out = run(model, emotion=None)
    assert float(out.nll) < 0.1
    assert out.emotion_logits.argmax(1).tolist() == [2, 0, 1]
