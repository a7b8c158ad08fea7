"""PLATO-2's responses: alone and in a batch, seeded, and ranked by hand."""

from __future__ import annotations

import math

import pytest
import torch

from pege.agent.generate import load_local_agent
from pege.agent.responses import Plato2Agent
from pege.dialog import Context, Emotion, Utterance
from pege.errors import InputError
from pege.models.plato2 import Plato2Config, Plato2ForConditionalGeneration
from pege.models.plato2.encode import encode_sample
from pege.models.plato2.generate import Candidate, generate_candidates, respond, score_candidate
from pege.models.plato2.tokenizer import train_tokenizer

TEXTS = ["I lost my dog and I am so sad.", "Oh no, what happened to your dog?", "He ran away.", "我的狗丢了。"] * 30
GREEDY = {"do_sample": False, "max_new_tokens": 8}
SAMPLED = {"do_sample": True, "top_k": 20, "temperature": 0.9, "max_new_tokens": 8}
EMOTION = Emotion(negative=0.7, neutral=0.2, positive=0.1)


def context_of(*texts):
    roles = ("user", "assistant")
    return Context(
        utterances=tuple(Utterance(role=roles[k % 2], content=t) for k, t in enumerate(texts)), emotion=EMOTION
    )


CONTEXTS = [
    context_of("He ran away."),
    context_of("I lost my dog and I am so sad.", "Oh no, what happened to your dog?", "我的狗丢了。"),
    context_of("Oh no."),
]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, n_pieces=320)


def model_of(tokenizer, **more):
    torch.manual_seed(1)
    config = Plato2Config.of_size("tiny", vocab_size=len(tokenizer), mask_token_id=tokenizer.mask_token_id, **more)
    model = Plato2ForConditionalGeneration(config).eval()
    with torch.no_grad():  # weights large enough for the context to count
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2:
                parameter.mul_(6 if "embeddings" in name else 10)
    return model


@pytest.mark.parametrize("positions", ["continuous", "relative"])
@pytest.mark.parametrize("more", [{}, {"role_type_size": 2}, {"emotion_embedding": True}])
def test_greedy_is_the_same_in_a_batch_alone_and_without_a_cache(tokenizer, positions, more):
    model = model_of(tokenizer, **more)
    options = {"generation": GREEDY, "positions": positions, "max_response": 20, "emotion_input": True}
    together = generate_candidates(model, tokenizer, CONTEXTS, **options)
    for k, context in enumerate(CONTEXTS):
        [[alone]] = generate_candidates(model, tokenizer, [context], **options)
        assert together[k][0].ids == alone.ids
        assert together[k][0].log_prob == pytest.approx(alone.log_prob, abs=1e-4)
        ids, log_prob = by_full_passes(model, tokenizer, context, positions)
        assert alone.ids == ids
        assert alone.log_prob == pytest.approx(log_prob, abs=1e-4)
    assert len({round(g[0].log_prob, 3) for g in together}) == 3  # the context counts


def by_full_passes(model, tokenizer, context, positions):
    """The likeliest tokens, each from a pass over all before it."""
    config, ids, total = model.config, [], 0.0
    room = config.max_position_embeddings - (8 if positions == "continuous" else 20)
    sample = encode_sample(
        tokenizer, [u.content for u in context.utterances], emotion=EMOTION, emotion_text=not config.emotion_embedding,
        positions=positions, max_length=room, max_response=20,
    )  # fmt: skip
    while len(ids) < 8:
        n = len(ids)
        start = sample.position_ids[-1]
        with torch.no_grad():
            logits = (
                model(
                    torch.tensor([sample.input_ids + ids]),
                    token_type_ids=torch.tensor([sample.token_type_ids + [1] * n]),
                    position_ids=torch.tensor([sample.position_ids + list(range(start + 1, start + 1 + n))]),
                    role_ids=torch.tensor([sample.role_ids + [0] * n]) if config.role_type_size else None,
                    emotion=torch.tensor([sample.emotion]) if config.emotion_embedding else None,
                )
                .logits[0, -1]
                .clone()
            )
        logits[[0, 1, tokenizer.mask_token_id]] = -torch.inf
        token = int(logits.argmax())
        total += float(logits.log_softmax(-1)[token])
        ids.append(token)
        if token == tokenizer.eos_token_id:
            return tuple(ids[:-1]), total / len(ids)
    return tuple(ids), total / len(ids)


