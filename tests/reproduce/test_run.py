"""A small study from end to end; killed and started again; failures; the page."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pege.cli import main
from pege.dialog import make_dialog
from pege.errors import InputError
from pege.io import read_json, write_rows
from pege.reproduce import load_study, plan_study, run_steps, write_report
from pege.reproduce.plan import Step
from pege.reproduce.report import _SHARES
from pege.reproduce.results import RowResult
from pege.reproduce.run import _record

WORDS = ["sad", "happy", "dog", "sea", "kind", "lost", "lovely", "home", "rain", "sun"]


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_model_dir):
    """A folder with raw dialogs and a study of a tiny model."""
    folder = tmp_path_factory.mktemp("study")
    rng = random.Random(0)
    texts = [[f"I feel {' '.join(rng.sample(WORDS, 4))}." for _ in range(5)] for _ in range(40)]
    write_rows(folder / "raw.jsonl", [make_dialog(t, id=str(k), lang="en") for k, t in enumerate(texts)])
    (folder / "study.yaml").write_text(f"""
name: small
title: A small study
seeds: [0, 1]
n_turns: 2
n_starters: 6
n_static: 3
corpora: {{raw: {{input: [raw.jsonl], filters: [], validation_share: 0.3}}}}
bases:
  tiny:
    model: {tiny_model_dir}
    language: en
    corpora: {{filtered: raw}}
    train: {{max_length: 256, training: {{max_steps: 3, per_device_train_batch_size: 4, save_steps: 1}}}}
    chat: {{dtype: float32, max-new-tokens: 4}}
    judges: [repetition]
rows:
  plain: {{seeds: 1}}
  PEGE: {{train: {{}}}}
  happy words: {{agent: "trivial:happy-words", seeds: 1, is_ours: true}}
claims:
  C1: {{says: PEGE does more, source: here, score: pege, better: PEGE, worse: plain, effect: 0.5}}
  C2: {{says: words do more, source: here, score: peg, better: happy words, worse: plain, effect: 0.5}}
