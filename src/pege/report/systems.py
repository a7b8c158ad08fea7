"""What a page compares, read from files: self-chats, scores, training logs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from pege.dialog import Dialog
from pege.errors import InputError
from pege.io import ROW_SUFFIXES, read_json, read_rows, read_yaml

DIALOGS, SCORES, RATINGS = "selfchat.jsonl", "scores.json", "ratings.csv"


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
    """Give name and self-chat file of what a person wrote: RUN, FILE.jsonl, or NAME=either; a path that exists wins.

    Raises:
        InputError: no self-chat there.
    """
    is_place = "=" not in spec or Path(spec).exists()
    name, place = ("", spec) if is_place else spec.split("=", 1)
    path = Path(place)
    file = path / DIALOGS if path.is_dir() else path
    if not file.is_file():
        raise InputError("no self-chat", where=file, fix=f"pege selfchat --agent {place} --output {file}")
    return name or (file.resolve().parent.name if file.name == DIALOGS else _stem(file)), file


def scores_file(dialogs: Path) -> Path:
    """File of a self-chat's scores: ``scores.json`` in a run, ``NAME.scores.json`` elsewhere."""
    return _beside(dialogs, SCORES)


def ratings_file(dialogs: Path) -> Path:
    """File of a self-chat's human ratings: ``ratings.csv`` in a run, ``NAME.ratings.csv`` elsewhere; it may lack."""
    return _beside(dialogs, RATINGS)


def _beside(dialogs: Path, name: str) -> Path:
    return dialogs.with_name(name if dialogs.name == DIALOGS else f"{_stem(dialogs)}.{name}")


def _stem(file: Path) -> str:
    return file.name.removesuffix(next((s for s in ROW_SUFFIXES if file.name.endswith(s)), ""))


def read_system(name: str, file: Path) -> System:
    """Read what lies around a self-chat file.

    Raises:
        InputError: a file that is missing or broken.
    """
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
