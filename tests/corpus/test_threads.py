"""Trees of posts to sessions of two people; the expected sessions are drawn by hand or found by brute force."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pege.corpus.readers import check_row, read_raw
from pege.corpus.threads import Post, Session, as_post, iter_sessions, read_threads
from pege.dialog import Dialog
from pege.errors import InputError


def tree(*posts):
    """Posts from (id, parent, author[, text])."""
    return [Post(p[0], p[1], p[2], p[3] if len(p) > 3 else f"says {p[0]}", k) for k, p in enumerate(posts, start=1)]


def paths(posts):
    return {"".join(p.id for p in s.posts) for s in iter_sessions(posts) if isinstance(s, Session)}


def reasons(posts):
    return sorted(str(s[1]) for s in iter_sessions(posts) if not isinstance(s, Session))


def read(tmp_path, rows, name="posts.jsonl"):
    (tmp_path / name).write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    return list(read_raw([str(tmp_path / name)], layout="threads"))


@pytest.mark.parametrize(
    ("posts", "sessions"),
    [
        ([("1", None, "A"), ("2", "1", "B"), ("3", "2", "A")], {"123"}),
        # two answers to one post: two paths, the shared beginning in both
        ([("1", None, "A"), ("2", "1", "B"), ("3", "2", "A"), ("4", "2", "A")], {"123", "124"}),
        # a third person ends one session, and the block before them starts the next
        ([("1", None, "A"), ("2", "1", "B"), ("3", "2", "C"), ("4", "3", "B")], {"12", "234"}),
        # where somebody else's branch ends early, the session that goes on is not given twice
        ([("1", None, "A"), ("2", "1", "B"), ("3", "2", "A"), ("4", "2", "C")], {"123", "24"}),
        # a block of one author's posts belongs to both neighbours
        ([("1", None, "A"), ("2", "1", "B"), ("3", "2", "B"), ("4", "3", "C")], {"123", "234"}),
        # nobody answers
        ([("1", None, "A"), ("2", "1", "A")], set()),
        # nothing said by somebody who is gone
        (
            [("1", None, "A"), ("2", "1", "B"), ("3", "2", "A", "[deleted]"), ("4", "3", "B"), ("5", "4", "A")],
            {"12", "45"},
        ),
        ([("1", None, "[deleted]"), ("2", "1", "B"), ("3", "2", "A")], {"23"}),
        ([("1", None, "A"), ("2", "1", "AutoModerator"), ("3", "1", "B")], {"13"}),
        # the parent is not in the file
        ([("1", "0", "A"), ("2", "1", "B")], {"12"}),
    ],
)
def test_sessions_drawn_by_hand(posts, sessions):
    assert paths(tree(*posts)) == sessions


def test_a_cycle_is_left_out_and_what_hangs_on_it_starts_anew():
    posts = tree(("1", "2", "A"), ("2", "1", "B"), ("3", "2", "A"), ("4", "3", "B"), ("5", "5", "A"))
    assert paths(posts) == {"34"}
    assert [r.split(":")[0] for r in reasons(posts)] == ["cycle"] * 3


def test_a_repeated_id_is_named_and_the_post_that_says_something_stays():
    posts = tree(("1", None, "A", "[removed]"), ("1", None, "A", "hello"), ("2", "1", "B"))
    assert paths(posts) == {"12"}
    assert reasons(posts) == ["duplicate-id: '1' is also that of line 2"]


def test_a_thread_of_50000_posts_is_one_session():
    posts = tree(*((str(k), str(k - 1) if k else None, "AB"[k % 2]) for k in range(50_000)))
    random.Random(0).shuffle(posts)
    (session,) = iter_sessions(posts)
    assert len(session.posts) == 50_000


AUTHORS = st.sampled_from(["A", "B", "C", "[deleted]"])


@st.composite
def forests(draw):
    """Posts in any order, each answering an earlier one or none."""
    n = draw(st.integers(1, 14))
    rows = []
    for k in range(n):
        parent = draw(st.integers(-1, k - 1))
        rows.append((f"p{k};", None if parent < 0 else f"p{parent};", draw(AUTHORS)))
    return draw(st.permutations(tree(*rows)))


def brute_force(posts):
    """All downward paths of two people that are live and are part of no longer one, by trying each."""
    by_id = {p.id: p for p in posts}
    found = []
    for last in posts:
        path = [last]
        while True:
            if all(p.author != "[deleted]" for p in path) and len({p.author for p in path}) == 2:
                found.append("".join(p.id for p in reversed(path)))
            if path[-1].parent is None:
                break
            path.append(by_id[path[-1].parent])
    return {f for f in found if not any(f != g and f in g for g in found)}


@settings(deadline=None)
@given(forests())
def test_sessions_are_the_longest_paths_of_two_people(posts):
    assert paths(posts) == brute_force(posts)


@settings(deadline=None)
@given(forests(), st.randoms())
def test_the_order_of_the_lines_changes_nothing(posts, rng):
    other = posts.copy()
    rng.shuffle(other)
    ids = [{s.id for s in iter_sessions(p)} for p in (posts, other)]
    assert ids[0] == ids[1]
    assert paths(posts) == paths(other)


@settings(deadline=None)
@given(forests())
def test_a_session_is_a_path_of_two_people_in_the_tree(posts):
    for session in iter_sessions(posts):
        assert all(b.parent == a.id for a, b in zip(session.posts, session.posts[1:], strict=False))
        assert len({p.author for p in session.posts}) == 2


@settings(deadline=None)
@given(forests())
def test_ids_of_sessions_are_unique(posts):
    sessions = list(iter_sessions(posts))
    assert len({s.id for s in sessions}) == len(sessions)


def test_ids_that_hold_the_marks_between_ids_stay_apart():
    a = Session("t", (Post("a~b", None, "A", "x", 1), Post("c", "a~b", "B", "y", 2)))
    b = Session("t", (Post("a", None, "A", "x", 1), Post("b~c", "a", "B", "y", 2)))
    assert a.id != b.id
    assert a.id.partition("#")[0] == "t"


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("AB"), st.text(max_size=12)), min_size=1, max_size=8))
def test_merged_text_keeps_all_the_text_and_alternates(tmp_path_factory, said):
    said = [(author, f"x{text}") for author, text in said]
    rows = [{"id": k, "parent": k - 1 if k else None, "author": a, "text": t} for k, (a, t) in enumerate(said)]
    found = [raw for _, _, raw in read(tmp_path_factory.mktemp("t"), rows)]
    if len({a for a, _ in said}) < 2:
        assert found == []
        return
    dialog = check_row(found[0], "f", 1)
    assert isinstance(dialog, Dialog)  # checks that roles alternate
    assert "".join("".join(dialog.texts).split()) == "".join("".join(t.split()) for _, t in said)


def test_reddit_names_parents_by_kind(tmp_path):
    rows = [
        {"id": "b", "parent_id": "t1_a", "link_id": "t3_a", "author": "op", "body": "Thank you"},
        {"id": "a", "parent_id": "t3_a", "link_id": "t3_a", "author": "other", "body": "I am sorry"},
        {"id": "a", "author": "op", "title": "My cat died", "selftext": "I miss him"},
    ]
    ((_, line, row),) = read(tmp_path, rows)
    assert [m["content"] for m in row["messages"]] == ["My cat died I miss him", "I am sorry", "Thank you"]
    assert row["id"] == "t3_a#t3_a~t1_b"
    assert row["posts"] == ["t3_a", "t1_a", "t1_b"]
    assert line == 1


def test_weibo_like_fields(tmp_path):
    rows = [
        {"mid": 1, "pid": None, "user": {"id": 7, "screen_name": "甲"}, "text": "今天很难过"},
        {"mid": 2, "pid": 1.0, "user": {"id": 8}, "text": "怎么了"},
        {"mid": 3, "pid": 2, "uid": 7, "text": "没事了"},
    ]
    ((_, _, row),) = read(tmp_path, rows)
    assert [m["content"] for m in row["messages"]] == ["今天很难过", "怎么了", "没事了"]


@pytest.mark.parametrize("name", ["p.jsonl", "p.jsonl.gz", "p.jsonl.zst", "p.parquet"])
def test_all_kinds_of_file(tmp_path, name):
    from pege.io import write_rows

    rows = [
        {"id": "1", "author": "A", "text": "hi", "parent": ""},
        {"id": "2", "author": "B", "text": "ho", "parent": "1"},
    ]
    write_rows(tmp_path / name, rows)
    assert [row["id"] for _, _, row in read_threads(tmp_path / name)] == ["1#1~2"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"author": "A", "text": "x"}, "without id"),
        ({"id": "1", "text": "x"}, "without author"),
        ({"id": "1", "author": "A"}, "without text"),
        ({"id": "1", "author": "A", "text": ["x"]}, "is a list"),
    ],
)
def test_what_is_no_post_says_why(row, reason):
    problem = as_post(row, 1)
    assert isinstance(problem, InputError)
    assert reason in problem.what


def test_bad_lines_are_given_with_their_number(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"id": "1", "author": "A", "text": "x"}\n{broken\n{"id": "2"}\n')
    found = [(line, row.what) for _, line, row in read_threads(tmp_path / "p.jsonl")]
    assert [line for line, _ in found] == [2, 3]
    assert "not JSON" in found[0][1]
