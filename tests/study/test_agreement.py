"""The coefficients against published examples and other libraries."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections import Counter

import krippendorff
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pege.errors import InputError
from pege.study.agreement import (
    Judgement,
    agreement_table,
    count_values,
    fleiss_kappa,
    gwet_ac1,
    krippendorff_alpha,
    read_judgements,
)

# Fleiss' table of 10 subjects, 14 raters, 5 categories, as Wikipedia works it: kappa 0.210.
FOURTEEN = np.array(
    [[0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1], [7, 7, 0, 0, 0],
     [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7]]
)  # fmt: skip
# Krippendorff (2011, "Computing Krippendorff's alpha-reliability", data C): 4 observers, 12 units, missing ratings.
# He gives alpha 0.743 (nominal), 0.815 (ordinal), 0.849 (interval), 0.797 (ratio). Gwet's handbook (2014) takes the same data as his
# example with missing ratings: AC1 0.77544, Fleiss' kappa generalised 0.76117.
OBSERVERS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
]


def judged(table, metric="m"):
    return [
        Judgement(item=f"i{i:03d}", rater=f"r{r}", metric=metric, value=str(v))
        for r, row in enumerate(table)
        for i, v in enumerate(row)
        if v is not None
    ]


def test_fleiss_kappa_of_the_table_with_fourteen_raters():
    assert fleiss_kappa(FOURTEEN) == pytest.approx(0.20993, abs=5e-6)


def test_all_three_on_the_published_example_with_missing_ratings():
    found = agreement_table(judged(OBSERVERS), n_resamples=99)["m"]
    assert found["krippendorff_alpha"] == pytest.approx(0.743, abs=5e-4)
    assert found["gwet_ac1"] == pytest.approx(0.77544, abs=5e-6)
    assert found["fleiss_kappa"] == pytest.approx(0.76117, abs=5e-6)
    assert (found["n_items"], found["n_raters"]) == (12, 4)


@pytest.mark.parametrize(("level", "alpha"), [("ordinal", 0.815), ("interval", 0.849), ("ratio", 0.797)])
def test_alpha_at_other_levels_of_the_published_example(level, alpha):
    found = agreement_table(judged(OBSERVERS), level=level, n_resamples=0)["m"]
    assert found["krippendorff_alpha"] == pytest.approx(alpha, abs=5e-4)


def test_ac1_by_hand_where_one_value_is_rare():
    # 10 items, 2 raters: 8 x both 1, 2 x disagreed. p_a = 0.8; p_1 = 0.9; AC1: p_e = 2 * 0.9 * 0.1 = 0.18.
    counts = np.array([[0, 2]] * 8 + [[1, 1]] * 2)
    assert gwet_ac1(counts) == pytest.approx((0.8 - 0.18) / (1 - 0.18))
    assert fleiss_kappa(counts) == pytest.approx((0.8 - 0.82) / (1 - 0.82))


@given(hnp.arrays(np.int64, st.tuples(st.integers(2, 12), st.just(4)), elements=st.integers(0, 2)))
def test_with_equal_raters_kappa_is_that_of_statsmodels(ratings):
    from statsmodels.stats.inter_rater import aggregate_raters
    from statsmodels.stats.inter_rater import fleiss_kappa as reference

    table, _ = aggregate_raters(ratings)
    counts, _ = count_values(judged(ratings.T.tolist()))
    if len(np.unique(ratings)) == 1:
        assert math.isnan(fleiss_kappa(counts))
    else:
        assert fleiss_kappa(counts) == pytest.approx(reference(table), abs=1e-12)


@given(
    hnp.arrays(np.float64, st.tuples(st.integers(2, 5), st.integers(1, 9)), elements=st.sampled_from([0, 1, 2, np.nan]))
)
def test_alpha_is_that_of_its_library_on_the_plain_ratings(ratings):
    counts, values = count_values(judged([[None if np.isnan(v) else v for v in row] for row in ratings]))
    for level in ("nominal", "ordinal", "interval"):
        try:
            with np.errstate(all="ignore"):
                expected = krippendorff.alpha(reliability_data=ratings, level_of_measurement=level)
        except ValueError:
            continue  # fewer than two values: the library refuses what we call undefined
        assert krippendorff_alpha(counts, values, level=level) == pytest.approx(expected, abs=1e-9, nan_ok=True)


def pairs_of(items):
    """(x, y, ratings of the item) for each ordered pair of different raters of one item."""
    return [(x, y, len(v)) for v in items for i, x in enumerate(v) for j, y in enumerate(v) if i != j]


def textbook_alpha(items):
    """Krippendorff (2011): alpha = 1 - (n - 1) sum_{c != k} o_ck / sum_{c != k} n_c n_k over the coincidence matrix."""
    o = Counter()
    for x, y, m in pairs_of(items):
        o[x, y] += 1 / (m - 1)
    n_c = Counter()
    for (x, _), share in o.items():
        n_c[x] += share
    apart = sum(n_c[c] * n_c[k] for c in n_c for k in n_c if c != k)
    return 1 - (sum(n_c.values()) - 1) * sum(s for (x, y), s in o.items() if x != y) / apart if apart else None


def textbook_kappa_and_ac1(items, n_values):
    """Gwet (2014, ch. 2 and 3): p_a over the items with two ratings, p_k over all items; kappa and AC1 differ in p_e."""
    agreed = [sum(x == y for x, y, _ in pairs_of([v])) / (len(v) * (len(v) - 1)) for v in items if len(v) > 1]
    if not agreed:
        return None, None
    p_a = sum(agreed) / len(agreed)
    p = [sum(v.count(k) / len(v) for v in items) / len(items) for k in {x for v in items for x in v}]
    by_chance = sum(x * x for x in p), sum(x * (1 - x) for x in p) / (n_values - 1) if n_values > 1 else 0
    return tuple((p_a - e) / (1 - e) if e < 1 - 1e-9 else None for e in by_chance)


@given(
    st.lists(
        st.lists(st.sampled_from(["yes", "no", "so-so", None]), min_size=4, max_size=4).filter(any),
        min_size=1,
        max_size=9,
    )
)
def test_all_three_are_the_textbook_formulas_with_three_values_and_missing_ratings(rows):
    found = agreement_table(judged(list(zip(*rows, strict=True))), n_resamples=0)["m"]
    items = [[v for v in row if v] for row in rows]
    kappa, ac1 = textbook_kappa_and_ac1(items, len({v for row in items for v in row}))
    expected = {"fleiss_kappa": kappa, "krippendorff_alpha": textbook_alpha(items), "gwet_ac1": ac1}
    for name, value in expected.items():
        assert found[name] == (None if value is None else pytest.approx(value, abs=1e-9)), name
    assert (found["n_items"], found["n_raters"]) == (len(rows), sum(any(column) for column in zip(*rows, strict=True)))


@given(hnp.arrays(np.int64, st.tuples(st.integers(2, 9), st.just(3)), elements=st.integers(0, 2)))
def test_with_equal_raters_kappa_is_fleiss_own_formula(ratings):
    n_items, n = ratings.shape
    table = [[int((row == k).sum()) for k in range(3)] for row in ratings]
    p_bar = sum((sum(c * c for c in row) - n) / (n * (n - 1)) for row in table) / n_items
    p_e = sum((sum(row[k] for row in table) / (n_items * n)) ** 2 for k in range(3))
    found = agreement_table(judged(ratings.T.tolist()), n_resamples=0)["m"]["fleiss_kappa"]
    assert found == (None if p_e == 1 else pytest.approx((p_bar - p_e) / (1 - p_e), abs=1e-9))


@given(hnp.arrays(np.int64, st.tuples(st.integers(1, 9), st.integers(1, 4)), elements=st.integers(0, 4)), st.randoms())
def test_order_and_names_change_nothing(counts, random):
    counts = counts[counts.sum(axis=1) > 0]
    if not len(counts):
        return
    items, values = list(range(len(counts))), list(range(counts.shape[1]))
    random.shuffle(items), random.shuffle(values)
    for statistic in (fleiss_kappa, gwet_ac1, krippendorff_alpha):
        assert statistic(counts) == pytest.approx(statistic(counts[items][:, values]), nan_ok=True)
        assert math.isnan(statistic(counts)) or statistic(counts) <= 1 + 1e-9


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ([[1, 1, 1], [1, 1, 1]], (None, None, 1.0)),  # one value only: nothing to be better than chance at
        ([[1, 0, 1]], (None, None, None)),  # one rater
        ([[1, None], [None, 0]], (None, None, None)),  # no item with two ratings
        ([[1, 0], [1, 0]], (1.0, 1.0, 1.0)),
        ([["cat", "dog"], ["cat", "dog"]], (1.0, 1.0, 1.0)),  # labels
    ],
)
def test_what_is_not_defined_is_null_and_never_nan(table, expected):
    found = agreement_table(judged(table), n_resamples=50)["m"]
    assert (found["fleiss_kappa"], found["krippendorff_alpha"], found["gwet_ac1"]) == expected
    json.dumps(found, allow_nan=False)
    assert {k for k, v in found["ci"].items() if v is None} == {k for k in found["ci"] if found[k] is None}


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    # two raters who err with 0.1 on a fair coin agree with 0.82; kappa = 0.64
    rng, held = np.random.default_rng(0), 0
    for trial in range(60):
        truth = rng.integers(0, 2, 120)
        said = [(truth ^ (rng.random(120) < 0.1)).tolist() for _ in range(2)]
        low, high = agreement_table(judged(said), n_resamples=300, seed=trial)["m"]["ci"]["fleiss_kappa"]
        held += low <= 0.64 <= high
    assert 51 <= held <= 60


def test_one_and_one_point_zero_are_one_value_and_the_seed_decides():
    rows = judged([["1", "0", "1"], ["1.0", "0", "0.0"]])
    assert count_values(rows)[1] == [0.0, 1.0]
    assert agreement_table(rows, seed=3, n_resamples=99) == agreement_table(rows[::-1], seed=3, n_resamples=99)


HEAD = "item,rater,metric,value\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD, "holds no ratings"),
        ("", "holds no ratings"),
        (HEAD + "a,x,m,\na,y,m,NA\n", "holds no ratings"),
        ("item,who,metric,value\n", r"r\.csv:1: lacks the column rater"),
        (HEAD + ",x,m,1\n", r"r\.csv:2: item"),
        (HEAD + "a,x,m,inf\n", r"r\.csv:2: value: 'inf' is no finite number"),
        (HEAD + "a,x,m,1\na,x,m,1\n", r"r\.csv:3: rater 'x' rates 'a' twice on 'm'"),
        (HEAD + 'a,x,m,1\nb,"x,m,1\nc,x,m,0\nd,x,m,1\n', r"r\.csv:3: a quote is opened in the row that begins here"),
        (HEAD + "a, with a comma,x,m,1\n", r"r\.csv:2: has 5 cells, the header 4"),
        ("item;rater;metric;value\na;x;m;1\n", r"r\.csv:1: lacks the column item and rater"),
    ],
)
def test_bad_files_are_named(tmp_path, text, message):
    (tmp_path / "r.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_judgements(tmp_path / "r.csv")


def test_the_columns_of_pege_score_are_read_too_and_empty_values_are_no_ratings(tmp_path):
    (tmp_path / "r.csv").write_text(
        "id,rater,scale,rating,note\na,x,empathy,1,hm\nb,x,empathy,,\n", encoding="utf-8-sig"
    )
    assert read_judgements(tmp_path / "r.csv") == [Judgement(item="a", rater="x", metric="empathy", value="1")]


def test_a_mark_at_the_start_and_the_line_ends_of_windows_change_nothing(tmp_path):
    text = HEAD + "a,x,m,1\na,y,m,1\nb,x,m,0\nb,y,m,1\nb,z,m,\n"
    (tmp_path / "unix.csv").write_text(text)
    (tmp_path / "windows.csv").write_text(text.replace("\n", "\r\n"), encoding="utf-8-sig", newline="")
    (tmp_path / "old.csv").write_text(text.replace("\n", "\r"), newline="")
    assert len(read_judgements(tmp_path / "unix.csv")) == 4
    for name in ("windows.csv", "old.csv"):
        assert read_judgements(tmp_path / name) == read_judgements(tmp_path / "unix.csv")


@pytest.mark.parametrize(("level", "value", "message"), [("ordinal", "cat", "labels"), ("ratio", "-1", "below 0")])
def test_a_level_that_the_values_do_not_have_is_refused(level, value, message):
    with pytest.raises(InputError, match=message):
        agreement_table(judged([[value, "2"], ["2", "3"]]), level=level)


def test_agreement_needs_no_web_package(tmp_path):
    (tmp_path / "r.csv").write_text(HEAD + "a,x,m,1\na,y,m,1\nb,x,m,0\nb,y,m,1\n")
    code = f"""if True:
        import sys
        class Refuse:
            def find_spec(self, name, *_):
                if name.split(".")[0] in ("fastapi", "starlette", "sqlalchemy", "alembic", "itsdangerous", "uvicorn", "torch"):
                    raise ImportError(name)
        sys.meta_path.insert(0, Refuse())
        from pege.cli import main
        main(["study", "agreement", {str(tmp_path / "r.csv")!r}, "--json"])
        import pege.study.results
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) == {"m"}
    assert set(found["m"]) == {"fleiss_kappa", "krippendorff_alpha", "gwet_ac1", "n_items", "n_raters", "ci"}
