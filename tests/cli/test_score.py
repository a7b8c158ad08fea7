"""`pege score` and `pege compare`: what they print and write, and one line for what is bad."""

from __future__ import annotations

import json

import pytest

from pege.cli import main
from pege.dialog import make_dialog
from pege.io import write_rows

QUICK = ("--n-resamples", "99")


def run(arguments, capsys):
    """Exit code, standard output, standard error."""
    code = 0
    try:
        main([str(a) for a in arguments])
    except SystemExit as e:
        code = int(e.code or 0)
    return code, *capsys.readouterr()


@pytest.fixture
def chats(tmp_path, dialogs):
    write_rows(tmp_path / "chats.jsonl", dialogs)
    return tmp_path / "chats.jsonl"


@pytest.fixture
def ratings(tmp_path):
    (tmp_path / "r.csv").write_text("id,rater,scale,rating\n" + "".join(f"{i},x,empathy,1\n" for i in "abcd"))
    return tmp_path / "r.csv"


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_scores_of_words_go_beside_those_of_each_dialog(tmp_path, dialogs, capsys):
    write_rows(tmp_path / "chats.jsonl", [*dialogs, make_dialog(["sad"], id="z", lang="en")])
    chats, out = tmp_path / "chats.jsonl", tmp_path / "out.v1.jsonl"
    code, printed, _ = run(["score", chats, "--references", chats, "--per-dialog", out, *QUICK, "--json"], capsys)
    assert code == 0
    table = json.loads(printed)
    assert set(table["distinct"]["ci"]) == {"distinct_1", "distinct_2"}
    assert table["bleu"]["ci"]["bleu_1"] == pytest.approx([100, 100])
    assert table["bleu"]["ci"]["bleu_2"] == pytest.approx([100, 100])
    assert [set(r) for r in rows_of(out)] == [{"id", "peg", "e", "pege"}] * 4
    keys = ["id", "distinct_1", "distinct_2", "bleu_1", "bleu_2"]
    assert [list(r) for r in rows_of(tmp_path / "out.v1.text.jsonl")] == [keys] * 4
    assert rows_of(tmp_path / "out.v1.quarantine.jsonl") == [{"id": "z", "reason": "no-response"}]


def test_every_score_is_printed_with_interval_and_signature(chats, ratings, capsys):
    code, out, _ = run(["score", chats, "--references", chats, "--ratings", ratings, *QUICK], capsys)
    assert code == 0
    lines = out.splitlines()
    for name in ("PEG-Score", "E-Score", "PEGE-Score", "Distinct-1", "Distinct-2", "BLEU-1", "BLEU-2"):
        assert any(line.startswith(name) and "[" in line for line in lines), name
    assert "empathy 1.000 [1.000, 1.000]" in out
    for kind in ("  pege|", "  distinct|", "  nrefs:1|", "  ratings|"):
        assert any(line.startswith(kind) for line in lines), kind


def test_compare_names_the_companions_it_has_and_those_it_lacks(chats, lexicon_file, ratings, capsys):
    code, out, _ = run(["compare", chats, chats, *QUICK], capsys)
    assert code == 0
    assert "--unseen-lexicon FILE" in out
    assert "--classifier FOLDER" in out
    assert "human ratings: none (--ratings A.csv B.csv)" in out
    code, out, _ = run(
        ["compare", chats, chats, "--unseen-lexicon", lexicon_file, "--ratings", ratings, ratings, *QUICK], capsys
    )
    assert code == 0
    assert "ratings.empathy" in out
    assert "  ratings|" in out
    assert "  pege|lex:small-" in out
    assert "human ratings: none" not in out


def test_chinese_dialogs_are_scored(tmp_path, capsys):
    write_rows(tmp_path / "zh.jsonl", [make_dialog(["我很难过", "别难过，我们去海边", "谢谢，我很高兴"], id="1")])
    code, out, _ = run(["score", tmp_path / "zh.jsonl", "--language", "zh", *QUICK, "--json"], capsys)
    assert code == 0
    table = json.loads(out)
    assert "lex:pege-zh-" in table["signature"]
    assert table["peg"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score", "CHATS", "--n-resamples", "0"], "--n-resamples"),
        (["score", "CHATS", "--n-resamples", "-3"], "--n-resamples"),
        (["score", "CHATS", "--seed", "-1"], "--seed"),
        (["compare", "CHATS", "CHATS", "--n-resamples", "0"], "--n-resamples"),
        (["compare", "CHATS", "CHATS", "--seed", "-1"], "--seed"),
        (["compare", "CHATS", "CHATS", "--ratings", "one.csv"], "--ratings"),
        (["compare", "CHATS", "CHATS", "--ratings", "FOREIGN", "FOREIGN"], "'zz'"),
        (["score", "CHATS", "--classifier", "nowhere"], "nowhere: no config.json"),
        (["score", "CHATS", "--unseen-lexicon", "no.tsv"], "no.tsv: no such lexicon"),
        (["score", "CHATS", "--unseen-lexicon", "CUT"], "cut.tsv.gz: the archive is cut or broken"),
        (["score", "CHATS", "--lexicon-range", "1", "9"], "name it with --lexicon"),
        (["score", "CHATS", "--lexicon", "pege-en", "--lexicon-range", "1", "9"], "pege-en: its scale is known"),
        (["score", "CHATS", "--lexicon", "LEXICON", "--lexicon-range", "1", "nan"], "1 nan is no scale"),
        (["score", "CHATS", "--ratings", "no.csv"], "no.csv: cannot be read (No such file or directory)"),
        (["score", "CHATS", "--ratings", "EMPTY"], "empty.csv: holds no ratings"),
        (["score", "CHATS", "--ratings", "FOREIGN"], "'zz'"),
        (["score", "CHATS", "--references", "OTHERS"], "a: has no reference"),
    ],
)
def test_bad_input_is_one_line(arguments, message, chats, lexicon_file, tmp_path, dialogs, capsys):
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "foreign.csv").write_text("id,rater,scale,rating\nzz,x,empathy,1\n")
    (tmp_path / "cut.tsv.gz").write_bytes(b"\x1f\x8b\x08\x00cut")
    write_rows(tmp_path / "others.jsonl", [d.model_copy(update={"id": f"other-{d.id}"}) for d in dialogs])
    places = {
        "CHATS": chats, "LEXICON": lexicon_file, "EMPTY": tmp_path / "empty.csv", "CUT": tmp_path / "cut.tsv.gz",
        "FOREIGN": tmp_path / "foreign.csv", "OTHERS": tmp_path / "others.jsonl",
    }  # fmt: skip
    code, out, err = run([places.get(a, a) for a in arguments], capsys)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.strip().splitlines()) == 1
