"""Keys and values kept across turns: the dialogs are those of the plain way."""

from __future__ import annotations

import pytest
import torch

from pege.agent import kept
from pege.agent.generate import LocalAgent
from pege.dialog import Context, make_dialog
from pege.models.causal import load_model
from pege.selfchat.play import play_in_turns

WORDS = {
    "do_sample": True,
    "max_new_tokens": 7,
    "top_k": 20,
    "suppress_tokens": [0, 2, 3, 4],
}  # no special tokens but eos
STARTERS = ["I lost my dog.", "I am happy because the sea is so lovely today.", "我今天很难过。", "Hi"]


@pytest.fixture
def agents(tiny_model_dir):
    model, tokenizer = load_model(tiny_model_dir, dtype="float32")

    def make(role, keep_cache):
        return LocalAgent(role, model, tokenizer, role=role, generation=WORDS, keep_cache=keep_cache)

    return lambda keep_cache: (make("assistant", keep_cache), make("user", keep_cache))


def play(agents, n_turns=6):
    agent, user = agents
    starters = [make_dialog([t], id=str(k), lang="en") for k, t in enumerate(STARTERS)]
    talks = play_in_turns(agent, user, starters, n_turns=n_turns, seed=(0, 0))
    return [[u.content for u in talk] for talk in talks]


def test_dialogs_with_kept_keys_are_the_plain_dialogs(agents):
    dialogs = play(agents(True))
    assert dialogs == play(agents(False))
    assert len({text for texts in dialogs for text in texts[1:]}) > 30  # they are no row of fallbacks


def test_a_turn_reads_only_what_is_new(agents, monkeypatch):
    agent, user = agents(True)
    read = []
    inner = agent.model.forward
    monkeypatch.setattr(agent.model, "forward", lambda *a, **k: (read.append(k["input_ids"].shape), inner(*a, **k))[1])
    play((agent, user))
    longest = max(len(ids) for a in (agent, user) for ids in a._kept.ids)
    prefills = [n for b, n in read if n > 1 and b == len(STARTERS)]  # empty responses are drawn again, fewer at once
    assert longest > 100
    assert len(prefills) == 11
    assert max(prefills[2:]) < 60  # one utterance of each side and its header, never the whole dialog


def test_another_batch_starts_afresh(agents):
    agent, _ = agents(True)
    fresh, _ = agents(False)
    first = [make_dialog([t]) for t in STARTERS]
    for rows in (first, first[:2], list(reversed(first)), first):
        contexts = [Context(utterances=d.messages) for d in rows]
        assert agent.respond(contexts, seed=1) == fresh.respond(contexts, seed=1)


def test_join_keeps_what_prompts_share_and_moves_its_columns():
    from transformers import DynamicCache

    cache = DynamicCache()
    columns = torch.arange(5.0)[None, None, :, None].expand(2, 1, 5, 1)
    cache.update(columns.clone(), 10 * columns.clone(), 0)
    before = kept.Kept(cache, ids=[[7, 8, 9, 4], [7, 8, 5]], columns=[[0, 1, 3, 4], [1, 2, 4]])
    ids, mask, joined = kept.join(before, [[7, 8, 9, 1, 2], [7, 8, 6]], pad_id=0)
    assert ids.tolist() == [[7, 8, 9, 1, 2], [0, 7, 8, 0, 6]]
    assert mask.tolist() == [[1, 1, 1, 1, 1], [0, 1, 1, 0, 1]]
    assert joined.layers[0].keys[:, 0, :, 0].tolist() == [[0, 1, 3], [0, 1, 2]]
    assert joined.layers[0].values[0, 0, :, 0].tolist() == [0, 10, 30]


def test_a_growing_layer_holds_what_the_librarys_own_holds():
    from transformers.cache_utils import DynamicLayer

    ours, theirs = kept.GrowingLayer(), DynamicLayer()
    generator = torch.Generator().manual_seed(0)
    for k, n in enumerate((5, 1, 1, 90, 1, 3, 200, 1)):
        new = [torch.randn(2, 3, n, 4, generator=generator) for _ in range(2)]
        for a, b in zip(ours.update(*new), theirs.update(*new), strict=True):
            assert torch.equal(a, b)
        if k == 4:  # columns moved from outside, as `join` does
            for layer in (ours, theirs):
                layer.keys, layer.values = layer.keys[:, :, 3:40].clone(), layer.values[:, :, 3:40].clone()
    assert ours.get_seq_length() == theirs.get_seq_length()
