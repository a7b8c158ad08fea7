"""Commands whose flags stand over a YAML config: what `pege train` and `pege corpus build` share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cyclopts import App, CycloptsError, Parameter
from cyclopts.config import Yaml
from pydantic import ValidationError

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
        command, bound, _ = app.parse_args(flags, exit_on_error=False, print_error=False)
    except CycloptsError as e:
        if not isinstance(e.__cause__, ValidationError):
            raise
        raise _worded(e.__cause__, flags, config) from e
    command(*bound.args, **bound.kwargs)  # outside: its own errors are no errors of the config


def _worded(error: ValidationError, flags: Sequence[str], config: Path | None) -> InputError:
    """Word the first value that does not fit: the flag or the file's key, the value, and what is allowed."""
    first = error.errors(include_url=False)[0]
    key = ".".join(p for p in first["loc"] if isinstance(p, str))
    is_flag = any(f.lstrip("-").partition("=")[0].replace("-", "_") == key for f in flags if f.startswith("--"))
    where = f"--{key}" if is_flag or config is None else f"{config}: {key}"
    what = first["msg"].removeprefix("Value error, ")
    if what.startswith("Input "):
        what = f"{str(first['input'])[:80]!r} {what.removeprefix('Input ')}"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return InputError(what + more, where=where)
