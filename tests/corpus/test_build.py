"""Filters by hand, and the count that always holds."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pege.corpus import CorpusConfig, build_corpus, corpus_stats
from pege.corpus.filters import cut_windows
from pege.dialog import Dialog
from pege.errors import InputError
from pege.io import read_rows


class Rule:
    """Positive where a text says great, negative where it says sad, else neutral; unsure at maybe."""

    name = "rule"

    def predict(self, texts):
        rows = {"great": (0.02, 0.03, 0.95), "sad": (0.9, 0.05, 0.05), "maybe": (0.34, 0.33, 0.33)}
        return np.array([next((p for w, p in rows.items() if w in t), (0.1, 0.8, 0.1)) for t in texts])


def row(*texts):
    return json.dumps({"messages": [{"role": ("user", "assistant")[k % 2], "content": t} for k, t in enumerate(texts)]})


LINES = {
    row("I am sad", "why", "now great"): None,
    row("hello", "hi", "great"): None,
    row("maybe", "hi", "great"): "unclear-start",
    row("I am sad", "why", "still sad"): "not-positive-end",
    row("sad", "great"): "ends-with-agent",
    row("sad"): "too-few",
    row("flat for rent", "hi", "great"): "topic",
    row("sad", "x" * 700, "great"): "too-long",
    "{broken": "quarantined",
}


def build(tmp_path, lines, **options):
    (tmp_path / "raw.jsonl").write_text("\n".join(lines) + "\n")
    config = CorpusConfig(input=(str(tmp_path / "raw.jsonl"),), validation_share=0.0, **options)
    return build_corpus(config, tmp_path / "out", Rule(), keep_dropped=True)


def test_each_reason_is_given_and_all_rows_are_counted(tmp_path):
    report = build(tmp_path, LINES, min_utterances=2)
    assert report["kept"] == 2
    assert report["quarantined"] == 1
    assert report["dropped"] == {r: 1 for r in LINES.values() if r not in (None, "quarantined")}
    assert report["input"] == len(LINES)
    kept = list(read_rows(tmp_path / "out" / "train.jsonl", Dialog))
    assert kept[0].emotion.negative == 0.9
    assert corpus_stats(kept)["sessions"] == {"negative": 1, "neutral": 1}


@given(st.lists(st.sampled_from(sorted(LINES)), min_size=1, max_size=12))
def test_input_is_kept_and_dropped_and_quarantined(tmp_path_factory, lines):
    lines = [*lines, row("hello", "hi", "great")]  # at least one is kept
    report = build(tmp_path_factory.mktemp("c"), lines)
    assert report["input"] == len(lines) == report["kept"] + sum(report["dropped"].values()) + report["quarantined"]


def test_an_agents_last_word_may_be_cut_in_place_of_the_dialog(tmp_path):
    report = build(tmp_path, [row("sad", "why", "great", "bye")], trailing="cut")
    assert report["kept"] == 1


def test_long_conversations_are_cut_where_they_end_well():
    ends = [False, False, True, False, False, False, True, True]
    assert cut_windows(8, ends, window=5, min_utterances=3) == [(0, 3), (3, 8)]
    assert cut_windows(2, [True, True], window=5, min_utterances=3) == []


@given(st.lists(st.booleans(), max_size=40), st.integers(3, 12), st.integers(1, 7))
def test_sessions_are_odd_within_bounds_and_apart(ends, window, shortest):
    spans = cut_windows(len(ends), ends, window=window, min_utterances=shortest)
    for start, stop in spans:
        assert (stop - start) % 2 == 1
        assert shortest <= stop - start <= window
        assert ends[stop - 1]
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))


def test_sessions_of_one_conversation_stay_on_one_side(tmp_path):
    talk = row(*["sad", "why", "great"] * 4)
    (tmp_path / "raw.jsonl").write_text("\n".join([talk] * 40))
    config = CorpusConfig(input=(str(tmp_path / "raw.jsonl"),), window=3, validation_share=0.3)
    build_corpus(config, tmp_path / "out", Rule())
    sides = [
        {d.id.split("#")[0] for d in read_rows(tmp_path / "out" / f"{s}.jsonl", Dialog)}
        for s in ("train", "validation")
    ]
    assert sides[0]
    assert sides[1]
    assert not sides[0] & sides[1]


def test_a_row_of_the_real_talk_is_a_dialog():
    from pege.corpus import read_raw

    _, _, raw = next(iter(read_raw(["chitchat"])))
    assert len(Dialog.model_validate(raw).messages) > 5


def test_no_file_is_one_line(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        build_corpus(CorpusConfig(input=(str(tmp_path / "*.jsonl"),)), tmp_path / "out", Rule())


def test_a_limit_is_kept_to_the_dialog(tmp_path):
    assert build(tmp_path, [row("sad", "why", f"great {k}") for k in range(20)], limit=7)["kept"] == 7
