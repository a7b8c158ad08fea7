"""`pege lexicon`: bad input is one line, JSON is JSON."""

from __future__ import annotations

import json

import pytest

from pege.cli import main
from pege.dialog import Dialog


def run(arguments, capsys):
    """Run `pege lexicon`: exit code, standard output, standard error."""
    code = 0
    try:
        main(["lexicon", *arguments])
    except SystemExit as e:
        code = int(e.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def test_too_few_shared_words_are_null_in_json_and_a_dash_in_text(lexicon_file, tmp_path, capsys):
    other = tmp_path / "other.tsv"
    other.write_text("dog\t0.8\t0.5\t0.5\nzzz\t0.1\t0.2\t0.3\n")
    code, out, _ = run(["compare", str(lexicon_file), str(other), "--json"], capsys)
    assert code == 0
    assert "NaN" not in out
    assert json.loads(out)["all"] == {"n_words": 1, "valence": None, "arousal": None, "dominance": None}
    code, out, _ = run(["compare", str(lexicon_file), str(other)], capsys)
    assert "1 words  r: valence -  arousal -" in out


@pytest.mark.parametrize(
    ("tokenizer", "message"),
    [
        ("nomodel/xx", "nomodel/xx: "),
        ("./nomodel", "no such model"),
        ("BROKEN", "has no tokenizer"),
        ("BARE", "has no"),
    ],
)
def test_a_tokenizer_that_is_not_there_is_one_line(tokenizer, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for folder in ("BROKEN", "BARE"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "BROKEN" / "tokenizer.json").write_text('{"version": "1.0", "mod')
    code, out, err = run(["coverage", "--tokenizer", tokenizer], capsys)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize("content", [None, b"\xff\xfe\xff"])
def test_words_to_leave_out_that_cannot_be_read_are_one_line(content, lexicon_file, tmp_path, capsys):
    words = tmp_path / "nope.txt"
    if content:
        words.write_bytes(content)
    arguments = ["--ratings", str(lexicon_file), "--vectors", "v.npz", "--output", str(tmp_path / "o.tsv.gz")]
    code, out, err = run(["build", *arguments, "--leave-out", str(words)], capsys)
    assert (code, out) == (2, "")
    assert f"{words}: cannot be read" in err
    assert "Traceback" not in err


def test_a_corrupt_archive_is_one_line(tmp_path, capsys):
    path = tmp_path / "l.tsv.gz"
    path.write_bytes(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff" + b"\xff" * 20)  # a header, then no deflate stream
    code, out, err = run(["show", "dog", "--lexicon", str(path)], capsys)
    assert (code, out) == (2, "")
    assert f"{path}: the archive is cut or broken" in err


@pytest.mark.parametrize("bounds", [("nan", "1"), ("0", "inf"), ("1", "1"), ("9", "1")])
def test_a_range_that_is_no_scale_is_one_line(bounds, lexicon_file, tmp_path, dialogs, capsys):
    path = tmp_path / "chats.jsonl"
    path.write_text("".join(Dialog.model_dump_json(d, exclude_none=True) + "\n" for d in dialogs))
    with pytest.raises(SystemExit) as e:
        main(["score", str(path), "--lexicon", str(lexicon_file), "--lexicon-range", *bounds])
    assert e.value.code == 2
    assert "is no scale" in capsys.readouterr().err
