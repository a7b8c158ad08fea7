"""From a YAML to steps."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pege.cli import main
from pege.errors import InputError
from pege.reproduce import check_inputs, load_study, plan_study
from pege.reproduce.config import shipped_studies
from pege.reproduce.run import step_keys

SMALL = """
name: small
title: A small study
seeds: [3, 4]
n_turns: 2
n_static: 5
corpora: {kept: {input: [a.jsonl], window: 6}, any: {input: [a.jsonl], filters: []}}
bases:
  tiny:
    model: tiny-model
    language: en
    corpora: {filtered: kept, random: any}
    train: {max_length: 64, training: {max_steps: 2, learning_rate: 0.1}}
rows:
  plain: {}
  FT guided: {like: FT, chat: {guide: 1.0}, seeds: 1}
  FT: {train: {loss: {alpha: 0, beta: 0}, training: {learning_rate: 0.2}}}
  any: {data: random, train: {}}
  luck: {agent: "trivial:random"}
claims:
  C1: {says: FT does more, source: here, score: pege, better: FT, worse: plain, effect: 0.1}
"""


def study_of(tmp_path, text=SMALL):
    (tmp_path / "small.yaml").write_text(text)
    return load_study(str(tmp_path / "small.yaml"))


def plan(tmp_path, text=SMALL):
    return {s.name: s for s in plan_study(study_of(tmp_path, text), Path("out"), Path("data"))}


def flag(step, name):
    return step.arguments[step.arguments.index(name) + 1]


def test_each_step_comes_after_what_it_needs(tmp_path):
    seen = set()
    for step in plan(tmp_path).values():
        assert set(step.needs) <= seen
        seen.add(step.name)


def test_a_row_is_trained_chats_and_is_scored_with_each_seed(tmp_path):
    steps = plan(tmp_path)
    assert {n for n in steps if n.endswith("FT/3")} == {
        f"{kind}/tiny/FT/3" for kind in ("train", "chat", "score", "respond", "static", "perplexity")
    }
    assert {n for n in steps if n.endswith("FT/4")} == {f"{kind}/tiny/FT/4" for kind in ("train", "chat", "score")}
    train = steps["train/tiny/FT/4"]
    assert train.config[1]["seed"] == 4
    assert train.config[1]["training"] == {"max_steps": 2, "learning_rate": 0.2}
    assert train.config[1]["data"] == ["out/corpora/kept/train"]
    assert flag(steps["chat/tiny/FT/4"], "--agent") == "out/runs/tiny/FT/4"
    assert flag(steps["chat/tiny/FT/4"], "--user") == "tiny-model"


def test_other_data_is_trained_on_and_the_same_is_held_out(tmp_path):
    config = plan(tmp_path)["train/tiny/any/3"].config[1]
    assert config["data"] == ["out/corpora/any/train"]
    assert config["validation"] == ["out/corpora/kept/validation"]


def test_a_guided_row_decodes_the_other_rows_run_and_has_no_perplexity_of_its_own(tmp_path):
    steps = plan(tmp_path)
    chat = steps["chat/tiny/FT guided/3"]
    assert flag(chat, "--agent") == "out/runs/tiny/FT/3"
    assert flag(chat, "--guide") == "1.0"
    assert chat.needs == ("train/tiny/FT/3",)
    assert "chat/tiny/FT guided/4" not in steps
    assert "perplexity/tiny/FT guided/3" not in steps


def test_a_preferred_row_trains_the_other_rows_run_further_on_the_corpus(tmp_path):
    steps = plan(tmp_path, SMALL.replace("like: FT, chat: {guide: 1.0}", "like: FT, prefer: {steps: 3}"))
    prefer = steps["prefer/tiny/FT guided/3"]
    assert flag(prefer, "--agent") == "out/runs/tiny/FT/3"
    assert flag(prefer, "--starters") == "out/corpora/kept/train"
    assert prefer.needs == ("train/tiny/FT/3", "corpus/kept")
    assert flag(steps["chat/tiny/FT guided/3"], "--agent") == "out/runs/tiny/FT-guided/3"
    assert "perplexity/tiny/FT guided/3" in steps


def test_an_untrained_row_is_the_base_and_a_random_response_comes_from_its_corpus(tmp_path):
    steps = plan(tmp_path)
    assert flag(steps["chat/tiny/plain/3"], "--agent") == "tiny-model"
    assert flag(steps["chat/tiny/luck/3"], "--agent") == "trivial:random#out/corpora/kept/train"
    assert steps["chat/tiny/luck/3"].needs == ("corpus/kept",)


def test_some_bases_may_be_run_alone(tmp_path):
    text = SMALL.replace("rows:", "  other: {model: m, language: en, corpora: {filtered: any}}\nrows:", 1)
    text = text.replace("any: {data: random,", "any: {data: random, bases: [tiny],")
    study = study_of(tmp_path, text)
    steps = plan_study(study, Path("out"), Path("data"), bases=["other"])
    assert {s.name.split("/")[1] for s in steps} == {"other", "any"}  # its rows, its corpus
    with pytest.raises(InputError, match=r"no base 'othre'.*did you mean 'other'"):
        plan_study(study, Path("out"), Path("data"), bases=["othre"])


def test_a_changed_field_gives_new_keys_from_there_on_and_nowhere_else(tmp_path):
    before, after = (step_keys(list(plan(tmp_path, t).values())) for t in (SMALL, SMALL.replace("0.2}", "0.3}")))
    changed = {n for n in before if before[n] != after[n]}
    assert changed == {n for n in before if "/FT" in n}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("better: FT,", "better: FFT,", "did you mean"),
        ("like: FT,", "like: FTT,", "did you mean"),
        ("{filtered: kept,", "{filtered: keep,", "unknown 'keep'"),
        ("seeds: [3, 4]", "seeds: []", "seeds"),
        ("n_turns: 2", "n_turn: 2", "n_turn"),
        ("luck: {agent: ", "luck: {like: FT, agent: ", "name one of"),
        ("like: FT, chat", "like: plain, prefer: {}, chat", "needs like"),
    ],
)
def test_a_study_that_does_not_fit_is_one_line(tmp_path, old, new, message):
    with pytest.raises(InputError, match=message):
        study_of(tmp_path, SMALL.replace(old, new))


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ({"model": "runs/none/here"}, r"small: bases.tiny.model: runs/none/here: no such model"),
        ({"model": "./none"}, r"bases.tiny.model: ./none: no such model"),
        ({"user": "runs/none/here"}, r"bases.tiny.user: runs/none/here: no such model"),
        ({"judges": ["relevance:runs/none/here#bfloat16"]}, r"bases.tiny.judges: runs/none/here: no such model"),
        ({"judges": ["repetition", "empathy:runs/none"]}, r"bases.tiny.judges: no such file or folder: runs/none"),
        ({"classifier": "runs/none"}, r"bases.tiny.classifier: no such file or folder: runs/none"),
        ({"unseen_lexicon": "none.tsv"}, r"bases.tiny.unseen_lexicon: no such file or folder: .*none.tsv"),
        ({}, r"a.jsonl: no such file"),
    ],
)
def test_what_no_step_makes_is_missed_before_any_runs(tmp_path, monkeypatch, base, message):
    monkeypatch.chdir(tmp_path)
    study = study_of(tmp_path)
    tiny = study.bases["tiny"].model_copy(update={"model": "owner/name", "judges": ["repetition"], **base})
    with pytest.raises(InputError, match=message):
        check_inputs(study.model_copy(update={"bases": {"tiny": tiny}}), tmp_path)


def test_a_study_that_prefers_wants_its_library(tmp_path, monkeypatch):
    (tmp_path / "a.jsonl").touch()
    study = study_of(tmp_path, SMALL.replace("like: FT, chat: {guide: 1.0}", "like: FT, prefer: {steps: 3}"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"small: FT guided: TRL is not installed; pip install"):
        check_inputs(study, tmp_path)


def test_a_study_whose_inputs_are_there_may_run(tmp_path):
    for name in ("a.jsonl", "lexicon.tsv", "judge"):
        (tmp_path / name).touch()
    study = study_of(tmp_path, SMALL.replace("[a.jsonl]", "['*.jsonl', chitchat]", 1))
    tiny = study.bases["tiny"].model_copy(
        update={"model": "base", "unseen_lexicon": "lexicon.tsv", "classifier": str(tmp_path / "judge")}
    )
    check_inputs(study.model_copy(update={"bases": {"tiny": tiny}}), tmp_path)


def test_the_claims_that_were_written_down_are_those_of_the_studies(capsys):
    page = (Path(__file__).parents[2] / "docs" / "results" / "claims.md").read_text()
    for name in ("table3", "table5"):
        main(["reproduce", name, "--claims"])
        assert capsys.readouterr().out.strip() in page


def test_a_row_without_its_corpus_is_refused(tmp_path):
    with pytest.raises(InputError, match="no random corpus"):
        plan(tmp_path, SMALL.replace(", random: any}", "}"))


def test_the_studies_that_ship_load_and_share_what_they_share(tmp_path):
    studies = {name: load_study(name) for name in shipped_studies()}
    assert {"table3", "table5"} <= set(studies)
    plans = [{s.name: s for s in plan_study(studies[n], tmp_path, tmp_path)} for n in ("table3", "table5")]
    shared = plans[0].keys() & plans[1].keys()
    assert "train/causal/PEGE/2" in shared
    keys = [step_keys(list(p.values())) for p in plans]
    assert {n: keys[0][n] for n in shared} == {n: keys[1][n] for n in shared}
    with pytest.raises(InputError, match="did you mean 'table3'"):
        load_study("tabel3")


@pytest.mark.parametrize("name", ["table3", "table5"])
def test_a_full_study_has_the_rows_and_claims_of_the_small_one_and_shares_no_folder(tmp_path, name):
    small, full = load_study(name), load_study(f"{name}-full")
    assert small.claims == full.claims
    assert [r for r in small.rows if "900 steps" not in r] == list(full.rows)
    for row in ("PEGE", "PLATO-2-FT"):
        assert small.rows[row] == full.rows[row]
    outputs = [{s.output for s in plan_study(x, tmp_path, tmp_path)} for x in (small, full)]
    assert not outputs[0] & outputs[1]


def test_training_configs_of_the_shipped_studies_are_valid(tmp_path):
    from pege.corpus import CorpusConfig
    from pege.training import TrainConfig

    for name in shipped_studies():
        for step in plan_study(load_study(name), tmp_path, tmp_path):
            if step.config:
                model = TrainConfig if step.kind == "train" else CorpusConfig
                model.model_validate(yaml.safe_load(step.config_text()))
