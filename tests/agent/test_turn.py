"""A response let out sentence by sentence: what the filter refuses is never shown."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pege.agent.model import FALLBACK
from pege.agent.output_filter import fixed_response
from pege.agent.turn import Turn


def refuse(text):
    return "bad" if "bad" in text else None


def run(*tries, stops=()):
    """Feed tries of pieces to a turn; what was shown, in pieces, and the turn."""
    turn, shown = Turn("hello", stops=stops, refuse=refuse), []
    for pieces in tries:
        if not turn.is_open:
            break
        for piece in pieces:
            shown.append(turn.feed(piece))
            if not turn.wants_more:
                break
        shown.append(turn.end())
    assert "".join(shown) == turn.text
    return [s for s in shown if s], turn


def test_a_sentence_is_shown_when_the_next_begins():
    shown, turn = run(["I am ", "here. How", " are you?"])
    assert shown == ["I am here.", " How are you?"]
    assert (turn.is_open, turn.is_fixed, turn.reason) == (False, False, None)


def test_a_response_refused_at_its_start_is_drawn_once_more():
    shown, turn = run(["bad. More."], ["All is well."])
    assert shown == ["All is well."]
    assert not turn.is_fixed


def test_a_response_refused_twice_is_the_fixed_one():
    shown, turn = run(["bad. More."], ["bad again."], ["never asked"])
    assert shown == [fixed_response("hello")]
    assert (turn.is_fixed, turn.reason) == (True, "bad")


def test_what_is_refused_after_something_was_shown_ends_with_the_fixed_sentence():
    shown, turn = run(["Fine. Now bad", " words. More."], ["never asked"])
    assert shown == ["Fine.", " " + fixed_response("hello")]
    assert (turn.is_fixed, turn.reason) == (False, "bad")


def test_nothing_twice_is_the_fallback():
    shown, turn = run([], [" "])
    assert shown == [FALLBACK["en"]]
    assert turn.reason == "empty"


def test_a_stop_split_over_pieces_ends_the_text_before_it():
    assert run(["one EN", "D two"], stops=("END",))[1].text == "one"
    assert run(["one EN", "O two"], stops=("END",))[1].text == "one ENO two"


@given(st.lists(st.text(alphabet="ab d.!?。 \n", max_size=6)), st.lists(st.text(alphabet="abd. ", max_size=6)))
def test_no_way_to_cut_a_text_shows_what_is_refused(one, two):
    shown, turn = run(one, two)
    assert not turn.is_open
    so_far = ""
    for piece in shown[:-1]:
        so_far += piece
        assert not refuse(so_far)
    if turn.reason is None:
        assert not refuse(turn.text)
