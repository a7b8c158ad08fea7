"""The page: whole in itself, hostile text escaped, the same bytes for the same files."""

from __future__ import annotations

import re

import pytest

from pege.cli import main
from pege.cli.report import report
from pege.dialog import make_dialog
from pege.errors import InputError
from pege.io import write_json, write_rows
from pege.report import dialogs_of, verdict

HOSTILE = "<script>alert('x')</script> I love you & <img src=x onerror=1> $x$"


@pytest.fixture
def files(tmp_path):
    names = []
    for name, word in (("nll", "sad"), ("pege", "happy")):
        rows = [
            make_dialog([f"I lost my dog {k}", HOSTILE, f"I am {word}", "ok"], id=str(k), lang="en") for k in range(6)
        ]
        write_rows(tmp_path / f"{name}.jsonl", rows)
        names.append(f"{name.upper()}<b>={tmp_path / f'{name}.jsonl'}")
    return names


def make_page(tmp_path, files, name="page.html", **options):
    report(*files, output=tmp_path / name, n_samples=2, n_resamples=99, **options)
    return (tmp_path / name).read_text()


def test_hostile_text_is_escaped_and_nothing_is_fetched(tmp_path, files):
    page = make_page(tmp_path, files)
    assert "<script" not in page
    assert "<img" not in page
    assert "NLL<b>" not in page
    assert "&lt;script&gt;" in page
    assert not re.findall(r'(?:src|href)="(?!#)', page)
    assert "url(http" not in page


def test_words_are_tinted_by_valence(tmp_path, files):
    page = make_page(tmp_path, files)
    assert '<mark class="high">happy</mark>' in page
    assert '<mark class="low">sad</mark>' in page


def test_the_same_files_give_the_same_bytes(tmp_path, files):
    assert make_page(tmp_path, files, "a.html") == make_page(tmp_path, files, "b.html")


def test_a_run_without_a_self_chat_is_told_what_to_do(tmp_path):
    with pytest.raises(InputError, match="pege selfchat --agent"):
        report(str(tmp_path), output=tmp_path / "x.html")
    with pytest.raises(InputError, match="no systems"):
        report(output=tmp_path / "x.html")


@pytest.mark.parametrize(
    ("difference", "p", "words"),
    [(0.1, 0.01, "scores higher than"), (-0.1, 0.01, "scores lower than"), (0.1, 0.2, "is not told apart from")],
)
def test_the_verdict_says_what_was_measured(difference, p, words):
    class Named:
        def __init__(self, name):
            self.name = name

    row = {"scores": {"pege": {"difference": difference, "ci": [0, 0.2], "p": p}}, "n_pairs": 9}
    (line,) = verdict([Named("NLL"), Named("PEGE")], [None, row])
    assert line.startswith(f"PEGE {words} NLL")


def test_terms_of_training_are_drawn_for_runs(tmp_path):
    run = tmp_path / "run"
    write_rows(run / "selfchat.jsonl", [make_dialog(["sad", "happy"], id=str(k), lang="en") for k in range(3)])
    write_rows(run / "log.jsonl", [{"step": k, "loss": 1.0, "nll": 1.0, "peg": 0.1, "ner": 0.2} for k in range(3)])
    write_json(run / "config.yaml", {"model": "base"})
    page = make_page(tmp_path, [str(run)])
    assert "Terms of the loss" in page
    assert page.count("<svg ") == 1 + 3  # valence of one system, three terms
    assert "model: base" in page


HEAD = "id,rater,scale,rating\n"


def test_ratings_of_a_run_or_by_name_stand_beside_the_scores(tmp_path, files):
    assert "No human ratings" in make_page(tmp_path, files)
    (tmp_path / "nll.ratings.csv").write_text(HEAD + "".join(f"{k},x,warm<i>th,{k % 2}\n" for k in range(6)))
    (tmp_path / "other.csv").write_text(HEAD + "".join(f"{k},x,warm<i>th,1\n" for k in range(6)))
    page = make_page(tmp_path, files, ratings=(f"PEGE<b>={tmp_path / 'other.csv'}",))
    assert "No human ratings" not in page
    assert "warm&lt;i&gt;th" in page
    assert re.search(r"<td data-title=\"warm[^>]*\"><span>0\.500<", page)
    assert re.search(r"<td data-title=\"warm[^>]*\"><span>1\.000 <span class=\"soft\">p = ", page)
    assert page.count("<code>ratings|data:") == 2


def test_ratings_of_no_system_of_the_page_are_refused(tmp_path, files):
    with pytest.raises(InputError, match="'PEG' is no system"):
        make_page(tmp_path, files, ratings=("PEG=x.csv",))


def test_distinct_has_its_interval_and_signature(tmp_path, files):
    page = make_page(tmp_path, files)
    assert re.search(r'data-title="Distinct-1"><span>0\.\d{3}<span class="ci">\[', page)
    assert "distinct|seg:words-en" in page


def test_a_path_that_exists_wins_over_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "lr=0.1"
    write_rows(run / "selfchat.jsonl", [make_dialog(["sad", "happy"], id="1", lang="en")])
    assert dialogs_of("runs/lr=0.1")[0] == "lr=0.1"
    assert dialogs_of("fast=runs/lr=0.1")[0] == "fast"
    assert dialogs_of("runs/lr=0.1/selfchat.jsonl")[0] == "lr=0.1"
    assert dialogs_of("runs/lr=0.1/selfchat.jsonl")[1].resolve() == run / "selfchat.jsonl"


def test_files_whose_names_share_a_beginning_keep_their_own_scores(tmp_path):
    for seed, word in enumerate(("sad", "happy")):
        rows = [make_dialog(["hm", "ok", f"I am {word}"], id=str(k), lang="en") for k in range(3)]
        write_rows(tmp_path / f"nll.{seed}.jsonl", rows)
    page = make_page(tmp_path, [str(tmp_path / f"nll.{k}.jsonl") for k in (0, 1)])
    shown = re.findall(r'data-title="PEG-Score"><span>([+-][\d.]+)', page)
    assert float(shown[0]) < 0 < float(shown[1])


def test_two_systems_of_one_name_are_refused(tmp_path, files):
    with pytest.raises(InputError, match="two systems are called"):
        make_page(tmp_path, [files[0], files[0]])


@pytest.mark.parametrize("flag", [("--n-resamples", "0"), ("--seed", "-1"), ("--n-samples", "-1")])
def test_bad_numbers_are_one_line(tmp_path, files, flag, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["report", *files, "--output", str(tmp_path / "x.html"), *flag])
    assert stopped.value.code == 2
    assert flag[0] in capsys.readouterr().err
    assert not (tmp_path / "x.html").exists()
