"""Utterances in flight: greedy, they are those of the plain way, whatever comes and goes beside them."""

from __future__ import annotations

import pytest
import torch

from pege.agent.flight import Flight, takes_flight
from pege.agent.generate import LocalAgent
from pege.dialog import Context, make_dialog
from pege.models.causal import load_model
from pege.selfchat.in_flight import flights_of, play_in_flight
from pege.selfchat.play import play_dialogs, play_in_turns

#: no special tokens but eos
WORDS = {"max_new_tokens": 9, "suppress_tokens": [0, 2, 3, 4]}
STARTERS = ["I lost my dog.", "I am happy because the sea is so lovely today.", "我今天很难过。", "Hi", "Hi"]


def with_weights(model):
    """Small random weights repeat themselves; these say something else."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * (0.3 if p.ndim > 1 else 1.0))
        model.lm_head.weight = torch.nn.Parameter(torch.randn(model.lm_head.weight.shape, generator=generator))
        model.lm_head.weight[1] *= 2  # the end of an utterance
    return model


def windowed_model(kind, tokenizer, window):
    """A model some of whose layers, or all, see a few tokens only."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig, MistralConfig, MistralForCausalLM

    common = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "head_dim": 8,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "sliding_window": window,
        "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None,
    }  # fmt: skip
    if kind == "all":
        return with_weights(MistralForCausalLM(MistralConfig(**common)))
    layers = ["sliding_attention", "full_attention", "sliding_attention"]
    return with_weights(Gemma3ForCausalLM(Gemma3TextConfig(**common, layer_types=layers)))


@pytest.fixture
def make_agents(tiny_model_dir):
    model, tokenizer = load_model(tiny_model_dir, dtype="float32")
    with_weights(model)

    def make(*, keep_cache=True, max_context=1024, **generation):
        both = WORDS | generation
        return [
            LocalAgent(r, model, tokenizer, role=r, generation=both, keep_cache=keep_cache, max_context=max_context)
            for r in ("assistant", "user")
        ]

    return make


def starters(texts=STARTERS):
    return [make_dialog([t], id=str(k), lang="en") for k, t in enumerate(texts)]


def texts_of(talks):
    return [[u.content for u in talk] for talk in talks]


@pytest.mark.parametrize("max_context", [1024, 90])  # the smaller one drops the oldest turns of a dialog
def test_greedy_dialogs_in_flight_are_those_of_the_plain_way(make_agents, max_context):
    plain = make_agents(do_sample=False, keep_cache=False, max_context=max_context)
    in_flight = make_agents(do_sample=False, max_context=max_context)
    expected = play_in_turns(*plain, starters(), n_turns=6, seed=(0, 0))
    found = play_in_flight(*flights_of(*in_flight), starters(), n_turns=6, seed=(0, 0))
    assert texts_of(found) == texts_of(expected)
    lengths = {len(t) for talk in texts_of(found) for t in talk[1:]}
    assert len(lengths) > 10  # utterances end at different times


@pytest.mark.parametrize("kind", ["all", "some"])
def test_models_with_a_window_fly_as_they_walk(tiny_model_dir, kind):
    _, tokenizer = load_model(tiny_model_dir)

    def agents(window, *, keep_cache):
        model = windowed_model(kind, tokenizer, window).eval()
        settings = {"generation": WORDS | {"do_sample": False}, "keep_cache": keep_cache}
        return [LocalAgent(r, model, tokenizer, role=r, **settings) for r in ("assistant", "user")]

    def walk(window):
        return texts_of(play_in_turns(*agents(window, keep_cache=False), starters(), n_turns=6, seed=(0, 0)))

    flights = flights_of(*agents(12, keep_cache=True))
    assert texts_of(play_in_flight(*flights, starters(), n_turns=6, seed=(0, 0))) == walk(12)
    assert walk(12) != walk(500)  # else nothing is tested


