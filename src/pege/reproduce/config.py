"""What a study is: rows, bases, corpora, seeds, scores and claims, in one YAML (docs/reproduce.md)."""

from __future__ import annotations

import importlib.resources
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pege.errors import InputError, did_you_mean
from pege.io import read_yaml, why_invalid

_STRICT = ConfigDict(frozen=True, extra="forbid")


class Base(BaseModel):
    """A model that rows start from, and what its dialogs are.

    Attributes:
        model: a run or a model, as `pege train --model` takes it; it is the untrained row and plays the user.
        user: who plays the user instead.
        language: of its corpora and starters.
        corpora: the corpus of each kind of data: ``filtered`` (PosEmoDial) and ``random``.
        train: fields of a training config that its rows share.
        chat: flags of `pege selfchat` that its rows share.
        unseen_lexicon: that training never saw, in the data folder.
        classifier: that training never saw, a folder of `pege emotion train`.
        judges: of `pege score --judges`.
        minutes: of a step on two cores, by kind: ``train``, ``chat``, ``respond``; for the estimate.
    """

    model_config = _STRICT
    model: str
    user: str | None = None
    language: Literal["en", "zh"]
    corpora: dict[Literal["filtered", "random"], str]
    train: dict[str, Any] = {}
    chat: dict[str, str | int | float] = {}
    unseen_lexicon: str | None = None
    classifier: str | None = None
    judges: tuple[str, ...] = ()
    minutes: dict[str, float] = {}


class Row(BaseModel):
    """A row of the table.

    Attributes:
        train: fields of its training config, over the base's; None for a row that is not trained.
        like: decodes the run of another row, e.g. with ``guide`` among its chat flags.
        prefer: flags of `pege prefer`: the run of ``like`` is trained further on starters of the base's corpus.
        agent: speaks instead of a run: ``trivial:NAME``; ``trivial:random`` draws from the base's filtered corpus.
        data: the kind of corpus it is trained on.
        chat: flags of `pege selfchat`, over the base's.
        bases: those it stands on; all unless named.
        seeds: how many of the study's seeds; all unless named.
        is_ours: whether it goes beyond the paper, so that nobody takes it for the paper's.
    """

    model_config = _STRICT
    train: dict[str, Any] | None = None
    like: str | None = None
    prefer: dict[str, str | int | float] | None = None
    agent: str | None = None
    data: Literal["filtered", "random"] = "filtered"
    chat: dict[str, str | int | float] = {}
    bases: tuple[str, ...] | None = None
    seeds: int | None = Field(None, ge=1)
    is_ours: bool = False


class Claim(BaseModel):
    """An ordering, written before the run.

    Attributes:
        says: the sentence.
        source: where the paper says it, or "ours".
        score: of the per-dialog scores, e.g. ``pege``, ``classifier.p_positive_end``.
        better: row whose score is to be higher.
        worse: row whose score is to be lower.
        effect: smallest difference that counts, > 0, in the score's unit.
    """

    model_config = _STRICT
    says: str
    source: str
    score: str
    better: str
    worse: str
    effect: float = Field(gt=0)


class Study(BaseModel):
    """All that a study depends on.

    Attributes:
        name: of the study.
        title: of its report.
        seeds: of training and self-chat.
        n_turns: of a self-chat.
        batch_size: dialogs of a self-chat side by side.
        n_static: held-out dialogs of the static table; 0 for none. The first seed only.
        corpora: configs of `pege corpus build`; inputs lie in the data folder.
        bases: by name.
        rows: by name, in the order of the table.
        claims: by number.
    """

    model_config = _STRICT
    name: str = Field(pattern=r"^[a-z0-9-]+$")
    title: str
    seeds: tuple[int, ...] = Field(min_length=1)
    n_turns: int = Field(10, ge=1)
    n_starters: int | None = Field(None, ge=1)
    batch_size: int = Field(100, ge=1)
    n_static: int = Field(0, ge=0)
    corpora: dict[str, dict[str, Any]]
    bases: dict[str, Base]
    rows: dict[str, Row]
    claims: dict[str, Claim] = {}

    @model_validator(mode="after")
    def _names_exist(self) -> Study:
        for name, base in self.bases.items():
            _known(base.corpora.values(), self.corpora, f"bases.{name}.corpora")
        for name, row in self.rows.items():
            _known(row.bases or (), self.bases, f"rows.{name}.bases")
            _known([row.like] if row.like else (), self.rows, f"rows.{name}.like")
            if sum(x is not None for x in (row.train, row.like, row.agent)) > 1:
                raise ValueError(f"rows.{name}: name one of train, like and agent")
            if row.prefer is not None and (not row.like or self.rows[row.like].train is None):
                raise ValueError(f"rows.{name}.prefer: needs like, a row that is trained")
            if row.like and self.rows[row.like].like:
                raise ValueError(f"rows.{name}.like: {row.like} is itself like another")
        for number, claim in self.claims.items():
            _known((claim.better, claim.worse), self.rows, f"claims.{number}")
        return self

    def bases_of(self, row: str) -> tuple[str, ...]:
        """Give the bases that a row stands on."""
        return self.rows[row].bases or tuple(self.bases)

    def seeds_of(self, row: str) -> tuple[int, ...]:
        """Give the seeds that a row has."""
        return self.seeds[: self.rows[row].seeds]


def _known(names: Any, known: Any, where: str) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"{where}: unknown {name!r}; {did_you_mean(name, known)}")


def shipped_studies() -> dict[str, Path]:
    """Give the studies that ship, by name."""
    folder = Path(str(importlib.resources.files("pege") / "assets" / "reproduce"))
    return {p.stem: p for p in sorted(folder.glob("*.yaml"))}


def load_study(name: str) -> Study:
    """Load a study that ships, by its name, or a YAML file.

    Raises:
        InputError: neither; a field that does not fit.
    """
    known = shipped_studies()
    path = known.get(name, Path(name))
    if name not in known and not path.is_file():
        raise InputError(f"no study {name!r}", fix=did_you_mean(name, known))
    try:
        return Study.model_validate(read_yaml(path))
    except ValidationError as e:
        raise InputError(why_invalid(e), where=path, fix="see docs/reproduce.md") from e
