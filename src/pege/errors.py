"""The one place that words an error of input: what is wrong, where, and what to do."""

from __future__ import annotations

import difflib
import errno
import importlib.util
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input from a person: a file, a flag, a config. The command line prints it and exits with 2.

    Args:
        what: what is wrong, e.g. ``starts with "assistant"``.
        where: the file, line or key it was found at, e.g. ``chats.jsonl:17``.
        fix: what to do about it, e.g. ``a dialog starts with "user" (docs/rows.md)``.
    """

    def __init__(self, what: str, *, where: object = None, fix: str | None = None) -> None:
        self.what, self.where, self.fix = what, where, fix
        text = what if where is None else f"{where}: {what}"
        super().__init__(" ".join((text if fix is None else f"{text}; {fix}").split()))


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Give the hint for a misspelt name: the nearest choice, or all of them where none is near."""
    choices = sorted(choices)
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"choose from: {', '.join(choices)}"


def need_package(module: str, name: str, *, extra: str, where: object = None) -> None:
    """See that an optional package is there, without importing it.

    Args:
        module: of the package.
        name: that people know it by.
        extra: of pege, that brings it.
        where: what needs it.

    Raises:
        InputError: it is not installed.
    """
    if importlib.util.find_spec(module) is None:
        raise InputError(f"{name} is not installed", where=where, fix=f"pip install 'pege[{extra}]'")


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, also of the libraries that write checkpoints, means that nothing more can be written."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return any(text in str(error) for text in ("No space left on device", "PytorchStreamWriter failed writing"))