def test_a_drawn_utterance_does_not_depend_on_what_flies_beside_it(make_agents):
    agents = make_agents(do_sample=True, top_k=20)
    together = play_in_flight(*flights_of(*agents), starters(), n_turns=4, seed=(3, 0))
    alone = play_in_flight(*flights_of(*agents), starters(STARTERS[:1]), n_turns=4, seed=(3, 0))
    assert texts_of(together)[0] == texts_of(alone)[0]
    assert texts_of(together)[3] != texts_of(together)[4]  # the same starter, other draws
    again = play_in_flight(*flights_of(*agents), starters(), n_turns=4, seed=(4, 0))
    assert texts_of(again) != texts_of(together)


def test_draws_follow_the_distribution_that_generate_draws_from(make_agents):
    (agent, _) = make_agents(do_sample=True, top_k=3, temperature=30.0, max_new_tokens=1)
    context = Context(utterances=starters()[0].messages)
    flight = Flight(agent)
    n = 400
    for k in range(n):
        flight.add(k, context, seed=(k,))
    said = []
    while len(flight):
        said += [text for _, text in flight.step()]
    plain = agent.respond([context] * n, seed=0)
    for text in set(plain):
        assert said.count(text) / n == pytest.approx(plain.count(text) / n, abs=0.1)
    assert set(said) == set(plain)


def test_a_turn_reads_only_what_is_new_and_what_is_shared_once(make_agents, monkeypatch):
    agent, user = make_agents(do_sample=False)
    read = []
    inner = agent.model.forward
    monkeypatch.setattr(agent.model, "forward", lambda *a, **k: (read.append(k["input_ids"].shape), inner(*a, **k))[1])
    prompts, _ = agent.prompts([Context(utterances=d.messages) for d in starters()])
    talks = play_in_flight(*flights_of(agent, user), starters(), n_turns=6, seed=(0, 0))
    first, second, third = read[:3]
    assert first[0] == 1  # the line ahead of all dialogs
    assert second == (4, max(map(len, prompts)) - first[1])  # of two equal starters one is read,
    assert third == (1, 1)  # of the other its last token
    n_longest = max(len(ids) for ids in agent.prompts([Context(utterances=tuple(t)) for t in talks])[0])
    assert n_longest > 110
    assert max(n for _, n in read[3:]) < 50  # one utterance of each side and its header, never the whole dialog


def test_rows_that_ended_cost_nothing(make_agents):
    agent, _ = make_agents(do_sample=False)
    flight = Flight(agent)
    for k, dialog in enumerate(starters()):
        flight.add(k, Context(utterances=dialog.messages), seed=())
    sizes = []
    n_ended = 0
    while len(flight):
        n_ended += len(flight.step())
        sizes.append(flight.n_rows)
        assert flight.n_rows <= len(STARTERS) - n_ended
    assert sizes[-1] == 0
    assert len(set(sizes)) > 2


@pytest.mark.parametrize(
    "settings", [{"repetition_penalty": 1.2}, {"no_repeat_ngram_size": 3}, {"num_beams": 2}, {"min_new_tokens": 2}]
)
def test_settings_that_look_beyond_a_rows_scores_are_generated_the_plain_way(make_agents, settings):
    agents = make_agents(do_sample=False, **settings)
    assert not takes_flight(agents[0])
    assert flights_of(*agents) is None
    dialogs = play_dialogs(*agents, starters(), n_turns=2, seed=0)
    assert [len(d.messages) for d in dialogs] == [4] * len(STARTERS)


def test_an_agent_that_keeps_nothing_or_is_guided_does_not_fly(make_agents, lexicon_file):
    from pege.agent.guided import Guide
    from pege.lexicon import load_lexicon

    agents = make_agents()
    assert flights_of(*agents) is not None
    agents[0].guide = Guide(load_lexicon(lexicon_file))
    assert flights_of(*agents) is None
    assert flights_of(*make_agents(keep_cache=False)) is None


def test_an_utterance_that_is_empty_twice_is_replaced_and_counted(make_agents):
    agents = make_agents(do_sample=False, suppress_tokens=[k for k in range(400) if k != 1])  # eos alone
    talks = play_in_flight(*flights_of(*agents), starters(["Hi", "我今天很难过。"]), n_turns=2, seed=(0,))
    assert texts_of(talks)[0] == ["Hi", "I see.", "I see.", "I see."]
    assert texts_of(talks)[1][1] == "嗯。"
    assert agents[0].n_fallbacks == 4
    assert agents[1].n_fallbacks == 2
