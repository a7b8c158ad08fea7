"""The row model and the paper's halves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pege.dialog import MAX_UTTERANCE_CHARS, Dialog, Emotion, make_dialog


@pytest.mark.parametrize(
    ("n", "user_end", "agent_start"),
    [
        (2, [1], [2]),
        (3, [3], [2]),  # odd counts as 4: one of each
        (4, [3], [2]),
        (7, [5, 7], [2, 4]),  # as 8: two of each
        (8, [5, 7], [2, 4]),
        (10, [7, 9], [2, 4]),
        (12, [7, 9, 11], [2, 4, 6]),
        (20, [11, 13, 15, 17, 19], [2, 4, 6, 8, 10]),
    ],
)
def test_the_halves_are_those_of_the_paper(n, user_end, agent_start):
    dialog = make_dialog([str(k) for k in range(1, n + 1)])
    assert dialog.user_last_half == [str(k) for k in user_end]
    assert dialog.agent_first_half == [str(k) for k in agent_start]


@given(st.integers(1, 60))
def test_a_half_never_has_more_than_the_side_said(n):
    dialog = make_dialog(["x"] * n)
    assert len(dialog.user_last_half) <= len(dialog.user_utterances)
    assert len(dialog.agent_first_half) == min(dialog.n_half, n // 2)


def test_each_response_has_all_that_came_before_as_its_context():
    contexts = list(make_dialog(["a", "b", "c", "d", "e"]).contexts())
    assert [(len(c.utterances), c.response) for c in contexts] == [(1, "b"), (3, "d")]


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([], "at least 1"),
        ([("assistant", "hi")], "starts with"),
        ([("user", "hi"), ("user", "ho")], "roles alternate"),
        ([("user", "  ")], "match"),
        ([("user", "x" * (MAX_UTTERANCE_CHARS + 1))], "at most"),
        ([("bot", "hi")], "user"),
    ],
)
def test_a_bad_row_is_refused_with_its_reason(messages, reason):
    with pytest.raises(ValidationError, match=reason):
        Dialog.model_validate({"messages": [{"role": r, "content": c} for r, c in messages]})


def test_an_emotion_sums_to_one():
    with pytest.raises(ValidationError, match="sum to 1"):
        Emotion(negative=0.5, neutral=0.5, positive=0.5)


def test_other_fields_of_a_row_are_kept():
    row = {"id": "x", "messages": [{"role": "user", "content": "hi", "emotion": "joy"}], "situation": "s"}
    assert Dialog.model_validate(row).model_dump(exclude_none=True, mode="json") == row


def test_the_language_is_guessed_where_the_row_has_none():
    assert make_dialog(["我很好"]).language == "zh"
    assert make_dialog(["I am fine"]).language == "en"
    assert make_dialog(["我很好"], lang="en").language == "en"
