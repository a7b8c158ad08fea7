"""How errors are worded."""

from __future__ import annotations

from pege.errors import InputError, did_you_mean


def test_an_error_says_where_what_and_what_to_do_in_one_line():
    error = InputError("is\nbroken", where="a.jsonl:3", fix="mend it")
    assert str(error) == "a.jsonl:3: is broken; mend it"
    assert isinstance(error, ValueError)


def test_a_misspelt_name_gets_the_nearest_or_all():
    assert did_you_mean("alhpa", ["alpha", "beta"]) == "did you mean 'alpha'?"
    assert did_you_mean("zzz", ["b", "a"]) == "choose from: a, b"
