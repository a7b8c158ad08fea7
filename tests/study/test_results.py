"""Votes, tests and shares by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from pege.dialog import make_dialog
from pege.lexicon import load_lexicon
from pege.metrics import score_dialogs
from pege.metrics.ratings import read_ratings
from pege.study.collect import write_exports
from pege.study.design import Design
from pege.study.raters import invite_raters
from pege.study.rating import current_assignment, finish_item, questions_of
from pege.study.results import correlation, empathy_first, study_results
from pege.study.text import results_text
from pege.study.votes import RatingRow, agrees_with_others, dialog_means, judgements_of, majority


def row(system, starter, rater, metric, value, place=0):
    item = f"{starter}:{system}"
    return RatingRow(
        item=f"{item}#{place}" if place else item, rater=rater, metric=metric, value=str(value), system=system,
        starter=starter, dialog=item, utterance=place, is_asked=True, seconds=1, given_at="2026-01-01T00:00:00Z",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("values", "vote"),
    [
        ([1, 1, 0], 1),
        ([0, 1, 0], 0),
        ([1], 1),
        ([1, 0], 0.5),
        ([1, 3, 5], 3),
        ([4, 4, 1], 4),
        ([2, 4], 3),
        ([0, 1, 2], 1),
    ],
)
def test_majority_is_the_vote_of_no_and_yes_and_the_median_of_a_scale(values, vote):
    assert majority([float(v) for v in values]) == vote


def test_utterances_are_voted_on_each_then_averaged_over_the_dialog():
    rows = [
        row("A", "s", r, "coherence", v, place)
        for place, said in ((1, "110"), (2, "001"), (3, "111"))
        for r, v in zip("xyz", said, strict=True)
    ]
    assert dialog_means(rows) == {"coherence": {"A": {"s": pytest.approx(2 / 3)}}}


def test_agreement_with_the_others_leaves_their_ties_out():
    said = {"i": "111", "j": "110", "k": "100"}
    rows = [row("A", i, r, "m", v) for i, votes in said.items() for r, v in zip("xyz", votes, strict=True)]
    # i: all agree with the others. j: x sees 1,0 (tie), y sees 1,0 (tie), z differs from 1,1. k: x differs, y and z see a tie.
    assert agrees_with_others(rows) == {"x": 0.5, "y": 1.0, "z": 0.5}


def test_empathy_first_by_hand():
    guidance, empathy = {"a": 1.0, "b": 1.0, "c": 0.0, "d": 0.5}, {"a": 1.0, "b": 0.0, "c": 0.0, "d": 0.5}
    found = empathy_first(guidance, empathy, n_resamples=99)
    assert found["share"] == pytest.approx(1.5 / 2.5)
    assert found["n_successes"] == 2.5
    assert empathy_first({"a": 0.0}, {"a": 0.0}) == {"share": None, "ci": None, "n_successes": 0.0}
    assert empathy_first({}, {})["share"] is None


def test_systems_are_tested_on_the_starters_that_both_have():
    design = Design(systems={"A": "a.jsonl", "B": "b.jsonl"})
    rows = [row("A", f"s{k}", "x", "guidance", 1) for k in range(10)] + [
        row("B", f"s{k}", "x", "guidance", 0) for k in range(2, 12)
    ]
    found = study_results(design, rows, {}, n_resamples=999)
    (test,) = found["tests"]["guidance"]
    assert (test["n_pairs"], test["difference"]) == (8, 1.0)
    assert test["p"] == pytest.approx(2 / 2**8)  # all 8 signs alike
    assert test["q"] == test["p"]
    assert found["table"]["A"]["guidance"]["mean"] == 1.0


def test_a_comparison_counts_wins_without_ties():
    questions = [{"name": "best", "title": {"en": "B"}, "question": {"en": "?"}}]
    design = Design(systems={"A": "a", "B": "b"}, metrics=[], comparison={"questions": questions, "allow_tie": True})
    rows = [row("A/B", f"s{k}", "x", "best", v) for k, v in enumerate(["A"] * 8 + ["B"] * 2 + ["tie"])]
    found = study_results(design, rows, {}, n_resamples=99)
    (pair,) = found["comparison"]["best"]
    assert (pair["wins_a"], pair["wins_b"], pair["ties"], pair["share_a"]) == (8, 2, 1, 0.8)
    assert pair["p"] == pair["q"] == pytest.approx(2 * (1 + 10 + 45) / 2**10)  # P(8 or more of 10, either way)
    assert {j.value for j in judgements_of(rows)} == {"A", "B", "tie"}
    assert "8 : 2 (1 ties)" in results_text(design, found)


def test_several_votes_on_one_pair_of_dialogs_are_one_observation():
    questions = [{"name": "best", "title": {"en": "B"}, "question": {"en": "?"}}]
    design = Design(systems={"A": "a", "B": "b"}, metrics=[], comparison={"questions": questions, "allow_tie": True})
    votes = ["AAA"] * 4 + ["AAB"] * 3 + ["BBA"] + ["ABt", "AtB", "ttA"]
    full = {"A": "A", "B": "B", "t": "tie"}
    rows = [
        row("A/B", f"s{k}", r, "best", full[v])
        for k, said in enumerate(votes)
        for r, v in zip("xyz", said, strict=True)
    ]
    (pair,) = study_results(design, rows, {}, n_resamples=99)["comparison"]["best"]
    assert (pair["wins_a"], pair["wins_b"], pair["ties"]) == (7, 1, 3)  # two of three, else a tie
    assert pair["votes"] == {"a": 22, "b": 7, "tie": 4}
    # by hand, over 8 pairs that are won: P(7 or more of 8, either way) = 2 (8 + 1) / 2^8; the 29 votes would give 0.008
    assert pair["p"] == pytest.approx(2 * 9 / 2**8)
    assert pair["share_a"] == 7 / 8
    # Wilson, from its formula
    z, n, p = 1.959963984540054, 8, 7 / 8
    middle, half = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert pair["ci"] == pytest.approx([(middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)])


def test_comparisons_without_a_difference_are_called_one_in_at_most_five_of_a_hundred():
    # three raters who all see what the dialogs have: their votes on a pair hang together
    rng, called, n = np.random.default_rng(0), 0, 200
    questions = [{"name": "best", "title": {"en": "B"}, "question": {"en": "?"}}]
    design = Design(systems={"A": "a", "B": "b"}, metrics=[], comparison={"questions": questions})
    for _ in range(n):
        better = rng.integers(0, 2, 20)
        rows = [row("A/B", f"s{k}", r, "best", "AB"[b]) for k, b in enumerate(better) for r in "xyz"]
        called += study_results(design, rows, {}, n_resamples=1)["comparison"]["best"][0]["p"] < 0.05
    assert called <= 0.09 * n  # 5 % and three standard errors; 60 votes as independent ones call a quarter


def test_tests_of_several_comparisons_are_adjusted_together():
    questions = [{"name": "best", "title": {"en": "B"}, "question": {"en": "?"}}]
    design = Design(systems=dict.fromkeys("ABC", "x"), metrics=[], comparison={"questions": questions})
    wins = {"A/B": 10, "A/C": 9, "B/C": 5}
    rows = [row(p, f"s{k}", "x", "best", p[0] if k < n else p[2]) for p, n in wins.items() for k in range(10)]
    pairs = study_results(design, rows, {}, n_resamples=9)["comparison"]["best"]
    p = [2 / 2**10, 2 * 11 / 2**10, 1.0]
    assert [c["p"] for c in pairs] == pytest.approx(p)
    assert [c["q"] for c in pairs] == pytest.approx([3 * p[0], 3 * p[1] / 2, 1.0])


def test_correlation_is_that_of_scipy_over_all_dialogs():
    words = ["happy", "sad", "lovely", "awful", "kind", "lonely", "sunny", "cruel"]
    dialogs = {
        f"s{k}:{s}": make_dialog([f"I am {w}", "I see", f"so {words[-k - 1 - i]} today"], id=f"{k}{s}", lang="en")
        for i, s in enumerate("AB")
        for k, w in enumerate(words[:6])
    }
    human = {k: float(n % 3) / 2 for n, k in enumerate(dialogs)}
    means = {"guidance": {s: {f"s{k}": human[f"s{k}:{s}"] for k in range(6)} for s in "AB"}}
    found = correlation(means, ["guidance"], dialogs, seed=0, n_resamples=50)
    scores = [x.pege for x in score_dialogs(list(dialogs.values()), load_lexicon("pege-en"), language="en")]
    cell = found["pege"]["guidance"]
    assert cell["pearson"] == pytest.approx(pearsonr(scores, list(human.values())).statistic)
    assert cell["spearman"] == pytest.approx(spearmanr(scores, list(human.values())).statistic)
    assert cell["ci"]["pearson"][0] <= cell["pearson"] <= cell["ci"]["pearson"][1]
    assert found["n_dialogs"] == 12


def test_a_column_without_spread_has_no_correlation():
    dialogs = {
        f"s{k}:A": make_dialog([f"I am {w}", "yes"], id=str(k), lang="en")
        for k, w in enumerate(("sad", "glad", "calm"))
    }
    means = {"guidance": {"A": {f"s{k}": 1.0 for k in range(3)}}}
    found = correlation(means, ["guidance"], dialogs, seed=0, n_resamples=9)
    assert found["e"]["guidance"] == {"ci": {"pearson": None, "spearman": None}, "pearson": None, "spearman": None}


def test_results_are_json_and_exports_are_what_pege_report_reads(make_store, tmp_path):
    store = make_store()
    rng = np.random.default_rng(0)
    for rater in invite_raters(store, 3):
        while (found := current_assignment(store, rater)) is not None:
            asked = questions_of(store.study.design, found.item)
            finish_item(store, rater, found.id, {q: v[int(rng.integers(2))] for q, v in asked.items()})
    from pege.study.collect import collect_ratings

    with store.reading() as connection:
        rows = collect_ratings(store, connection)
    dialogs = {i.key: i.dialogs[0] for i in store.items.values()}
    found = study_results(store.study.design, rows, dialogs, n_resamples=99)
    json.dumps(found, allow_nan=False)
    assert "Majority votes" in results_text(store.study.design, found)
    write_exports(tmp_path / "out", store, found, {"key": "x"})
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert {"results.json", "ratings.csv", "ratings.jsonl", "ratings.parquet", "provenance.json"} < names
    ratings = read_ratings(tmp_path / "out" / "Aurora.ratings.csv")
    assert {r.id for r in ratings} == {f"s{k:02d}" for k in range(4)}
    assert {r.scale for r in ratings} == {"coherence", "informativeness", "guidance", "empathy"}
