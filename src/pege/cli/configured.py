"""Commands whose flags stand over a YAML config: what `pege train` and `pege corpus build` share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cyclopts import App, Parameter
from cyclopts.config import Yaml

from pege.errors import InputError
from pege.io import read_yaml


def run_configured(name: str, run: Callable[..., Any], flags: Sequence[str], config: Path | None) -> None:
    """Call a function with the flags of a command line over those of a config.

    Raises:
        InputError: a config that is missing or broken, a value that does not fit.
    """
    app = App(name=name, version_flags=(), default_parameter=Parameter(negative=(), consume_multiple=True))
    if config is not None:
        read_yaml(config)  # words a missing or broken file
        app.config = Yaml(config, must_exist=True, use_commands_as_keys=False)
    app.default(run)
    try:
        app(flags, exit_on_error=False, print_error=False, result_action="return_value")
    except ValueError as e:
        if isinstance(e, InputError):
            raise
        raise InputError(str(e), where=config) from e
