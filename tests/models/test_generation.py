"""Settings of generation that no model could follow are named."""

from __future__ import annotations

import pytest

from pege.errors import InputError
from pege.models.generation import check_generation, local_names


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 0), ("temperature", -1.0), ("temperature", float("nan")), ("temperature", float("inf")),
        ("temperature", "0.9"), ("temperature", True), ("top_p", 3), ("top_p", 0), ("min_p", -0.1), ("top_k", -1),
        ("top_k", 1.5), ("max_new_tokens", 0), ("max_tokens", 0), ("max_new_tokens", float("inf")),
        ("repetition_penalty", 0), ("num_beams", 0),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_named(name, value):
    with pytest.raises(InputError, match=rf"generation\.{name}: .* is no"):
        check_generation({"do_sample": True, name: value})


def test_good_values_and_unset_ones_pass():
    check_generation({"temperature": 0.7, "top_p": 1, "top_k": 0, "max_new_tokens": 1, "do_sample": True})
    check_generation({"temperature": None, "top_k": None, "anything": -1})


def test_unknown_names_and_those_that_pege_sets_are_refused():
    with pytest.raises(InputError, match=r"unknown generation setting 'temprature'; did you mean 'temperature'"):
        check_generation({"temprature": 1}, known=local_names())
    with pytest.raises(InputError, match=r"generation\.eos_token_id: is set by pege itself"):
        check_generation({"eos_token_id": 2})
