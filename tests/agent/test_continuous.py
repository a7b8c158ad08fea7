"""Rows that join and leave a batch between tokens, against ``generate``; sampling of a row, against transformers."""

from __future__ import annotations

import pytest
import torch

from pege.agent.ask import Ask, End
from pege.agent.continuous import ContinuousBatch
from pege.agent.generate import LocalAgent
from pege.agent.rows import RowsCache
from pege.agent.sampling import RowSampler, pick, sample
from pege.agent.settings import Settings
from pege.agent.turn import Turn
from pege.dialog import Context, make_dialog
from pege.models.causal import load_model

SAID = ["hello my dog", "I lost my dog and I am so sad.", "我今天很难过。", "We had a wonderful holiday at the sea."]


@pytest.fixture(scope="module")
def agent(tiny_model_dir):
    model, tokenizer = load_model(tiny_model_dir, dtype="float32")
    return LocalAgent("tiny", model, tokenizer, generation={"do_sample": False, "max_new_tokens": 8})


class Row:
    def __init__(self, text, settings=None):
        self.got, self.is_gone = [], False
        context = Context(utterances=make_dialog([text]).messages)
        self.ask = Ask(context, settings or Settings(), self.got.append, lambda: self.is_gone)

    @property
    def text(self):
        return " ".join("".join(p for p in self.got if isinstance(p, str)).replace("\ufffd", " ").split())


def run(batch, n=100):
    for _ in range(n):
        batch.step()


def test_rows_that_join_late_get_what_generate_gives_each_alone(agent):
    batch, rows = ContinuousBatch(agent), [Row(t) for t in SAID]
    batch.admit([rows[0].ask])
    run(batch, 2)
    batch.admit([rows[1].ask, rows[2].ask])
    run(batch, 3)
    batch.admit([rows[3].ask])
    run(batch)
    assert batch.n_rows == 0
    for row in rows:
        (ids,), stops = agent.prompts([row.ask.context])
        config = {"do_sample": False, "max_new_tokens": 8, "eos_token_id": stops, "pad_token_id": 0}
        alone = agent.model.generate(torch.tensor([ids]), **config)[0, len(ids):]  # fmt: skip
        assert row.got[-1].n_new == len(alone)
        assert row.text == " ".join(
            agent.tokenizer.decode(alone, skip_special_tokens=True).replace("\ufffd", " ").split()
        )


def test_a_row_that_nobody_waits_for_is_gone_before_the_next_token(agent):
    batch, rows = ContinuousBatch(agent), [Row(t, Settings(max_tokens=50)) for t in SAID[:2]]
    batch.admit([r.ask for r in rows])
    run(batch, 2)
    rows[0].is_gone = True
    n_before = len(rows[0].got)
    batch.step()
    assert batch.n_rows == 1
    assert len(rows[0].got) == n_before


def test_settings_differ_by_row_and_a_seed_repeats_in_any_company(agent):
    seeded = Settings(seed=7, temperature=1.5, max_tokens=6)
    alone, together = Row(SAID[0], seeded), Row(SAID[0], seeded)
    for rows in ([alone], [Row(SAID[1], Settings(temperature=0, max_tokens=3)), together, Row(SAID[3])]):
        batch = ContinuousBatch(agent)
        batch.admit([r.ask for r in rows])
        run(batch)
    assert together.text == alone.text
    assert together.got[-1] == End("length", together.got[-1].n_prompt, 6)


def test_a_row_that_cannot_be_read_harms_no_other(agent, monkeypatch):
    batch, good, bad = ContinuousBatch(agent), Row(SAID[0]), Row(SAID[1])
    whole = RowsCache.read

    def fails(self, tokens, starts, *, first):
        if len(tokens) > 1 or tokens[0] == agent.prompts([bad.ask.context])[0][0]:
            raise RuntimeError("boom")
        return whole(self, tokens, starts, first=first)

    monkeypatch.setattr(RowsCache, "read", fails)
    batch.admit([good.ask, bad.ask])
    run(batch)
    assert good.got[-1].finish in ("stop", "length")
    assert isinstance(bad.got[-1].error, RuntimeError)


