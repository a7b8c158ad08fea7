"""What a page compares, read from files: self-chats, scores, training logs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from pege.dialog import Dialog
from pege.errors import InputError
from pege.io import read_json, read_rows, read_yaml

DIALOGS, SCORES = "selfchat.jsonl", "scores.json"


@dataclass(frozen=True)
class System:
    """One system of a page.

    Attributes:
        name: as the page calls it.
        dialogs: of its self-chat.
        scores: what `pege score` wrote, with ``trajectory``.
        log: rows of the training log; empty without a run.
        config: of the run; empty without one.
        about: of the self-chat: settings, versions, share of consoling user utterances.
    """

    name: str
    dialogs: list[Dialog]
    scores: dict[str, Any]
    log: list[dict[str, Any]] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)


class _LogRow(BaseModel):
    model_config = ConfigDict(extra="allow")


def dialogs_of(spec: str) -> tuple[str, Path]:
    """Give name and self-chat file of what a person wrote: RUN, FILE.jsonl, or NAME=either.

    Raises:
        InputError: no self-chat there.
    """
    name, _, place = spec.rpartition("=")
    path = Path(place)
    name = name or (path.name.split(".")[0] if path.is_file() else path.name)
    file = path / DIALOGS if path.is_dir() else path
    if not file.is_file():
        raise InputError("no self-chat", where=file, fix=f"pege selfchat --agent {place} --output {file}")
    return name, file


def scores_file(dialogs: Path) -> Path:
    """File of a self-chat's scores: ``scores.json`` in a run, ``NAME.scores.json`` elsewhere."""
    return dialogs.with_name(SCORES if dialogs.name == DIALOGS else f"{dialogs.name.split('.')[0]}.{SCORES}")


def read_system(spec: str) -> System:
    """Read one system.

    Raises:
        InputError: a file that is missing or broken.
    """
    name, file = dialogs_of(spec)
    folder = file.parent
    log, config, about = folder / "log.jsonl", folder / "config.yaml", file.with_name(file.name + ".run.json")
    is_run = file.name == DIALOGS
    return System(
        name=name,
        dialogs=list(read_rows(file, Dialog)),
        scores=read_json(scores_file(file)),
        log=[r.model_dump() for r in read_rows(log, _LogRow)] if is_run and log.is_file() else [],
        config=read_yaml(config) if is_run and config.is_file() else {},
        about=read_json(about) if about.is_file() else {},
    )
