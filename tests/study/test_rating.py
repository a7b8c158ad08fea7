"""Who is given what, and what is saved."""

from __future__ import annotations

import threading
from collections import Counter

import pytest
import sqlalchemy as sa

from pege.study import tables
from pege.study.collect import collect_ratings
from pege.study.raters import delete_rater, exclude_rater, invite_raters, progress_of
from pege.study.rating import (
    NoSuchQuestionError,
    StaleAnswerError,
    current_assignment,
    finish_item,
    load_assignment,
    not_asked,
    questions_of,
    save_answers,
)


def yes_to_all(store, found):
    return {q: values[-1] for q, values in questions_of(store.study.design, found.item).items()}


def rate_all(store, who):
    seen = []
    while (found := current_assignment(store, who)) is not None:
        seen.append(found.item)
        assert finish_item(store, who, found.id, yes_to_all(store, found)) == []
    return seen


def stored(store):
    with store.reading() as connection:
        return connection.execute(sa.select(tables.answer)).all()


def test_three_raters_rate_each_item_once_in_orders_of_their_own(make_store):
    store = make_store()
    orders = [[i.key for i in rate_all(store, r)] for r in invite_raters(store, 3)]
    assert all(len(o) == len(set(o)) == 12 for o in orders)
    assert len({tuple(o) for o in orders}) == 3
    with store.reading() as connection:
        rows = collect_ratings(store, connection)
    assert set(Counter((r.item, r.metric) for r in rows).values()) == {3}


def test_six_raters_share_the_items_and_see_each_system_alike(make_store):
    store = make_store(items_per_rater=6)
    raters = invite_raters(store, 6)
    seen = {r.name: [] for r in raters}
    for _ in range(6):  # in turns, as people do
        for r in raters:
            found = current_assignment(store, r)
            seen[r.name].append(found.item)
            finish_item(store, r, found.id, yes_to_all(store, found))
    assert all(current_assignment(store, r) is None for r in raters)
    assert set(Counter(i.key for items in seen.values() for i in items).values()) == {3}
    for items in seen.values():
        assert set(Counter(i.systems[0] for i in items).values()) == {2}


def test_raters_who_ask_at_once_get_no_item_too_many(make_store):
    store = make_store(raters_per_item=2)
    raters = invite_raters(store, 8)
    threads = [threading.Thread(target=rate_all, args=(store, r)) for r in raters]
    [t.start() for t in threads]
    [t.join() for t in threads]
    with store.reading() as connection:
        counts = Counter(connection.scalars(sa.select(tables.assignment.c.item_id)))
    assert set(counts.values()) == {2}
    assert len(counts) == 12


def test_an_item_that_was_begun_comes_back_with_its_answers(make_store):
    store = make_store()
    (rater,) = invite_raters(store, 1)
    found = current_assignment(store, rater)
    save_answers(store, rater, found.id, {("coherence", 2): "0"}, counter=found.counter)
    again = current_assignment(store, rater)
    assert again.id == found.id
    assert again.answers == {("coherence", 2): "0"}


def test_the_same_answer_sent_again_is_one_answer_and_a_late_copy_of_an_older_one_is_refused(make_store):
    store = make_store()
    (rater,) = invite_raters(store, 1)
    found = current_assignment(store, rater)
    for value, counter in (("0", 1), ("0", 1), ("1", 2), ("1", 2)):
        save_answers(store, rater, found.id, {("guidance", 0): value}, counter=counter)
    with pytest.raises(StaleAnswerError):
        save_answers(store, rater, found.id, {("guidance", 0): "0", ("coherence", 1): "1"}, counter=1)
    assert [(a.metric, a.value) for a in stored(store)] == [("guidance", "1")]


def test_empathy_is_not_asked_without_guidance_and_counts_zero(make_store):
    store = make_store()
    (rater,) = invite_raters(store, 1)
    found = current_assignment(store, rater)
    answers = yes_to_all(store, found) | {("guidance", 0): "0", ("empathy", 0): "1"}  # a page without script sends both
    assert finish_item(store, rater, found.id, answers) == []
    said = {(a.metric, a.place): (a.value, a.is_derived) for a in stored(store)}
    assert said["empathy", 0] == ("0", True)
    # back to that page: guidance after all, so empathy is open again, and so is the item
    save_answers(store, rater, found.id, {("guidance", 0): "1"}, counter=99)
    again = current_assignment(store, rater)
    assert again.id == found.id
    assert finish_item(store, rater, found.id, {}) == [("empathy", 0)]
    assert finish_item(store, rater, found.id, {("empathy", 0): "1"}) == []


def test_guidance_that_is_still_open_leaves_empathy_open(make_store):
    store = make_store()
    (rater,) = invite_raters(store, 1)
    found = current_assignment(store, rater)
    assert not_asked(store.study.design, found.item, {}) == {}
    assert ("empathy", 0) in finish_item(store, rater, found.id, {})


@pytest.mark.parametrize(
    "answers",
    [
        {("coherence", 1): "2"},
        {("coherence", 1): ""},
        {("coherence", 0): "1"},
        {("coherence", 99): "1"},
        {("nothing", 0): "1"},
        {("guidance", 0): "1'; DROP TABLE answer; --"},
    ],
)
def test_what_is_not_asked_cannot_be_answered(make_store, answers):
    store = make_store()
    (rater,) = invite_raters(store, 1)
    found = current_assignment(store, rater)
    with pytest.raises(NoSuchQuestionError):
        save_answers(store, rater, found.id, answers, counter=1)
    with pytest.raises(NoSuchQuestionError):
        finish_item(store, rater, found.id, answers)
    assert stored(store) == []