def test_a_row_whose_scores_are_no_numbers_harms_no_other(agent, monkeypatch):
    drawn = Settings(seed=1, temperature=1.0, max_tokens=6)
    batch, good, alone, bad = ContinuousBatch(agent), Row(SAID[0], drawn), Row(SAID[0], drawn), Row(SAID[1], drawn)
    batch.admit([alone.ask])
    run(batch)
    whole, (prompt,) = RowsCache.read, agent.prompts([bad.ask.context])[0]

    def fails(self, tokens, starts, *, first):
        logits = whole(self, tokens, starts, first=first)
        for k, start in enumerate(starts):
            if start == len(prompt) + 1 or (start == 0 and tokens[k][: len(prompt)] == prompt and tokens[k] != prompt):
                logits[k] = torch.nan  # at the third token
        return logits

    monkeypatch.setattr(RowsCache, "read", fails)
    batch.admit([good.ask, bad.ask])
    run(batch)
    assert isinstance(bad.got[-1].error, ValueError)
    assert good.text == alone.text


def test_a_row_is_narrowed_as_generate_does(agent):
    (ids,), _ = agent.prompts([Context(utterances=make_dialog(["hello"]).messages)])
    settings = {"do_sample": True, "temperature": 0.7, "top_k": 5, "top_p": 0.8, "repetition_penalty": 1.3}
    out = agent.model.generate(
        torch.tensor([ids]), **settings, max_new_tokens=1, output_scores=True, output_logits=True,
        return_dict_in_generate=True, pad_token_id=0,
    )  # fmt: skip
    likely = set(torch.isfinite(out.scores[0][0]).nonzero()[:, 0].tolist())
    drawn = set()
    for seed in range(100):
        row = RowSampler(settings, ids, frozenset(), generator=torch.Generator().manual_seed(seed))
        drawn |= set(sample([row], out.logits[0]))
    assert drawn <= likely
    assert len(drawn) > 1 or len(likely) == 1


def test_text_is_let_out_by_sentences_and_up_to_a_text_to_stop_before():
    turn = Turn("hi", refuse=lambda text: None, stops=["END", ". Bye"])
    shown = [turn.feed(p) for p in ["One", ". ", "Two. B", "e", "  kind. E", "N", "D never"]]
    assert shown == ["", "", "One.", " Two.", "", "", ""]
    assert not turn.wants_more
    assert turn.end() == " Be kind."
    assert turn.text == "One. Two. Be kind."


@pytest.mark.parametrize("temperature", [1e-300, 1e-40, 1e-6, 0.009])
def test_a_temperature_that_is_next_to_nothing_takes_the_likeliest_token(agent, temperature):
    rows = [Row(SAID[0], Settings(temperature=t, seed=1)) for t in (temperature, 0)]
    batch = ContinuousBatch(agent)
    batch.admit([row.ask for row in rows])
    run(batch)
    assert rows[0].text == rows[1].text
    assert rows[0].got[-1].finish != "error"


def test_scores_that_warping_makes_no_numbers_are_no_token():
    infinite = torch.tensor([[float("inf"), 0.0], [1.0, 0.0]])
    with pytest.raises(ValueError, match="no numbers"):
        pick(infinite, [], [0.5, 0.5])
    assert pick(torch.zeros(1, 3), [], [1 - 2**-54]) == [2]  # rounded up to the sum of the shares


def test_a_prompt_and_what_follows_fit_the_model_and_the_newest_words_stay(agent):
    long = Row("dog " * 5_000 + "and now I am sad", Settings(max_tokens=400, seed=1))
    many = Row("I am sad", Settings(max_tokens=400, seed=1))
    batch = ContinuousBatch(agent)
    batch.admit([long.ask, many.ask])
    (ids,), _ = agent.with_settings(long.ask.settings).prompts([long.ask.context])
    assert "and now I am sad<|end|>" in agent.tokenizer.decode(ids)
    n_positions = agent.model.config.max_position_embeddings
    assert len(ids) == n_positions // 2
    run(batch, n_positions)
    assert long.got[-1].n_prompt + long.got[-1].n_new <= n_positions
    assert many.got[-1].n_prompt + many.got[-1].n_new <= n_positions
    text = agent.respond([long.ask.context], seed=1)[0]
    assert text
