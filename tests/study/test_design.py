"""Designs, items, folders."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest
import yaml
from study_cases import SYSTEMS, write_design, write_selfchats

from pege.dialog import make_dialog
from pege.errors import InputError
from pege.io import read_rows, write_rows
from pege.study.design import Design, own_metrics, read_design
from pege.study.folder import create_study, load_study
from pege.study.items import Item, pair_starters
from pege.study.pages import has_practice, practice_feedback, practice_item, view_item, words
from pege.study.rating import Assignment


def test_the_papers_metrics_come_unless_others_are_named(tmp_path):
    design = read_design(write_design(tmp_path))
    assert [(m.name, m.level, m.values) for m in design.metrics] == [
        ("coherence", "utterance", (0, 1)),
        ("informativeness", "utterance", (0, 1)),
        ("guidance", "dialog", (0, 1)),
        ("empathy", "dialog", (0, 1)),
    ]
    assert design.metrics[3].asked_if == {"guidance": 1}
    assert design.raters_per_item == 3


def practice(**changes):
    item = {"texts": ["I lost my keys.", "Oh no!"], "answers": {"guidance": {0: [0, "nothing changes"]}}}
    return {"en": {**item, **changes}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": ["coherense"]}, "did you mean 'coherence'"),
        ({"metrics": ["empathy"]}, "no answer of an earlier dialog metric"),
        ({"metrics": []}, "neither metrics nor a comparison"),
        ({"metrics": ["guidance", "guidance"]}, "two metrics are called 'guidance'"),
        ({"n_dialog": 3}, "no key is called 'n_dialog'; did you mean 'n_dialogs'"),
        ({"metrics": [{"name": "x", "levle": "dialog"}]}, "metrics.0: no key is called 'levle'; did you mean 'level'"),
        ({"systems": {}}, "systems"),
        ({"systems": {"a/b": "x.jsonl"}}, "systems"),
        ({"systems": {"A": "no.jsonl"}}, "no.jsonl: no such file"),
        ({"comparison": {"questions": []}}, "comparison"),
        ({"practice": {}}, "needs en, zh or both"),
        ({"practice": practice(texts=["a"])}, "practice"),
        ({"practice": practice(answers={"fluent": {0: [1, "b"]}})}, "'fluent' is no metric of this study"),
        ({"practice": practice(answers={"guidance": {1: [1, "b"]}})}, "asked of each dialog"),
        ({"practice": practice(answers={"coherence": {2: [1, "b"]}})}, "of 1 responses"),
        ({"practice": practice(answers={"guidance": {0: [7, "b"]}})}, "7 is none of its values"),
        ({"practice": practice(answers={"empathy": {0: [1, "b"]}})}, "hangs on a metric"),
        ({"n_dialogs": 99}, "share 4 starters, 99 dialogs are asked for"),
    ],
)
def test_bad_designs_are_named_and_nothing_is_made(tmp_path, changes, message):
    path = write_design(tmp_path, **changes)
    with pytest.raises(InputError, match=message):
        create_study(path, tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_all_systems_are_rated_on_the_same_starters(make_study):
    items = [i for i in make_study(n_dialogs=3).items if i.kind == "dialog"]
    by_system = {s: {i.starter for i in items if i.systems == (s,)} for s in SYSTEMS}
    assert len(items) == 9
    assert by_system["Aurora"] == by_system["Borealis"] == by_system["Cumulus"]
    assert {i.rated for i in items} == {(1, 2)}


def test_the_seed_decides_which_dialogs(tmp_path):
    write_selfchats(tmp_path, n=40)
    picked = []
    for k, seed in enumerate((0, 0, 1)):
        path = write_design(tmp_path, systems={s: f"{s}.jsonl" for s in SYSTEMS}, n_dialogs=10, seed=seed)
        picked.append({i.starter for i in create_study(path, tmp_path / f"study{k}").items})
    assert picked[0] == picked[1] != picked[2]


def test_systems_pair_by_the_starters_words_whatever_their_ids(tmp_path):
    a = [make_dialog(["one", "x"], id="1"), make_dialog(["two", "x"], id="2")]
    b = [make_dialog(["two", "y"], id="1"), make_dialog(["three", "y"], id="2")]
    assert [(n, d["B"].texts) for n, d in pair_starters({"A": a, "B": b})] == [("2", ["two", "y"])]


def test_an_id_too_long_for_a_key_is_refused():
    rows = {s: [make_dialog(["one", "x"], id="q" * 71)] for s in "AB"}
    with pytest.raises(InputError, match="an id of 71 characters"):
        pair_starters(rows)


def test_a_pair_is_shown_for_each_two_systems(make_study):
    comparison = {"n_dialogs": 2, "questions": [{"name": "best", "title": {"en": "B"}, "question": {"en": "Which?"}}]}
    pairs = [i for i in make_study(comparison=comparison).items if i.kind == "pair"]
    assert len(pairs) == 2 * 3
    assert all(i.dialogs[0].texts[0] == i.dialogs[1].texts[0] for i in pairs)


def test_only_some_utterances_are_rated_where_so_designed(make_study):
    items = [i for i in make_study(n_utterances=1).items if i.kind == "dialog"]
    places = {(i.starter, i.rated) for i in items}
    assert len(places) == 4
    assert all(len(rated) == 1 for _, rated in places)


def test_the_folder_holds_secret_and_provenance_and_is_made_once(tmp_path):
    path = write_design(tmp_path)
    study = create_study(path, tmp_path / "study")
    assert stat.S_IMODE((study.folder / "secret").stat().st_mode) == 0o600
    assert len(study.secret) >= 48
    assert study.about["systems"]["Aurora"]["n_dialogs"] == 4
    assert len(study.about["systems"]["Aurora"]["sha256"]) == 64
    again = create_study(path, tmp_path / "study")
    assert (again.key, again.secret) == (study.key, study.secret)
    other = write_design(tmp_path, systems={s: f"{s}.jsonl" for s in SYSTEMS}, seed=5)
    with pytest.raises(InputError, match="another study"):
        create_study(other, tmp_path / "study")


def test_changed_items_and_an_open_secret_are_refused(make_study):
    study = make_study()
    (study.folder / "secret").chmod(0o644)
    with pytest.raises(InputError, match="others can read the secret"):
        load_study(study.folder)
    (study.folder / "secret").chmod(0o600)
    items = list(read_rows(study.folder / "items.jsonl", Item))
    write_rows(study.folder / "items.jsonl", items[1:])
    with pytest.raises(InputError, match="was changed"):
        load_study(study.folder)


def test_a_short_secret_is_refused(make_study):
    with pytest.raises(InputError, match="too short"):
        load_study(make_study().folder, secret="abc")


def test_the_practice_item_has_an_answer_to_all_it_asks():
    design = Design(systems={"A": "a.jsonl"})
    for language in ("en", "zh"):
        item = practice_item(design, language)
        rows = practice_feedback(design, language, {})
        assert len(rows) == 2 * len(item.dialogs[0].agent_utterances) + 2
        assert all(r["why"] and r["ours"] for r in rows)


FLUENCY = {
    "name": "fluency", "level": "utterance", "title": {"en": "Fluent"}, "question": {"en": "How?"},
    "explanation": {"en": "x"}, "values": [1, 2, 3],
}  # fmt: skip


def test_a_practice_item_of_ones_own_asks_the_metrics_that_it_answers(make_study):
    given = practice(answers={"fluency": {1: [3, "a person would"]}, "guidance": {0: [0, "no change"]}})
    design = make_study(
        metrics=["coherence", "guidance", FLUENCY], practice=given
    ).design  # as it is kept in the folder
    rows = practice_feedback(design, "zh", {("fluency", 1): "2"})
    assert [(r["title"], r["given"], r["ours"], r["why"]) for r in rows] == [
        ("Fluent", "2", "3", "a person would"),
        ("正向情绪引导", "–", "否", "no change"),
    ]
    assert practice_item(design, "en").dialogs[0].texts == ["I lost my keys.", "Oh no!"]


def test_our_practice_item_leaves_out_a_metric_that_is_ours_by_name_alone():
    scale = {**FLUENCY, "name": "coherence"}  # 1 to 3, where our answers are 0 and 1
    design = Design(systems={"A": "a.jsonl"}, metrics=[scale, "guidance"])
    assert {r["title"] for r in practice_feedback(design, "en", {})} == {"Positive emotion guidance"}
    assert not has_practice(Design(systems={"A": "a.jsonl"}, metrics=[scale]))
    assert not has_practice(Design(systems={"A": "a.jsonl"}, practice=False))


def test_the_pages_have_the_same_words_in_both_languages():
    assert words("en").keys() == words("zh").keys()
    for metric in own_metrics().values():
        assert all(set(metric[k]) == {"en", "zh"} for k in ("title", "question", "explanation"))


def test_chinese_texts_hold_no_space_between_their_characters_and_no_marks_of_english(make_study):
    texts = [*words("zh").values(), *(m[k]["zh"] for m in own_metrics().values() for k in ("question", "explanation"))]
    study = make_study(check_every=2)
    check = next(i for i in study.items if i.kind == "check")
    found = Assignment(id=1, item=check, is_flipped=False, is_done=False, answers={}, counter=0)
    (shown,) = view_item(study.design, found, "zh")["dialogs"]
    lines = [line["text"] for line in shown]
    assert any(words("zh")["check_lead"] in line for line in lines)
    assert [t for t in [*texts, *lines] if re.search(r"[\u3000-\u9fff\uff00-\uffef] [\u3000-\u9fff]", t)] == []
    assert [t for t in lines if re.search("[;:.]", t)] == []


def test_the_designs_in_the_docs_and_in_configs_hold(tmp_path):
    root = Path(__file__).parents[2]
    blocks = re.findall(r"```yaml\n(.*?)```", (root / "docs" / "study.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    whole = yaml.safe_load(blocks[0])
    for given in (whole, {**whole, **yaml.safe_load(blocks[1])}):
        (tmp_path / "d.yaml").write_text(yaml.safe_dump(given, sort_keys=False))
        assert list(read_design(tmp_path / "d.yaml").systems) == ["PEGE", "NLL"]
    assert [m.name for m in read_design(tmp_path / "d.yaml").metrics] == ["coherence", "fluency"]
    assert read_design(root / "configs" / "study.yaml").n_dialogs == 50
