"""Rows on disk, atomic writes, quarantine."""

from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pege.dialog import Dialog, make_dialog
from pege.errors import InputError
from pege.io import Quarantine, read_rows, write_atomic, write_rows

GOOD = json.dumps({"id": "x", "messages": [{"role": "user", "content": "hi"}]})


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet"])
@given(texts=st.lists(st.text(min_size=1, max_size=20).filter(str.strip), min_size=1, max_size=5))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_rows_come_back_as_they_were_written(tmp_path, suffix, texts):
    rows = [make_dialog([t.encode("utf-8", "replace").decode()] * 2, id=f"d{k}") for k, t in enumerate(texts)]
    path = tmp_path / f"rows{suffix}"
    assert write_rows(path, rows) == len(rows)
    assert list(read_rows(path, Dialog)) == rows


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".parquet"])
def test_the_same_rows_give_the_same_bytes(tmp_path, suffix):
    rows = [make_dialog(["a", "b"], id="1")]
    for name in ("one", "two"):
        write_rows(tmp_path / f"{name}{suffix}", rows)
    assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"two{suffix}").read_bytes()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (GOOD[:-9], "not JSON"),
        ("[1]", "holds a list"),
        ('{"messages": []}', "messages: "),
        (GOOD.replace('"user"', '"assistant"'), "starts with"),
        (GOOD.replace("hi", " "), "without text"),
        (GOOD.replace("hi", "x" * 1_000_000), "at most"),
    ],
)
def test_a_bad_line_is_named_with_file_line_and_reason_or_quarantined(tmp_path, line, reason):
    path = tmp_path / "chats.jsonl"
    path.write_text(f"{GOOD}\n{line}\n{GOOD}\n")
    with pytest.raises(InputError) as e:
        list(read_rows(path, Dialog))
    assert str(e.value).startswith(f"{path}:2: ")
    assert reason in str(e.value)
    assert len(str(e.value)) < 600
    with Quarantine(tmp_path / "quarantine.jsonl") as quarantine:
        assert len(list(read_rows(path, Dialog, quarantine=quarantine))) == 2
    (row,) = (json.loads(r) for r in (tmp_path / "quarantine.jsonl").read_text().splitlines())
    assert (row["line"], row["file"]) == (2, "chats.jsonl")
    assert reason in row["reason"]


@pytest.mark.parametrize("name", ["cut.jsonl.gz", "cut.jsonl.zst", "cut.parquet"])
def test_a_cut_archive_is_named(tmp_path, name):
    whole = tmp_path / f"whole{name[3:]}"
    write_rows(whole, [make_dialog([str(k), "b"], id=str(k)) for k in range(500)])
    path = tmp_path / name
    path.write_bytes(whole.read_bytes()[:-40])
    with pytest.raises(InputError, match=name):
        list(read_rows(path, Dialog))


def test_a_mark_at_the_beginning_of_a_file_is_no_text(tmp_path):
    (tmp_path / "a.jsonl").write_text(GOOD, encoding="utf-8-sig")
    assert [r.id for r in read_rows(tmp_path / "a.jsonl", Dialog)] == ["x"]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"below/x.jsonl: .*nothing was written"):
        write_rows(tmp_path / "file" / "below" / "x.jsonl", [])


def test_bytes_that_are_no_utf8_are_named(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"id": "\xff"}\n'))
    with pytest.raises(InputError, match="not UTF-8"):
        list(read_rows(path, Dialog))


def test_a_write_that_fails_leaves_nothing_and_keeps_what_was_there(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text("old")
    with pytest.raises(RuntimeError), write_atomic(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.jsonl"]


def test_a_full_disk_is_one_line():
    with pytest.raises(InputError, match="nothing was written"):
        write_rows("/dev/full/rows.jsonl", [])


def test_a_disk_that_fills_up_while_writing_is_one_line(tmp_path):
    with pytest.raises(InputError, match="No space left"), write_atomic(tmp_path / "x") as temporary:
        temporary.unlink()
        temporary.symlink_to("/dev/full")
        temporary.write_text("x" * 100_000)
    assert not (tmp_path / "x").exists()


def test_an_unknown_suffix_is_named(tmp_path):
    (tmp_path / "x.doc").touch()
    with pytest.raises(InputError, match="unknown kind of file"):
        list(read_rows(tmp_path / "x.doc", Dialog))


def test_a_replacement_character_in_good_text_is_read(tmp_path):
    write_rows(tmp_path / "a.jsonl", [make_dialog(["what is \ufffd?"], id="1")])
    (row,) = read_rows(tmp_path / "a.jsonl", Dialog)
    assert row.texts == ["what is \ufffd?"]
