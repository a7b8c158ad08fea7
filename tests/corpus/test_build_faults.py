"""What may go wrong with a build: signals, changed input, broken rows, ids, copies; nothing is lost without a word."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pege.corpus import CorpusConfig, build_corpus, corpus_rows
from pege.corpus.read import inspect_dialog, parts
from pege.dialog import Dialog
from pege.errors import InputError
from pege.io import read_json, read_rows


class Rule:
    """Positive where a text says great, else neutral."""

    name = "rule"

    def predict(self, texts):
        return np.array([(0.02, 0.03, 0.95) if "great" in t else (0.1, 0.8, 0.1) for t in texts])


def row(*texts, **fields):
    messages = [{"role": ("user", "assistant")[k % 2], "content": t} for k, t in enumerate(texts)]
    return json.dumps({"messages": messages, **fields}, ensure_ascii=False)


def story(k, *, end="that is great", **fields):
    """A dialog that is like no other."""
    rng = np.random.default_rng(k)
    words = [" ".join(str(w) for w in rng.choice(WORDS, 9)) for _ in range(2)]
    return row(f"I am number word {words[0]}", f"why {words[1]}", end, **fields)


WORDS = [
    f"{a}{b}" for a in ("ba", "de", "fi", "go", "lu", "ma", "ne", "pi") for b in ("ton", "ric", "sal", "men", "vor")
]


def build(tmp_path, lines, *, output="out", name="raw.jsonl", keep_dropped=True, **options):
    (tmp_path / name).write_text("\n".join(lines) + "\n")
    settings = {"filters": ("start", "end"), "validation_share": 0.0, "input": (str(tmp_path / name),)} | options
    return build_corpus(CorpusConfig(**settings), tmp_path / output, classifier=Rule(), keep_dropped=keep_dropped)


def kept(tmp_path, output="out"):
    return list(corpus_rows(tmp_path / output))


# ---- signals, changed input


def command(place, *more):
    flags = ["--input", str(place / "raw*.jsonl"), "--filters", "start", "--shard_rows", "4", "--workers", "2"]
    return [sys.executable, "-m", "pege", "corpus", "build", *flags, "--output", str(place / "out"), *more]


def test_interrupted_where_the_shell_ignores_it_nothing_is_lost(tmp_path):
    (tmp_path / "raw.jsonl").write_text("\n".join(story(k) for k in range(400)) + "\n")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    ignored = subprocess.Popen(
        command(tmp_path), preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN), **quiet
    )
    end = time.monotonic() + 90
    while not list((tmp_path / "out" / "work").glob("4-filter/*.json")) and time.monotonic() < end:
        time.sleep(0.02)
    os.kill(ignored.pid, signal.SIGINT)
    code = ignored.wait(timeout=120)
    done = tmp_path / "out" / "report.json"
    assert code == 0 or not done.is_file()  # stopped, it says so and has written no report
    assert subprocess.run(command(tmp_path), check=False, **quiet).returncode == 0
    assert read_json(done)["input"] == 400


def test_a_step_that_lost_conversations_is_no_corpus(tmp_path, monkeypatch):
    from pege.corpus.shards import Step

    real = Step.shards
    monkeypatch.setattr(Step, "shards", lambda self: real(self)[:-1] if self.folder.name == "2-clean" else real(self))
    monkeypatch.setattr(Step, "counts", lambda self, shards: self.real_counts(self.shards()))
    monkeypatch.setattr(
        Step, "real_counts", lambda self, shards: (read_json(self.mark(s)) for s in shards), raising=False
    )
    with pytest.raises(RuntimeError, match="a step left 12 conversations and the next one had 8"):
        build(tmp_path, [story(k) for k in range(12)], shard_rows=4)
    assert not (tmp_path / "out" / "report.json").is_file()


@pytest.mark.parametrize("finished", [True, False])
def test_an_input_that_grew_or_got_company_is_refused(tmp_path, finished):
    settings = {"input": (str(tmp_path / "raw*.jsonl"),)}
    build(tmp_path, [story(k) for k in range(6)], **settings)
    if not finished:
        (tmp_path / "out" / "report.json").unlink()
    (tmp_path / "raw-0.jsonl").write_text(story(9) + "\n")
    with pytest.raises(InputError, match=r"raw-0\.jsonl: is new, gone or changed"):
        build(tmp_path, [story(k) for k in range(6)], **settings)
    (tmp_path / "raw-0.jsonl").unlink()
    with pytest.raises(InputError, match=r"raw\.jsonl: is new, gone or changed"):
        build(tmp_path, [story(k) for k in range(7)], **settings)


def test_what_a_killed_start_left_behind_is_cleared(tmp_path):
    build(tmp_path, [story(k) for k in range(3)])
    (tmp_path / "out" / "work").mkdir()
    build(tmp_path, [story(k) for k in range(3)])
    assert not (tmp_path / "out" / "work").exists()


def test_a_damaged_shard_is_named(tmp_path, monkeypatch):
    import pege.corpus.build as module

    monkeypatch.setattr(module, "write_corpus", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, [story(k) for k in range(3)])
    monkeypatch.undo()
    shard = next((tmp_path / "out" / "work" / "4-filter").glob("*.kept.parquet"))
    shard.write_bytes(shard.read_bytes()[:40])
    with pytest.raises(InputError, match=r"kept\.parquet: is missing or damaged"):
        build(tmp_path, [story(k) for k in range(3)])


def test_an_address_where_no_cluster_is_begins_no_folder(tmp_path):
    (tmp_path / "raw.jsonl").write_text(story(1) + "\n")
    config = CorpusConfig(input=(str(tmp_path / "raw.jsonl"),))
    with pytest.raises(InputError, match="no Ray cluster answers"):
        build_corpus(config, tmp_path / "out", runner="ray", address="127.0.0.1:1")
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="0 workers"):
        build_corpus(config, tmp_path / "out", workers=0)


# ---- rows


def test_rows_that_no_reader_expects_are_quarantined(tmp_path):
    lines = [story(1), '{"messages": [], "n": ' + "9" * 6000 + "}", "[" * 100_000, story(2)]
    report = build(tmp_path, lines)
    assert (report["kept"], report["quarantined"]) == (2, 2)


@pytest.mark.parametrize("text", ['[{"dialog": ' + "9" * 6000 + "}]", "[" * 100_000])
def test_a_json_file_that_cannot_be_read_is_quarantined(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    (tmp_path / "b.json").write_text(
        json.dumps(
            [{"dialog": [{"speaker": s, "content": f"that is great {s}"} for s in ("seeker", "supporter", "seeker")]}]
        )
    )
    report = build(tmp_path, [], input=(str(tmp_path / "[ab].json"),), layout="esconv")
    assert (report["kept"], report["quarantined"]) == (1, 1)


def test_a_text_of_parquet_that_is_no_utf_8_costs_one_row(tmp_path):
    good = [[{"role": r, "content": c} for r, c in zip(("user", "assistant", "user"), (f"so {k}", f"why {k} not", "great"),
             strict=True)] for k in range(3)]  # fmt: skip
    table = pa.table({"messages": pa.array(good)})
    flat = table.column("messages").combine_chunks().flatten()
    contents = [c.encode() for c in flat.field("content").to_pylist()]
    contents[4] = b"\xff\xfe"
    texts = pa.array(contents, pa.binary()).view(pa.string())
    inner = pa.StructArray.from_arrays([flat.field("role"), texts], names=["role", "content"])
    broken = pa.ListArray.from_arrays(table.column("messages").combine_chunks().offsets, inner)
    pq.write_table(pa.table({"messages": broken}), tmp_path / "a.parquet")
    report = build(tmp_path, [], input=(str(tmp_path / "a.parquet"),))
    assert (report["kept"], report["quarantined"]) == (2, 1)


def test_a_short_line_of_empathetic_dialogues_is_quarantined(tmp_path):
    head = "utterance_idx,context,prompt,speaker_idx,utterance,conv_id\n"
    lines = [f"{k},sad,p,{k % 2},that is great {k},c1\n" for k in range(3)]
    (tmp_path / "e.csv").write_text(head + "".join(lines) + "1,sad\n")
    report = build(tmp_path, [], input=(str(tmp_path / "e.csv"),))
    assert (report["kept"], report["quarantined"]) == (1, 1)


# ---- personal data beside the texts


def test_fields_and_ids_of_the_source_carry_no_personal_data_into_the_corpus(tmp_path):
    line = story(1, id="jane.doe@example.org", author="Jane Doe", phone="+1 415 555 2671", situation_emotion="sad")
    build(tmp_path, [line])
    (dialog,) = kept(tmp_path)
    assert json.loads(dialog.model_extra["extra"]) == {"situation_emotion": "sad"}
    written = b"".join(p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert b"jane" not in written.lower()
    assert inspect_dialog(tmp_path / "out", "jane.doe@example.org")[0]["went"] == "kept"


def test_what_a_filter_saw_is_kept_with_the_texts_only(tmp_path):
    lines = [story(1), row("so sad", "write to jane.doe@example.org", "great"), story(3, end="still so sad")]
    for keep in (True, False):
        output = f"out-{keep}"
        build(tmp_path, lines, output=output, keep_dropped=keep, filters=("contact", "end"))
        details = [r["detail"] for p in parts(tmp_path / output, "dropped") for r in pq.read_table(p).to_pylist()]
        assert any("jane.doe" in (d or "") for d in details) is keep
        assert any((d or "").startswith("p(positive)") for d in details)


# ---- ids


def test_ids_that_begin_with_a_mark_of_sessions_are_split_like_others(tmp_path):
    report = build(tmp_path, [story(k, id=f"#{k}") for k in range(80)], validation_share=0.3)
    assert 10 < report["validation"] < 40
    assert len({d.id for d in kept(tmp_path)}) == 80


def test_files_that_differ_behind_the_first_dot_give_different_ids(tmp_path):
    for lang, start in (("en", 0), ("zh", 50)):
        (tmp_path / f"x.{lang}.jsonl").write_text("\n".join(story(start + k) for k in range(3)) + "\n")
    build(tmp_path, [], input=(str(tmp_path / "x.*.jsonl"),))
    assert sorted(d.id for d in kept(tmp_path)) == [f"x.{lang}-00000{k}" for lang in ("en", "zh") for k in (1, 2, 3)]


def test_an_id_that_occurs_twice_is_told_apart_and_found(tmp_path, caplog):
    build(tmp_path, [story(1, id="a"), story(2, id="b"), story(3, id="a")], shard_rows=1)
    assert sorted(d.id for d in kept(tmp_path)) == ["a", "a~2", "b"]
    assert "1 kept dialogs have an id" in caplog.text
    assert len(inspect_dialog(tmp_path / "out", "a")) == 2
    assert len(inspect_dialog(tmp_path / "out", "a~2")) == 1


def test_a_role_is_no_id_of_a_quarantined_row(tmp_path):
    build(tmp_path, [story(1), '{"id": "bad", "messages": [{"role": "assistant", "content": "user"}]}'])
    assert inspect_dialog(tmp_path / "out", "bad")[0]["went"] == "quarantined"
    for word in ("user", "assistant", "role"):
        with pytest.raises(InputError, match="no dialog has the id"):
            inspect_dialog(tmp_path / "out", word)


# ---- copies, templates, sessions


def test_sessions_that_are_alike_never_lie_on_both_sides(tmp_path):
    shared = ["I lost my umbrella on the way", "where did you see it last time", "it is great that I found it"]
    lines = []
    for k in range(30):
        own = json.loads(story(k))["messages"]
        texts = [m["content"] for m in own[:1]] + [f"answer {own[1]['content']}"] + shared
        lines.append(row(*texts, id=f"d{k}"))
    report = build(tmp_path, lines, window=3, validation_share=0.5, max_response_count=1000)
    sides = {s: {tuple(d.texts) for d in read_rows(tmp_path / "out" / s, Dialog)} for s in ("train", "validation")
             if report[s]}  # fmt: skip
    everything = [texts for side in sides.values() for texts in side]
    assert len(everything) == len(set(everything)) == report["kept"]
    assert report["dropped"]["near-duplicate"] == 29


def test_of_many_copies_one_stays_and_their_response_is_no_template(tmp_path):
    said = "it may help to talk about it with someone"
    report = build(tmp_path, [row("I lost my job", said, "great idea")] * 30, max_response_count=20)
    assert report["dropped"] == {"near-duplicate": 29}
    assert report["kept"] == 1


def test_the_copy_that_stays_is_one_that_the_filters_keep(tmp_path):
    texts = json.loads(story(5))["messages"]
    lines = [row(*(m["content"] for m in texts[:2]), end) for end in ("it is bad", "it is great")]
    report = build(tmp_path, lines)
    assert report["dropped"] == {"not-positive-end": 1}
    assert report["kept"] == 1


def test_a_template_costs_the_session_it_lies_in(tmp_path):
    said = "please rate our service with five stars today"
    lines = []
    for k in range(6):
        first, second = (json.loads(story(10 * k + j))["messages"] for j in (1, 2))
        texts = [m["content"] for m in (*first, *second)]
        texts.insert(3, f"I see number {WORDS[k]} indeed")
        texts[5] = said
        lines.append(row(*texts))
    report = build(tmp_path, lines, window=3, max_response_count=3)
    assert report["dropped"].get("frequent-response") == 6
    assert report["kept"] == 6
