"""Tables of scores and comparisons."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pege.dialog import make_dialog
from pege.errors import InputError
from pege.lexicon import load_lexicon
from pege.metrics import Options, compare_table, score_table, text_rows
from pege.metrics.ratings import Rating


def test_a_table_holds_means_intervals_and_what_was_left_out(dialogs, lexicon_file):
    options = Options(lexicon=load_lexicon(lexicon_file), unseen_lexicon=load_lexicon(lexicon_file), n_resamples=99)
    table, scores = score_table([*dialogs, make_dialog(["sad"], id="z", lang="en")], options)
    assert table["n_dialogs"] == len(scores) == 4
    assert table["pege"] == pytest.approx(sum(s["pege"] for s in scores) / 4)
    assert table["ci"]["pege"][0] <= table["pege"] <= table["ci"]["pege"][1]
    assert table["quarantined"] == {"no-response": 1}
    assert table["companions"]["unseen_lexicon"]["pege"] == pytest.approx(table["pege"])
    assert [s["unseen_lexicon.pege"] for s in scores] == [s["pege"] for s in scores]


def test_systems_pair_up_by_id_and_else_by_starter(dialogs, lexicon_file):
    options = Options(lexicon=load_lexicon(lexicon_file), n_resamples=99)
    other = [d.model_copy(update={"id": f"other-{d.id}"}) for d in reversed(dialogs)]
    table = compare_table(dialogs, other, options)
    assert table["n_pairs"] == 4
    assert table["scores"]["pege"]["difference"] == 0
    with pytest.raises(InputError, match="do not pair up"):
        compare_table(dialogs, dialogs[:2], options)


def rated(dialogs, values, scale="empathy"):
    return [Rating(id=d.id, rater="x", scale=scale, rating=v) for d, v in zip(dialogs, values, strict=True)]


def test_ratings_of_both_systems_are_compared_pair_by_pair(dialogs, lexicon_file):
    options = Options(lexicon=load_lexicon(lexicon_file), unseen_lexicon=load_lexicon(lexicon_file), n_resamples=99)
    other = [d.model_copy(update={"id": f"other-{d.id}"}) for d in reversed(dialogs)]
    ratings = rated(dialogs, [1, 2, 3, 4]), rated(other, [4, 3, 2, 0])
    table = compare_table(dialogs, other, options, ratings=ratings)
    row = table["scores"]["ratings.empathy"]
    assert (row["a"], row["b"], row["difference"]) == (2.5, 2.25, 0.25)
    assert row["ci"] == pytest.approx([0, 0.75], abs=0.3)  # pairs differ by 1, 0, 0, 0
    assert set(table["companions"]) == {"unseen_lexicon", "ratings"}
    assert table["companions"]["unseen_lexicon"]["a"] == table["signature"].split("|test:")[0]
    assert table["companions"]["ratings"]["a"] != table["companions"]["ratings"]["b"]
    with pytest.raises(InputError, match="only one side is rated on empathy, warmth"):
        compare_table(dialogs, other, options, ratings=(ratings[0], rated(other, [1, 2, 3, 4], "warmth")))
    with pytest.raises(InputError, match="of no dialog"):
        compare_table(dialogs, other, options, ratings=ratings[::-1])


def test_text_scores_are_given_by_dialog(dialogs):
    rows = text_rows([*dialogs, make_dialog(["sad"], id="z", lang="en")], Options(references=dialogs))
    assert [r["id"] for r in rows] == ["a", "b", "c", "d"]
    assert all(r["bleu_1"] == pytest.approx(100) for r in rows)
    assert rows[1]["distinct_1"] == 1.0  # that is great was it sunny
    assert set(text_rows(dialogs, Options())[0]) == {"id", "distinct_1", "distinct_2"}


def test_two_languages_at_once_are_refused(dialogs):
    with pytest.raises(InputError, match="en and zh"):
        score_table([*dialogs, make_dialog(["你好", "你好"])], Options())


def test_scores_need_no_torch():
    code = (
        "import sys; import pege; from pege.metrics import Options, score_table; from pege.dialog import make_dialog;"
        "score_table([make_dialog(['I am sad', 'be happy'])], Options(n_resamples=9)); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
