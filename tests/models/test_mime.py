"""MIME against a plain numpy computation (tests/reference/mime.py), the original's shapes, and sums by hand."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForSeq2SeqLM

from pege.models.mime import (
    EMOTIONS,
    NEGATIVE_EMOTIONS,
    POSITIVE_EMOTIONS,
    MimeConfig,
    MimeForConditionalGeneration,
)
from pege.models.mime.mixtures import EmotionMixtures, Gaussian, gaussian_kl

SMALL = {
    "vocab_size": 29, "embedding_size": 6, "hidden_size": 8, "key_depth": 4, "filter_size": 5, "latent_size": 7,
}  # fmt: skip
IDS = torch.tensor([[9, 12, 20, 7, 28], [11, 8, 25, 1, 1]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
ROLES = torch.tensor([[0, 0, 1, 1, 0], [0, 1, 0, 0, 0]])
LABELS = torch.tensor([[15, 7, 22, 2], [26, 2, -100, -100]])
LENGTHS = ((5, 4), (3, 2))
CONFIGS = {
    "gate": lambda: MimeConfig(**SMALL),
    "attention": lambda: MimeConfig(**SMALL, fusion="attention"),
    "gate of three": lambda: MimeConfig.of_three(**SMALL, num_hidden_layers=2),
    "attention of three": lambda: MimeConfig.of_three(**SMALL, fusion="attention", num_hidden_layers=2),
}


def load_reference():
    path = Path(__file__).parents[1] / "reference" / "mime.py"
    spec = importlib.util.spec_from_file_location("mime_reference", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_model(config, seed=0):
    """Random weights everywhere, biases and norms too, in float64."""
    torch.manual_seed(seed)
    model = MimeForConditionalGeneration(config).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def inputs(emotion=None):
    found = {"input_ids": IDS, "attention_mask": MASK, "role_ids": ROLES, "labels": LABELS, "sample": False}
    return found | ({} if emotion is None else {"emotion": emotion})


def emotions_of(config):
    """No emotion, classes, probabilities: with the scores that say the group."""
    n = config.n_emotions
    classes = torch.tensor([0, n - 1])
    probabilities = torch.softmax(3 * torch.randn(2, n, generator=torch.Generator().manual_seed(5)).double(), dim=1)
    return [(None, None), (classes, np.eye(n)[classes]), (probabilities, probabilities.numpy())]


@pytest.mark.parametrize("kind", range(3))
@pytest.mark.parametrize("name", CONFIGS)
def test_numpy_finds_the_same_numbers(name, kind):
    config = CONFIGS[name]()
    model = make_model(config)
    index = {e: k for k, e in enumerate(config.emotions)}
    groups = [[index[e] for e in names] for names in (config.positive_emotions, config.negative_emotions)]
    reference = load_reference().Mime(
        {k: v.numpy() for k, v in model.state_dict().items()},
        groups=groups, free=[k for k in range(config.n_emotions) if k not in groups[0] + groups[1]],
        heads=2, layers=config.num_hidden_layers, query=6, roles=(4, 5), start=3,
    )  # fmt: skip
    emotion, scores = emotions_of(config)[kind]
    with torch.no_grad():
        out = model(**inputs(emotion))
    log_probs, kls, entropies = [], [], []
    for k, (s, t) in enumerate(LENGTHS):
        found = reference.dialog(
            IDS[k, :s].tolist(), ROLES[k, :s].tolist(), LABELS[k, :t].tolist(), None if scores is None else scores[k]
        )
        np.testing.assert_allclose(out.logits[k, :t], found["logits"], atol=1e-5)
        np.testing.assert_allclose(out.decoder_hidden[k, :t], found["hidden"], atol=1e-5)
        np.testing.assert_allclose(out.emotion_logits[k], found["emotion_logits"], atol=1e-5)
        log_probs.extend(found["log_probs"])
        kls.append(found["kl"])
        if scores is not None:
            exponentials = np.exp(found["emotion_logits"])
            entropies.append(-(scores[k] * np.log(exponentials / exponentials.sum())).sum())
    assert out.nll.item() == pytest.approx(-np.mean(log_probs), abs=1e-5)
    assert out.kl.item() == pytest.approx(np.mean(kls), rel=1e-5)
    if scores is not None:
        assert out.emotion_loss.item() == pytest.approx(np.mean(entropies), abs=1e-5)


def test_there_are_as_many_weights_as_the_originals_layers_that_are_used_have():
    v = 101
    attention = 300 * 40 + 300 * 40 + 300 * 40 + 40 * 300  # query, key, value, output, no biases
    convolutions = (3 * 300 * 50 + 50) + (3 * 50 * 300 + 300)
    norm = 300 + 300
    encoder = 300 * 300 + (attention + convolutions + 2 * norm) + norm  # projection, one layer, last norm
    reading = 600 * 300 + (attention + convolutions + 2 * norm) + norm
    decoder = 300 * 300 + (2 * attention + convolutions + 3 * norm) + norm
    square, posterior_hidden = 300 * 300 + 300, 600 * 300 + 300
    weights_of_groups = (300 * 13 + 13) + (300 * 19 + 19)
    latent = (
        square + 4 * square + weights_of_groups  # prior: hidden layer; means and log variances
        + 2 * posterior_hidden + 4 * square + weights_of_groups  # posterior: the last two are never called
    )  # fmt: skip
    emotions = 32 * 300 + 300 * 300  # embeddings, query
    others = 300 * 32 + (300 * 300 + 300)  # decoder_key, e_weight
    generator = (300 * v + v) + (300 + 1)  # the last is the copy gate
    original = 300 * v + encoder + 2 * reading + decoder + latent + emotions + others + generator
    unused = weights_of_groups + others + (300 + 1)
    gate = (600 * 600 + 600) + (600 * 300 + 300)
    fusion_attention = 300 * 300 + (attention + convolutions + 3 * norm) + norm  # one of the three norms is unused

    def n_weights(fusion):
        return sum(
            p.numel() for p in MimeForConditionalGeneration(MimeConfig(vocab_size=v, fusion=fusion)).parameters()
        )

    assert n_weights("gate") == original + gate - unused
    assert n_weights("attention") == original + fusion_attention - unused - norm


@pytest.mark.parametrize("name", CONFIGS)
def test_every_weight_learns(name):
    model = make_model(CONFIGS[name]()).train()
    model(**inputs(torch.tensor([0, 2]))).loss.backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_shapes():
    config = MimeConfig(**SMALL)
    out = make_model(config)(**inputs(torch.tensor([3, 4])))
    assert out.logits.shape == (2, 4, 29)
    assert out.decoder_hidden.shape == (2, 4, 8)
    assert out.emotion_logits.shape == (2, 32)
    assert out.encoder_last_hidden_state.shape == (2, 6, 8)
    assert all(x.shape == () for x in (out.loss, out.nll, out.kl, out.emotion_loss))
    torch.testing.assert_close(make_model(config).get_output_embeddings()(out.decoder_hidden), out.logits)


@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("name", CONFIGS)
def test_padding_changes_nothing_on_either_side(name, side):
    model = make_model(CONFIGS[name]())
    more = {
        "input_ids": torch.cat((IDS, torch.full((2, 3), 17))[::side], dim=1),
        "attention_mask": torch.cat((MASK, torch.zeros(2, 3, dtype=torch.long))[::side], dim=1),
        "role_ids": torch.cat((ROLES, torch.ones(2, 3, dtype=torch.long))[::side], dim=1),
        "labels": torch.cat((LABELS, torch.full((2, 2), -100)), dim=1),
    }
    emotion = torch.tensor([0, 2])
    with torch.no_grad():
        few, many = model(**inputs(emotion)), model(**(inputs(emotion) | more))
    torch.testing.assert_close(many.logits[:, :4], few.logits)
    for term in ("loss", "nll", "kl", "emotion_loss"):
        torch.testing.assert_close(getattr(many, term), getattr(few, term))


@pytest.mark.parametrize("name", CONFIGS)
def test_a_token_sees_none_behind_it(name):
    model = make_model(CONFIGS[name]())
    common = {"input_ids": IDS, "attention_mask": MASK, "role_ids": ROLES, "sample": False}
    one = torch.tensor([[3, 8, 9, 10, 11], [3, 8, 9, 10, 11]])
    other = torch.tensor([[3, 8, 9, 20, 21], [3, 8, 9, 22, 23]])
    with torch.no_grad():
        a, b = (model(**common, decoder_input_ids=ids).logits for ids in (one, other))
    torch.testing.assert_close(a[:, :3], b[:, :3], rtol=0, atol=0)
    assert not torch.isclose(a[:, 3:], b[:, 3:]).any(dim=-1).all()


@pytest.mark.parametrize("name", CONFIGS)
def test_one_token_at_a_time_is_the_same(name):
    model = make_model(CONFIGS[name]())
    ids = torch.tensor([[3, 8, 9, 10, 11, 12], [3, 18, 19, 20, 21, 22]])
    common = {"attention_mask": MASK}
    with torch.no_grad():
        common["encoder_outputs"] = model.encoder(IDS, MASK, ROLES, None, False)
        whole = model(**common, decoder_input_ids=ids, use_cache=False).logits
        steps, cache = [], None
        for k in range(ids.shape[1]):
            out = model(**common, decoder_input_ids=ids[:, k : k + 1], cache=cache)
            steps, cache = [*steps, out.logits], out.cache
    torch.testing.assert_close(torch.cat(steps, dim=1), whole)


# ---- emotions


def test_the_groups_are_the_originals():
    # classes as the original's trainer numbers them
    positive = [11, 16, 6, 8, 3, 1, 28, 13, 31, 17, 24, 0, 27]
    negative = [9, 4, 2, 22, 14, 30, 29, 25, 15, 10, 23, 19, 18, 21, 7, 20, 5, 26, 12]
    assert [EMOTIONS.index(e) for e in POSITIVE_EMOTIONS] == positive
    assert sorted(EMOTIONS.index(e) for e in NEGATIVE_EMOTIONS) == sorted(negative)
    assert MimeConfig().n_emotions == len(set(EMOTIONS)) == 32


@pytest.mark.parametrize(
    ("probabilities", "is_positive"),
    [
        ((0.7, 0.2, 0.1), False),
        ((0.1, 0.2, 0.7), True),
        ((0.1, 0.7, 0.2), True),  # neutral goes with the likelier of the others
        ((0.2, 0.7, 0.1), False),
        ((0.2, 0.6, 0.2), False),  # a tie
    ],
)
def test_neutral_goes_with_the_likelier_group(probabilities, is_positive):
    mixtures = EmotionMixtures(MimeConfig.of_three(**SMALL))
    against = torch.tensor([[9.0, 0.0, 0.0]]) if is_positive else torch.tensor([[0.0, 0.0, 9.0]])
    assert mixtures.is_positive(torch.tensor([probabilities]), against).tolist() == [is_positive]
    assert mixtures.is_positive(None, torch.tensor([probabilities])).tolist() == [is_positive]


def test_a_bare_class_says_its_group_and_neutral_asks_the_prediction():
    mixtures = EmotionMixtures(MimeConfig.of_three(**SMALL))
    classes = torch.tensor([0, 1, 2])
    assert mixtures.is_positive(classes, torch.tensor([[0.0, 0.0, 1.0]] * 3)).tolist() == [False, True, True]
    assert mixtures.is_positive(classes, torch.tensor([[1.0, 0.0, 0.0]] * 3)).tolist() == [False, False, True]


def test_neutral_is_mixed_into_the_users_group_only():
    mixtures = EmotionMixtures(MimeConfig.of_three(**SMALL))
    negative, neutral, positive = mixtures.embeddings.weight.detach()
    with torch.no_grad():
        mimicking, other = mixtures.draw(torch.randn(2, 8), torch.tensor([True, False]), sample=True)
    torch.testing.assert_close(other, torch.stack((negative, positive)))
    for found, own in zip(mimicking, (positive, negative), strict=True):
        share = ((found - neutral) / (own - neutral)).mean()
        assert 0 < share < 1
        torch.testing.assert_close(found, share * own + (1 - share) * neutral)


def test_the_users_group_mimics():
    torch.manual_seed(1)
    mixtures = EmotionMixtures(MimeConfig(**SMALL))
    with torch.no_grad():
        mixtures.embeddings.weight.zero_()
        for name in POSITIVE_EMOTIONS:
            mixtures.embeddings.weight[EMOTIONS.index(name)] = 1.0
        mimicking, other = mixtures.draw(torch.randn(2, 8), torch.tensor([True, False]), sample=True)
    torch.testing.assert_close(mimicking, torch.tensor([[1.0] * 6, [0.0] * 6]))
    torch.testing.assert_close(other, torch.tensor([[0.0] * 6, [1.0] * 6]))


@pytest.mark.parametrize(
    "groups",
    [
        {"positive_emotions": ["positiv"]},
        {"positive_emotions": []},
        {"positive_emotions": ["positive", "negative"]},
        {"emotions": ["negative", "positive", "positive"]},
        {"fusion": "sum"},
    ],
)
def test_a_config_without_two_clean_groups_is_refused(groups):
    with pytest.raises(ValueError, match=r"emotion|group|fusion"):
        MimeConfig.of_three(**SMALL, **groups)


# ---- draws and losses


def test_kl_by_hand():
    # N(1, 4) from N(0, 1): -ln 2 + (4 + 1 - 1) / 2; N(0, 1) from N(2, e): 1/2 (1 + 5 / e - 1)
    posterior = Gaussian(torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([[math.log(4.0), 0.0], [0.0, 0.0]]))
    prior = Gaussian(torch.tensor([[0.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 1.0], [0.0, 0.0]]))
    expected = [-math.log(2) + 2 + 2.5 / math.e, 0.0]
    assert gaussian_kl(posterior, prior).tolist() == pytest.approx(expected, abs=1e-6)


def test_kl_by_integration():
    x = np.linspace(-30, 30, 200_001)

    def density(mean, variance):
        return np.exp(-((x - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)

    p, q = density(0.4, 0.7), density(-1.1, 2.3)
    expected = np.trapezoid(p * ((x + 1.1) ** 2 / 4.6 - (x - 0.4) ** 2 / 1.4 + 0.5 * np.log(2.3 / 0.7)), x)
    assert np.trapezoid(q, x) == pytest.approx(1)
    posterior, prior = (
        Gaussian(torch.tensor([[m]]), torch.tensor([[math.log(v)]])) for m, v in ((0.4, 0.7), (-1.1, 2.3))
    )
    assert gaussian_kl(posterior, prior).item() == pytest.approx(expected, abs=1e-6)


def test_a_draw_has_its_mean_and_variance():
    torch.manual_seed(0)
    drawn = Gaussian(torch.full((40_000, 1), 3.0), torch.full((40_000, 1), math.log(0.25))).draw(sample=True)
    assert drawn.mean().item() == pytest.approx(3.0, abs=0.02)
    assert drawn.std().item() == pytest.approx(0.5, abs=0.02)


def test_the_loss_is_the_sum_of_its_terms():
    means = MimeConfig(**SMALL, label_smoothing=0.0, sum_over_tokens=False)
    out = make_model(means)(**inputs(torch.tensor([3, 4])))
    assert out.loss.item() == pytest.approx((out.nll + out.kl + out.emotion_loss).item())
    sums = MimeConfig(**SMALL, label_smoothing=0.0, sum_over_tokens=True)  # 6 tokens, 2 dialogs
    again = make_model(sums)(**inputs(torch.tensor([3, 4])))
    assert again.loss.item() == pytest.approx((6 * out.nll + 2 * out.kl + out.emotion_loss).item())
    assert make_model(means)(**inputs()).emotion_loss is None


def test_smoothed_labels_as_published():
    config = MimeConfig(**SMALL)
    out = make_model(config)(**inputs())
    target = np.full(29, 0.1 / 27)
    expected = 2 * out.kl.item()
    for k, t in ((0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1)):
        wanted = target.copy()
        wanted[LABELS[k, t]] = 0.9
        wanted[1] = 0.0  # padding
        log_probs = torch.log_softmax(out.logits[k, t].detach(), dim=0).numpy()
        expected += sum(w * (np.log(w) - p) for w, p in zip(wanted, log_probs, strict=True) if w)
    assert out.loss.item() == pytest.approx(expected, rel=1e-5)


def test_a_seed_repeats_the_draw_and_another_changes_it():
    model = make_model(MimeConfig(**SMALL))
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        with torch.no_grad():
            found.append(model(**(inputs() | {"sample": True})).logits)
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)
    assert not torch.allclose(found[0], found[2])


# ---- as a Hugging Face model


@pytest.mark.parametrize("name", CONFIGS)
def test_saved_and_loaded_it_gives_the_same(name, tmp_path):
    model = make_model(CONFIGS[name]())
    model.save_pretrained(tmp_path)
    kept = ("emotions", "positive_emotions", "negative_emotions", "fusion", "n_emotions", "latent_size", "key_depth")
    loaded_config = AutoConfig.from_pretrained(tmp_path)
    assert {n: getattr(loaded_config, n) for n in kept} == {n: getattr(model.config, n) for n in kept}
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, dtype=torch.float64)
    assert type(loaded) is MimeForConditionalGeneration
    emotion = torch.tensor([0, 2])
    with torch.no_grad():
        torch.testing.assert_close(loaded(**inputs(emotion)).loss, model(**inputs(emotion)).loss, rtol=0, atol=0)


def test_first_weights_are_drawn_for_what_a_checkpoint_lacks(tmp_path):
    make_model(MimeConfig(**SMALL)).save_pretrained(tmp_path)
    other, info = MimeForConditionalGeneration.from_pretrained(tmp_path, fusion="attention", output_loading_info=True)
    assert all(name.startswith("encoder.fusion.") for name in info["missing_keys"])
    assert all(p.isfinite().all() for p in other.parameters())


@pytest.mark.parametrize("more", [{}, {"num_beams": 3}, {"do_sample": True, "top_k": 3}])
def test_generation_repeats_with_a_seed_and_needs_no_cache(more):
    model = make_model(MimeConfig(**SMALL))
    context = {"input_ids": IDS, "attention_mask": MASK, "role_ids": ROLES, "emotion": torch.tensor([3, 4])}
    found = []
    for use_cache in (True, True, False):
        torch.manual_seed(4)
        found.append(model.generate(**context, **more, max_new_tokens=7, use_cache=use_cache))
    assert found[0].shape[0] == 2
    assert found[0][:, 0].tolist() == [3, 3]
    assert found[0].tolist() == found[1].tolist() == found[2].tolist()


def test_greedy_generation_takes_the_likeliest_tokens():
    model = make_model(MimeConfig(**SMALL), seed=3)
    context = {"input_ids": IDS[:1], "role_ids": ROLES[:1], "sample": False}
    written = model.generate(**context, max_new_tokens=6)
    with torch.no_grad():
        logits = model(**context, decoder_input_ids=written[:, :-1]).logits
    assert written[0, 1:].tolist() == logits[0].argmax(dim=-1).tolist()


# ---- word vectors
