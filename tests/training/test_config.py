"""Configs: names of other libraries verbatim, values as they are meant, flags over files."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from pege.training import LossSettings, TrainConfig


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("10", 10),
        ("3e-4", 3e-4),
        ("True", True),
        ("false", False),
        ("no", "no"),
        (True, True),
        (0.1, 0.1),
        ("cosine", "cosine"),
    ],
)
def test_a_value_from_a_flag_means_what_it_says(given, meant):
    config = TrainConfig.model_validate({"data": ["x"], "training": {"lr_scheduler_type": given}})
    found = config.names_of("training")["lr_scheduler_type"]
    assert found == meant
    assert type(found) is type(meant)


def test_the_target_variant_has_a_weight_of_its_own():
    assert LossSettings.model_validate({"kind": "target"}).alpha == 0.5
    assert LossSettings.model_validate({"kind": "target", "alpha": 2}).alpha == 2
    assert LossSettings().alpha == 5.0


@pytest.mark.parametrize("part", ["training", "lora", "generation", "loss"])
def test_an_unknown_name_is_refused(part):
    with pytest.raises(ValidationError, match="nonsense"):
        TrainConfig.model_validate({"data": ["x"], part: {"nonsense": 1}})


def test_a_resolved_config_repeats_itself():
    config = TrainConfig.model_validate(
        {"data": ["x"], "lora": {"r": 4, "target_modules": ["q_proj"]}, "training": {"max_steps": 3}}
    )
    assert TrainConfig.model_validate(config.resolved()) == config


@pytest.mark.parametrize(
    ("part", "name", "value", "allowed"),
    [
        ("training", "max_steps", "many", "whole number"),
        ("training", "max_steps", True, "whole number"),
        ("training", "learning_rate", "small", "a number"),
        ("training", "bf16", "yes", "true or false"),
        ("lora", "r", 1.5, "whole number"),
    ],
)
def test_a_value_of_another_kind_is_refused(part, name, value, allowed):
    with pytest.raises(ValidationError, match=allowed):
        TrainConfig.model_validate({"data": ["x"], part: {name: value}})