def test_a_seed_gives_the_same_again_and_leaves_other_randomness_alone(tokenizer):
    model = model_of(tokenizer)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = generate_candidates(model, tokenizer, CONTEXTS, generation=SAMPLED, n_candidates=3, seed=7)
    assert torch.equal(torch.rand(1), expected)
    assert generate_candidates(model, tokenizer, CONTEXTS, generation=SAMPLED, n_candidates=3, seed=7) == first
    assert generate_candidates(model, tokenizer, CONTEXTS, generation=SAMPLED, n_candidates=3, seed=8) != first
    assert [len(g) for g in first] == [3, 3, 3]


def test_the_best_candidate_is_the_response(tokenizer):
    model = model_of(tokenizer)
    groups = generate_candidates(model, tokenizer, CONTEXTS, generation=SAMPLED, n_candidates=6, seed=7)
    responses = respond(model, tokenizer, CONTEXTS, generation=SAMPLED, n_candidates=6, seed=7)
    for group, response, context in zip(groups, responses, CONTEXTS, strict=True):
        scores = {c.text: score_candidate(c, [u.content for u in context.utterances]) for c in group}
        assert scores[response] == max(scores.values())


def candidate(text, *, log_prob=-1.0, is_ended=True, ids=None):
    return Candidate(text, tuple(range(len(text.split()))) if ids is None else ids, log_prob, is_ended)


@pytest.mark.parametrize(
    ("one", "context"),
    [
        (candidate(""), ["hello"]),
        (candidate("I see", is_ended=False), ["hello"]),
        (candidate("you are so you Are so kind"), ["hello"]),
        (candidate("one two", ids=(5, 6, 7, 5, 6, 7)), ["hello"]),
        (candidate("yes I lost My dog too"), ["hi", "I lost my dog"]),
        (candidate("我很好我很好"), ["你好"]),
        (candidate("是的我的狗丢了"), ["我的狗"]),
    ],
)
def test_a_fault_puts_a_candidate_behind_all_others(one, context):
    assert score_candidate(one, context) == pytest.approx(-1001)


@pytest.mark.parametrize(
    ("one", "context"),
    [
        (candidate("you are kind and you are good"), ["you are"]),
        (candidate("my dog"), ["my dog is lost"]),  # two words are no triple
        (candidate("I lost, my dog"), ["I lost my dog"]),
        (candidate("我很好你也很好"), ["我很难过"]),
    ],
)
def test_else_its_rank_is_its_mean_log_probability(one, context):
    assert score_candidate(one, context) == -1.0


def test_a_context_longer_than_the_model_is_cut(tokenizer):
    model = model_of(tokenizer)
    [[found]] = generate_candidates(model, tokenizer, [context_of("I lost my dog. " * 100)], generation=GREEDY)
    assert math.isfinite(found.log_prob)


@pytest.mark.parametrize("generation", [{**SAMPLED, "max_new_tokens": 500}, GREEDY])
def test_what_cannot_be_generated_is_refused(tokenizer, generation):
    with pytest.raises(InputError):
        respond(model_of(tokenizer), tokenizer, CONTEXTS, generation=generation, n_candidates=2)


def test_the_agent_responds_by_its_protocol_and_never_with_nothing(tokenizer, tmp_path):
    model = model_of(tokenizer)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    agent = load_local_agent(
        str(tmp_path), generation={"max_new_tokens": 4, "num_return_sequences": 2}, dtype="float32"
    )
    responses = agent.respond(CONTEXTS, seed=3)
    assert responses == agent.respond(CONTEXTS, seed=3)
    assert all(responses)
    with torch.no_grad():
        model.lm_head.decoder.bias[tokenizer.eos_token_id] = 1e6  # ends at once
    silent = Plato2Agent("silent", model, tokenizer)
    assert silent.respond(CONTEXTS, seed=3) == ["I see.", "嗯。", "I see."]
    assert silent.n_fallbacks == 3