def test_another_raters_item_can_be_neither_read_nor_written(make_store):
    store = make_store()
    mine, other = invite_raters(store, 2)
    found = current_assignment(store, mine)
    assert load_assignment(store, other, found.id) is None
    with pytest.raises(NoSuchQuestionError):
        save_answers(store, other, found.id, {("guidance", 0): "1"}, counter=1)
    assert stored(store) == []


def test_items_of_an_excluded_rater_are_handed_out_again_and_their_answers_left_out(make_store):
    store = make_store(raters_per_item=1)
    first, second = invite_raters(store, 2)
    assert len(rate_all(store, first)) == 12
    assert rate_all(store, second) == []
    exclude_rater(store, first.name, why="answers at random")
    assert len(rate_all(store, second)) == 12
    with store.reading() as connection:
        assert {r.rater for r in collect_ratings(store, connection)} == {second.name}


def test_an_item_left_lying_is_given_to_others(make_store):
    store = make_store(raters_per_item=1, hold_hours=1e-9)
    first, second = invite_raters(store, 2)
    lying = current_assignment(store, first).item.key
    assert lying in [i.key for i in rate_all(store, second)]


def test_checks_come_one_among_so_many_items_and_are_counted_not_rated(make_store):
    store = make_store(check_every=3)
    (rater,) = invite_raters(store, 1)
    kinds, n_passed = [], 0
    while (found := current_assignment(store, rater)) is not None:
        answers = yes_to_all(store, found)
        kinds.append(found.item.kind)
        if found.item.kind == "check" and kinds.count("check") > 1:  # the first is failed
            answers |= {(m, 1 if (m, 1) in answers else 0): v for m, v in found.item.expected.items()}
            n_passed += 1
        elif found.item.kind == "check":
            answers |= {(m, 1 if (m, 1) in answers else 0): "01"["10".index(v)] for m, v in found.item.expected.items()}
        finish_item(store, rater, found.id, answers)
    assert kinds.count("check") in (3, 4)
    with store.reading() as connection:
        (row,) = progress_of(store, connection)
        assert all(not r.item.startswith("check") for r in collect_ratings(store, connection))
    assert (row["n_checks"], row["n_checks_passed"], row["n_done"]) == (n_passed + 1, n_passed, 12)


def test_deleting_a_rater_deletes_all_but_the_used_name(make_store):
    store = make_store()
    first, second = invite_raters(store, 2)
    rate_all(store, first)
    found = current_assignment(store, second)
    save_answers(store, second, found.id, {("guidance", 0): "1"}, counter=1)
    exclude_rater(store, first.name, why="left in tears")
    assert delete_rater(store, first.name) > 0
    assert {a.assignment_id for a in stored(store)} == {found.id}
    (third,) = invite_raters(store, 1)
    assert third.name == "r00003"
    with store.reading() as connection:
        assert [r["rater"] for r in progress_of(store, connection)] == [second.name, third.name]
        row = connection.execute(sa.select(tables.rater).where(tables.rater.c.name == first.name)).one()
    assert (row.nonce, row.consented_at, row.created_at) == ("", None, 0)
    files = b"".join(p.read_bytes() for p in store.study.folder.glob("study.db*"))
    assert second.nonce.encode() in files
    assert first.nonce.encode() not in files
    assert b"left in tears" not in files


def test_a_pairs_answer_names_the_system_whatever_side_it_stood_on(make_store):
    comparison = {"questions": [{"name": "best", "title": {"en": "B"}, "question": {"en": "Which?"}}]}
    store = make_store(metrics=[], comparison=comparison)
    flipped = set()
    for rater in invite_raters(store, 3):
        while (found := current_assignment(store, rater)) is not None:
            flipped.add(found.is_flipped)
            sides = found.item.systems[::-1] if found.is_flipped else found.item.systems
            best = ("left", "right")[sides.index(min(sides))]
            finish_item(store, rater, found.id, {("best", 0): best})
    assert flipped == {True, False}
    with store.reading() as connection:
        rows = collect_ratings(store, connection)
    assert rows
    assert all(r.value == min(r.system.split("/")) for r in rows)


def test_a_late_older_answer_never_wins_over_a_newer_one(make_store):
    store = make_store()
    (rater,) = invite_raters(store, 1)
    found = current_assignment(store, rater)
    question = next(iter(questions_of(store.study.design, found.item)))

    def given():
        return load_assignment(store, rater, found.id).answers[question]

    save_answers(store, rater, found.id, {question: "1"}, counter=1)
    save_answers(store, rater, found.id, {question: "1"}, counter=5)  # the same again, but newer
    with pytest.raises(StaleAnswerError):
        save_answers(store, rater, found.id, {question: "0"}, counter=3)
    assert given() == "1"
    save_answers(store, rater, found.id, {question: "1"}, counter=2)  # older and the same: nothing to refuse


def test_a_page_that_is_finished_is_newer_than_its_saves_on_the_way(make_store):
    store = make_store()
    (rater,) = invite_raters(store, 1)
    found = current_assignment(store, rater)
    answers = yes_to_all(store, found)
    question = next(iter(answers))
    save_answers(store, rater, found.id, {question: "0"}, counter=1)
    assert finish_item(store, rater, found.id, answers, counter=3) == []
    with pytest.raises(StaleAnswerError):
        save_answers(store, rater, found.id, {question: "0"}, counter=2)
    save_answers(store, rater, found.id, {question: "0"}, counter=4)  # gone back to
    with pytest.raises(StaleAnswerError):
        finish_item(store, rater, found.id, answers, counter=3)  # the first page sent again
    assert load_assignment(store, rater, found.id).answers[question] == "0"
