"""The page: whole in itself, hostile text escaped, the same bytes for the same files."""

from __future__ import annotations

import re

import pytest

from pege.cli.report import report
from pege.dialog import make_dialog
from pege.errors import InputError
from pege.io import write_json, write_rows
from pege.report import verdict

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


def make_page(tmp_path, files, name="page.html"):
    report(*files, output=tmp_path / name, n_samples=2, n_resamples=99)
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
    assert "model: base" in page
