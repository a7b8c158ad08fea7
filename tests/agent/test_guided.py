"""Guidance while decoding: the processor against autograd and a search, agents with and without it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pege.agent import load_agent
from pege.agent.guided import Guide, GuidedLogits, guide_table
from pege.dialog import Context, Emotion, Utterance
from pege.errors import InputError
from pege.lexicon import load_lexicon

SAD = Emotion(negative=0.9, neutral=0.08, positive=0.02)


def context(*texts, emotion=SAD):
    roles = ("user", "assistant")
    return Context(
        utterances=tuple(Utterance(role=roles[k % 2], content=t) for k, t in enumerate(texts)), emotion=emotion
    )


@pytest.fixture
def lexicon(lexicon_file):
    return load_lexicon(lexicon_file)


@pytest.fixture
def tokenizer(tiny_model_dir):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model_dir)


def processor(lexicon, tokenizer, contexts, strength=1.0):
    guide = Guide(lexicon, strength)
    return GuidedLogits(guide, contexts, guide_table(guide, tokenizer, len(tokenizer)))


def test_the_push_is_the_gradient_of_the_guided_terms_by_the_expected_vad(lexicon, tokenizer):
    contexts = [context("sad dog"), context("sad", "oh", "lost", "oh", "sad", "oh", "lost dog")]
    guided = processor(lexicon, tokenizer, contexts, strength=0.7)
    logits = torch.randn(2, len(tokenizer), generator=torch.Generator().manual_seed(0))
    v = (logits.softmax(-1) @ guided.token_vad).requires_grad_()
    users = torch.tensor([[(0.1 + 0.8) / 2, (0.4 + 0.5) / 2, (0.2 + 0.5) / 2], [0.1, 0.4, 0.2]])
    f = torch.tensor([np.cos(np.pi / 7), -1.0])
    weight = 0.02 + 0.98 * f
    loss = (5 * weight * (v - users).norm(dim=1) - 2 * 0.9 * v.norm(dim=1)).sum()
    (g,) = torch.autograd.grad(loss, v)
    expected = logits - 0.7 * g @ guided.token_vad.T
    torch.testing.assert_close(guided(None, logits), expected.detach(), rtol=0, atol=1e-5)


def test_the_guided_distribution_minimises_the_linear_loss_and_the_divergence(lexicon, tokenizer):
    guided = processor(lexicon, tokenizer, [context("sad")], strength=2.0)
    logits = torch.randn(1, len(tokenizer), generator=torch.Generator().manual_seed(1)).double()
    g = (logits - guided(None, logits)).double()  # strength * O g
    before = logits.softmax(-1)

    def cost(distribution):
        return float((g * distribution).sum() + (distribution * (distribution / before).log()).sum())

    best = guided(None, logits).double().softmax(-1)
    rng = torch.Generator().manual_seed(2)
    for _ in range(20):
        other = (best.log() + 0.1 * torch.randn(best.shape, generator=rng)).softmax(-1)
        assert cost(best) <= cost(other) + 1e-9


def test_late_in_a_sad_dialog_the_expected_valence_rises(lexicon, tokenizer):
    late = [context(*["sad lost dog"] * 9)]
    logits = torch.zeros(1, len(tokenizer))
    guided = processor(lexicon, tokenizer, late, strength=5.0)
    valence = [float(z.softmax(-1)[0] @ guided.token_vad[:, 0]) for z in (logits, guided(None, logits))]
    assert valence[1] > valence[0]


def test_several_sequences_of_a_context_are_guided_alike(lexicon, tokenizer):
    contexts = [context("sad"), context("happy", "oh", "lovely")]
    guided = processor(lexicon, tokenizer, contexts)
    logits = torch.randn(2, len(tokenizer), generator=torch.Generator().manual_seed(3))
    twice = guided(None, logits.repeat_interleave(2, dim=0))
    torch.testing.assert_close(twice, guided(None, logits).repeat_interleave(2, dim=0))


def test_strength_0_says_what_the_plain_agent_says_and_more_says_otherwise(tiny_model_dir, lexicon):
    contexts = [context("I am so sad."), context("We lost the dog.", "Oh no.", "I am sad.")]
    plain = load_agent(str(tiny_model_dir), dtype="float32").respond(contexts, seed=0)
    none = load_agent(str(tiny_model_dir), dtype="float32", guide=Guide(lexicon, 0.0)).respond(contexts, seed=0)
    much = load_agent(str(tiny_model_dir), dtype="float32", guide=Guide(lexicon, 50.0)).respond(contexts, seed=0)
    assert none == plain
    assert much != plain


def test_a_context_without_an_emotion_gets_that_of_our_classifier(lexicon, tokenizer):
    text = "I am so sad, I lost my dog."
    from pege.emotion import load_emotion_classifier

    known = load_emotion_classifier().emotions([text])[0]
    logits = torch.randn(1, len(tokenizer), generator=torch.Generator().manual_seed(4))
    found = [processor(lexicon, tokenizer, [context(text, emotion=e)])(None, logits) for e in (None, known)]
    torch.testing.assert_close(found[0], found[1])


def test_a_guide_where_it_cannot_be_is_refused(lexicon):
    with pytest.raises(InputError, match="no logits here"):
        load_agent("trivial:parrot", guide=Guide(lexicon))
    with pytest.raises(InputError, match="is no strength"):
        Guide(lexicon, -1.0)
