"""The build: each reason by hand, the count that always holds, and the same bytes whatever happens on the way."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pege.corpus import CorpusConfig, build_corpus, corpus_rows, corpus_stats
from pege.corpus.read import inspect_dialog
from pege.dialog import Dialog
from pege.errors import InputError
from pege.io import read_rows

EMOTIONAL = ("start", "end")


class Rule:
    """Positive where a text says great, negative where it says sad, else neutral; unsure at maybe."""

    name = "rule"

    def predict(self, texts):
        rows = {"great": (0.02, 0.03, 0.95), "sad": (0.9, 0.05, 0.05), "maybe": (0.34, 0.33, 0.33)}
        return np.array([next((p for w, p in rows.items() if w in t), (0.1, 0.8, 0.1)) for t in texts])


def row(*texts, **fields):
    messages = [{"role": ("user", "assistant")[k % 2], "content": t} for k, t in enumerate(texts)]
    return json.dumps({"messages": messages, **fields})


LINES = {
    row("I am so sad", "tell me why", "now I feel great"): None,
    row("hello there", "hi and welcome", "that is great"): None,
    row("maybe I am", "who knows that", "it is great"): "unclear-start",
    row("I am very sad", "oh dear why", "still so sad"): "not-positive-end",
    row("a sad story", "a great one", "tell me more", "that is all"): "ends-with-agent",
    row("sad and alone"): "too-few",
    row("I have a flat for rent", "how much is it", "great, I take it"): "topic",
    row("I was sad", "this goes on and on " * 900, "now it is great"): "too-long",
    row("I am sad so", "write to jane.doe@example.org", "great, I will"): "email",
    "{broken": "quarantined",
}


def build(tmp_path, lines, *, output="out", **options):
    (tmp_path / "raw.jsonl").write_text("\n".join(lines) + "\n")
    settings = {"filters": ("topic", "contact", *EMOTIONAL), "validation_share": 0.0, "duplicate_bands": 0} | options
    config = CorpusConfig(input=(str(tmp_path / "raw.jsonl"),), **settings)
    return build_corpus(config, tmp_path / output, classifier=Rule(), keep_dropped=True)


def test_each_reason_is_given_and_all_rows_are_counted(tmp_path):
    report = build(tmp_path, LINES)
    assert report["dropped"] == {r: 1 for r in LINES.values() if r not in (None, "quarantined")}
    assert (report["kept"], report["quarantined"], report["input"]) == (2, 1, len(LINES))
    kept = list(read_rows(tmp_path / "out" / "train", Dialog))
    assert [d.emotion.negative for d in kept] == [0.9, 0.1]
    assert kept[0].texts == ["I am so sad", "tell me why"]  # the user's last utterance is left out
    assert corpus_stats(kept)["sessions"] == {"negative": 1, "neutral": 1}


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.sampled_from([*sorted(LINES), "", "[]", "\udcff", '{"messages": []}']), max_size=12), st.integers(1, 5)
)
def test_input_is_kept_and_dropped_and_quarantined(tmp_path_factory, lines, shard_rows):
    lines = [*lines, row("hello there", "hi and welcome", "that is great")]  # at least one is kept
    tmp_path = tmp_path_factory.mktemp("c")
    (tmp_path / "raw.jsonl").write_bytes("\n".join(lines).encode("utf-8", "surrogateescape"))
    config = CorpusConfig(input=(str(tmp_path / "raw.jsonl"),), filters=EMOTIONAL, shard_rows=shard_rows)
    report = build_corpus(config, tmp_path / "out", classifier=Rule())
    n = sum(1 for line in lines if line.strip())
    assert report["input"] == n == report["kept"] + sum(report["dropped"].values()) + report["quarantined"]
    rows = sum(1 for _ in read_rows(tmp_path / "out" / "train", Dialog)) if report["train"] else 0
    assert rows == report["train"]


def test_a_broken_archive_is_quarantined_and_the_rest_is_built(tmp_path):
    import gzip

    good = gzip.compress("\n".join(row("I am so sad", f"why {k} is it", "now great") for k in range(2000)).encode())
    (tmp_path / "a.jsonl.gz").write_bytes(good[: len(good) // 2])
    (tmp_path / "b.jsonl").write_text(row("hello there", "hi and welcome", "that is great"))
    config = CorpusConfig(input=(str(tmp_path / "*.jsonl*"),), filters=EMOTIONAL, duplicate_bands=0)
    report = build_corpus(config, tmp_path / "out", classifier=Rule())
    assert report["quarantined"] == 1
    assert 1 < report["kept"] < 2001
    (bad,) = [json.loads(line) for line in (tmp_path / "out" / "quarantine.jsonl").read_text().splitlines()]
    assert bad["file"] == "a.jsonl.gz"
    assert "cut or broken" in bad["reason"]


def test_an_agents_last_word_may_be_cut_in_place_of_the_dialog(tmp_path):
    assert build(tmp_path, [row("so sad", "why is that", "now great", "bye then")], trailing="cut")["kept"] == 1


def test_a_response_said_by_many_is_a_template_and_a_short_one_is_not(tmp_path):
    said = "please rate our service with five stars"
    lines = [row(f"I am sad {k}", said if k < 4 else "why is that so", f"now great {k}") for k in range(8)]
    report = build(tmp_path, lines, max_response_count=3)
    assert report["dropped"] == {"frequent-response": 4}


def test_of_near_duplicates_the_first_stays(tmp_path):
    story = (
        "I am so sad because my old dog ran away from our garden this morning and nobody in the whole street saw him"
    )
    lines = [
        row(story, "why did it happen then", "I feel great", id="a"),
        row("something else is sad here", "tell me about it", "I feel great", id="b"),
        row(story.upper() + "!", "why did it happen then", "I feel great", id="c"),
    ]
    report = build(tmp_path, lines, duplicate_bands=16)
    assert report["dropped"] == {"near-duplicate": 1}
    (story_of_c,) = inspect_dialog(tmp_path / "out", "c")
    assert (story_of_c["went"], story_of_c["reason"], story_of_c["detail"]) == ("dropped", "near-duplicate", "of a")
    assert inspect_dialog(tmp_path / "out", "a")[0]["went"] == "kept"
    with pytest.raises(InputError, match="no dialog has the id 'x'"):
        inspect_dialog(tmp_path / "out", "x")


def test_sessions_of_one_conversation_stay_on_one_side(tmp_path):
    lines = [row(*["I am sad", f"tell me why {k}", "now great"] * 4) for k in range(40)]
    report = build(tmp_path, lines, window=3, validation_share=0.3)
    assert report["kept"] == 160
    sides = [{d.id.split("#")[0] for d in read_rows(tmp_path / "out" / s, Dialog)} for s in ("train", "validation")]
    assert sides[0]
    assert sides[1]
    assert not sides[0] & sides[1]


def test_a_flaw_costs_a_long_conversation_one_session_only(tmp_path):
    talk = ["I am sad", "tell me why", "now great", "how so", "I am sad", "go to http://x.example/y", "now great"]
    report = build(tmp_path, [row(*talk, id="t")], window=3)
    assert report["kept"] == 1
    assert report["dropped"] == {"url": 1}
    (dropped,) = [s for s in inspect_dialog(tmp_path / "out", "t") if s["went"] == "dropped"]
    assert (dropped["id"], dropped["utterance"]) == ("t#1", 2)


def test_a_limit_is_of_conversations_read(tmp_path):
    report = build(tmp_path, [row("so sad", "why is it", f"great {k}") for k in range(20)], limit=7, shard_rows=3)
    assert report["input"] == 7


@pytest.mark.parametrize("window", [None, 3])
def test_a_build_that_keeps_nothing_says_why_and_leaves_nothing(tmp_path, window):
    with pytest.raises(InputError, match=r"no dialog was kept \(1 quarantined, the first at raw.jsonl:1: is not JSON"):
        build(tmp_path, ["{broken"], window=window)
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match=r"no dialog was kept \(1 (no-session|not-positive-end)\); loosen the filters"):
        build(tmp_path, [row("I am so sad", "tell me why", "still so sad")], window=window)
    assert build(tmp_path, LINES, window=window)["kept"]  # another input may take the same folder


def test_a_misspelt_model_or_file_begins_no_corpus(tmp_path):
    (tmp_path / "raw.jsonl").write_text(row("I am so sad", "tell me why", "now I feel great"))
    for typo in ({"classifier": "no-folder"}, {"topics": "no.yaml"}, {"recogniser": "nobody"}, {"allow": "no.txt"}):
        with pytest.raises(InputError, match="no"):
            build_corpus(CorpusConfig(input=(str(tmp_path / "raw.jsonl"),), **typo), tmp_path / "out", workers=1)
        assert not (tmp_path / "out").exists()


def test_half_a_surrogate_pair_is_quarantined_wherever_it_stands(tmp_path):
    good = json.loads(row("I am so sad", "tell me why", "now I feel great"))
    bad = json.loads(row("I am sad \ud800", "tell me why", "now I feel great"))
    report = build(tmp_path, [json.dumps(r) for r in (good, good | {"x": "\ud800"}, bad)])
    assert (report["kept"], report["quarantined"]) == (1, 2)


def test_no_file_is_one_line(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        build_corpus(CorpusConfig(input=(str(tmp_path / "*.jsonl"),)), tmp_path / "out", classifier=Rule())


def test_another_config_does_not_mix_into_a_folder(tmp_path):
    build(tmp_path, LINES)
    with pytest.raises(InputError, match="another end_threshold"):
        build(tmp_path, LINES, end_threshold=0.5)


def test_an_unknown_rule_of_cleaning_suggests_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'mojibake'"):
        CorpusConfig(input=("x",), cleaning=({"rule": "mojibak"},))


# ---- the same bytes


def bytes_of(folder):
    """Digest of every file but the one that names versions."""
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != "versions.json"
    }


def many_lines(n):
    words = ["dog", "garden", "train", "letter", "winter", "sister", "money", "river", "song", "window"]
    rng = np.random.default_rng(0)
    lines = []
    for k in range(n):
        said = [" ".join(rng.choice(words, 8)) for _ in range(2)]
        lines.append(row(f"I am sad, {said[0]}", f"why {said[1]}", f"now great {k % 7}", id=f"d{k}"))
    return [*lines, *lines[: n // 10], "{broken"]


def test_shards_do_not_change_the_rows(tmp_path):
    lines = many_lines(60)
    ids = []
    for shard_rows in (7, 1000):
        build(tmp_path, lines, output=f"out-{shard_rows}", shard_rows=shard_rows, duplicate_bands=16)
        ids.append([d.id for d in corpus_rows(tmp_path / f"out-{shard_rows}")])
    assert ids[0] == ids[1]
    assert len(ids[0]) >= 55


def test_passes_over_the_hashes_do_not_change_the_rows(tmp_path, monkeypatch):
    lines = [
        *many_lines(60),
        *(row(f"so sad {k}", "the same long answer for one and all", f"great {k}") for k in range(6)),
    ]
    for name, rows_of_a_pass in (("whole", 1_000), ("passes", 9)):
        monkeypatch.setattr("pege.corpus.build._PASS_ROWS", rows_of_a_pass)
        report = build(tmp_path, lines, output=name, duplicate_bands=16, max_response_count=3)
        assert {"near-duplicate": 6, "frequent-response": 6}.items() <= report["dropped"].items()
    assert bytes_of(tmp_path / "passes") == bytes_of(tmp_path / "whole")


COMMAND = [
    sys.executable, "-m", "pege", "corpus", "build", "--input", "raw.jsonl", "--filters", "topic", "start", "end",
    "--end_threshold", "0.3", "--shard_rows", "40", "--workers", "2",
]  # fmt: skip


@pytest.mark.slow
def test_killed_at_any_moment_the_next_start_ends_with_the_same_bytes(tmp_path):
    (tmp_path / "raw.jsonl").write_text("\n".join(many_lines(300)))
    subprocess.run([*COMMAND, "--output", "whole"], cwd=tmp_path, check=True, capture_output=True)
    rng = np.random.default_rng(1)
    for _ in range(4):
        start = subprocess.Popen(
            [*COMMAND, "--output", "killed"], cwd=tmp_path, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(float(rng.uniform(1.5, 9)))
        os.killpg(start.pid, signal.SIGKILL)
        start.wait()
    subprocess.run([*COMMAND, "--output", "killed"], cwd=tmp_path, check=True, capture_output=True)
    assert bytes_of(tmp_path / "killed") == bytes_of(tmp_path / "whole")


@pytest.mark.slow
def test_ray_gives_the_bytes_of_the_local_runner(tmp_path):
    pytest.importorskip("ray")
    (tmp_path / "raw.jsonl").write_text("\n".join(many_lines(120)))
    for runner in ("local", "ray"):
        command = [*COMMAND, "--output", runner, "--runner", runner]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=400)
        assert done.returncode == 0, done.stderr[-2000:]
    assert bytes_of(tmp_path / "ray") == bytes_of(tmp_path / "local")


def test_the_output_is_what_the_hub_reads(tmp_path):
    build(tmp_path, LINES)
    table = pq.read_table(tmp_path / "out" / "train")
    assert table.schema.names == ["id", "lang", "source", "messages", "emotion", "extra"]
    assert table.column("messages").to_pylist()[0][0] == {"role": "user", "content": "I am so sad"}