""")
    return folder


def start(place, output):
    """Start the study in a folder of its own: the names of its runs, which rows hold, are then the same in any."""
    output.parent.mkdir(exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "pege",
        "reproduce",
        str(place / "study.yaml"),
        "--data",
        str(place),
        "--jobs",
        "2",
    ]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([*command, "--output", output.name], cwd=output.parent, **quiet)


def numbers(output):
    """All that the study found, without times."""
    return read_json(output / "small.json"), {
        p.name: read_json(p)["sha256"]
        for p in sorted((output / "steps").glob("*.json"))
        if not p.name.startswith("train")
    }


@pytest.fixture(scope="module")
def whole(place):
    """The study, run without a stop."""
    output = place / "whole" / "out"
    assert start(place, output).wait() == 0
    return output


def test_a_study_runs_from_raw_dialogs_to_a_page(whole, place):
    page = (whole / "small.md").read_text()
    for part in ("## Claims", "| C1 |", "happy words *", "### Is the score gameable?", "perplexity", "BLEU-1", "rep-4"):
        assert part in page
    found = read_json(whole / "small.json")
    assert found["rows"]["tiny"]["PEGE"]["seeds"] == [0, 1]
    assert {c["verdict"] for c in found["claims"]} <= {"holds", "does not", "undecided"}
    assert all((whole / "pictures" / f"small.tiny.{x}.svg").is_file() for x in ("user", "agent", "front"))
    scored = [json.loads(r) for r in (whole / "runs/tiny/PEGE/0/scores.jsonl").read_text().splitlines()]
    mean = sum(r["pege"] for r in scored) / len(scored)
    assert read_json(whole / "runs/tiny/PEGE/0/score.json")["pege"] == pytest.approx(mean)


def test_a_second_start_runs_nothing(whole, place, monkeypatch):
    before = {p: p.stat().st_mtime_ns for p in (whole / "runs").rglob("*") if p.is_file()}
    study = load_study(str(place / "study.yaml"))
    monkeypatch.chdir(whole.parent)
    run_steps(plan_study(study, Path("out"), place), Path("out"))
    assert {p: p.stat().st_mtime_ns for p in (whole / "runs").rglob("*") if p.is_file()} == before


def forget(steps, output, some):
    """Undo some steps, and all that need them; give their names."""
    gone = {s.name for s in some}
    for s in steps:  # each stands behind those it needs
        if s.name in gone or gone.intersection(s.needs):
            gone.add(s.name)
            _record(s.name, output).unlink()
            made = output.parent / s.output
            shutil.rmtree(made) if made.is_dir() else made.unlink()
    return gone


@pytest.mark.slow
def test_killed_twice_at_random_it_ends_with_the_same_table(whole, place, monkeypatch):
    output = place / "killed" / "out"
    shutil.copytree(whole, output)
    shutil.rmtree(output / "logs")
    monkeypatch.chdir(output.parent)
    rng = random.Random(1)
    steps = plan_study(load_study(str(place / "study.yaml")), Path("out"), place)
    training = rng.choice([s for s in steps if s.kind == "train"])
    assert len(forget(steps, output, [training, *rng.sample(steps, 3)])) >= 6
    for begun in (training.name, training.name.replace("train", "chat")):
        planner = start(place, output)
        while not (output / "logs" / f"{begun.replace('/', '.')}.log").exists():
            assert planner.poll() is None
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 1.5))
        assert planner.poll() is None
        planner.send_signal(signal.SIGKILL)
        planner.wait()
    assert start(place, output).wait() == 0
    assert numbers(output) == numbers(whole)


def step(name, *arguments, output, needs=(), **more):
    return Step(name, arguments, output, tuple(needs), **more)


def test_what_does_not_need_a_failed_step_is_run_all_the_same(tmp_path):
    steps = [
        step("score/bad/x/0", "score", str(tmp_path / "nothing.jsonl"), output=tmp_path / "a", takes_stdout=True),
        step("score/bad/y/0", "--version", output=tmp_path / "b", needs=["score/bad/x/0"], takes_stdout=True),
        step("score/good/z/0", "--version", output=tmp_path / "c", takes_stdout=True),
    ]
    with pytest.raises(InputError, match=r"step score/bad/x/0 failed \(and 1 more\): pege: .*nothing.jsonl"):
        run_steps(steps, tmp_path / "out")
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "b").exists()
    assert (tmp_path / "c").read_text().strip()


def test_a_step_whose_command_changed_is_run_again(tmp_path):
    out = tmp_path / "printed"
    run_steps([step("score/a/b/0", "--version", output=out, takes_stdout=True)], tmp_path / "out")
    first = out.read_text()
    run_steps([step("score/a/b/0", "--help", output=out, takes_stdout=True)], tmp_path / "out")
    assert out.read_text() != first


def test_steps_run_side_by_side_where_there_is_room(tmp_path):
    steps = [step(f"score/a/{k}/0", "--version", output=tmp_path / str(k), takes_stdout=True) for k in range(4)]
    run_steps(steps, tmp_path / "out", n_jobs=4)
    assert {read_json(p)["name"] for p in (tmp_path / "out" / "steps").glob("*.json")} == {s.name for s in steps}


def test_a_second_planner_waits_for_the_first(tmp_path):
    import fcntl

    (tmp_path / "out").mkdir()
    with Path(tmp_path / "out" / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        code = f"from pathlib import Path; from pege.reproduce import run_steps; run_steps([], Path({str(tmp_path / 'out')!r}))"
        second = subprocess.Popen([sys.executable, "-c", code], env=dict(os.environ))
        with pytest.raises(subprocess.TimeoutExpired):
            second.wait(timeout=4)
    assert second.wait(timeout=60) == 0


def test_a_page_of_a_study_that_has_just_begun_says_so(tmp_path, place):
    study = load_study(str(place / "study.yaml"))
    steps = plan_study(study, tmp_path, place)
    page = write_report(study, steps, output=tmp_path, command="pege reproduce small").read_text()
    assert "0 of 4 runs are scored" in page


def test_what_was_made_by_another_config_is_not_on_the_page(whole, place, tmp_path, monkeypatch):
    shutil.copytree(whole, tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    study, command = load_study(str(place / "study.yaml")), "pege reproduce small"
    page = write_report(study, plan_study(study, Path("out"), place), output=Path("out"), command=command).read_text()
    assert "4 of 4 runs are scored" in page
    assert len(re.findall(r"^\| (?:corpus/raw|score/tiny/PEGE/0) \|", page, re.MULTILINE)) >= 4  # two files each
    rows = study.rows | {"PEGE": study.rows["PEGE"].model_copy(update={"train": {"max_length": 64}})}
    changed = study.model_copy(update={"rows": rows})
    page = write_report(
        changed, plan_study(changed, Path("out"), place), output=Path("out"), command=command
    ).read_text()
    assert "2 of 4 runs are scored" in page
    assert "train/tiny/PEGE" not in page


def test_shares_of_a_row_are_over_all_its_seeds_and_dialogs():
    def row(values, shares):
        tables = tuple({"companions": {"classifier": {"share": s}}} for s in shares)
        return RowResult("x", (0, 1), {n: np.array(v, float) for n, v in values.items()}, tables, {}, None, ())

    success = {"empathy.success": [[1, 1, 0], [1, 0, 1]], "empathy.empathy_first": [[1, 0, 0], [1, 0, 1]]}
    assert _SHARES["empathy first, of successes"](row(success, ())) == 0.75
    assert _SHARES["ends with unseen P(positive) > 0.9"](row({}, (0.1, 0.3))) == pytest.approx(0.2)
    assert (
        _SHARES["empathy first, of successes"](row({"empathy.success": [[0]], "empathy.empathy_first": [[0]]}, ()))
        is None
    )
    assert all(of(row({}, ())) is None for of in _SHARES.values())


def test_a_page_of_some_bases_counts_and_names_them_alone(whole, place, tmp_path, monkeypatch):
    shutil.copytree(whole, tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    text = (place / "study.yaml").read_text()
    Path("two.yaml").write_text(text.replace("  tiny:", "  twin: &twin").replace("rows:", "  tiny: *twin\nrows:"))
    main(["reproduce", "two.yaml", "--data", str(place), "--output", "out", "--base", "tiny"])
    page = Path("out/small.md").read_text()
    assert "`pege reproduce two.yaml --base tiny`" in page
    assert "4 of 4 runs are scored" in page
    assert "twin" not in page


def test_steps_on_ray_are_those_of_this_machine_and_failures_too(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.chdir(tmp_path)
    first = step("score/a/x/0", "--version", output=Path("a"), takes_stdout=True)
    steps = [
        first,
        step("chat/a/x/0", "--version", output=Path("b"), needs=[first.name], takes_stdout=True),
        step("score/bad/x/0", "score", "nothing.jsonl", output=Path("c"), takes_stdout=True),
        step("score/bad/y/0", "--version", output=Path("d"), needs=["score/bad/x/0"], takes_stdout=True),
    ]
    messages = {}
    for runner in ("local", "ray"):
        for file in ("a", "b"):
            Path(file).unlink(missing_ok=True)
        with pytest.raises(InputError) as found:
            run_steps(steps, Path(runner), runner=runner)
        messages[runner] = str(found.value).replace(runner, "")
        assert Path("a").read_text() == Path("b").read_text() != ""
        assert not Path("c").exists()
        assert not Path("d").exists()
    assert messages["local"] == messages["ray"]
    records = {r: {p.name: read_json(p)["sha256"] for p in Path(r, "steps").iterdir()} for r in messages}
    assert records["local"] == records["ray"]
    assert len(records["ray"]) == 2


def test_where_no_cluster_answers_one_line_says_so(tmp_path):
    pytest.importorskip("ray")
    one = step("score/a/x/0", "--version", output=tmp_path / "a", takes_stdout=True)
    with pytest.raises(InputError, match=r"127\.0\.0\.1:1: no Ray cluster answers"):
        run_steps([one], tmp_path / "out", runner="ray", address="127.0.0.1:1")
