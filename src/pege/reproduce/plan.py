"""A study as steps: each a `pege` command with what it needs and the file that it leaves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pege.errors import InputError, did_you_mean
from pege.reproduce.config import Base, Row, Study

#: minutes of a step where a base names none
_MINUTES = {
    "corpus": 3.0,
    "train": 15.0,
    "prefer": 20.0,
    "chat": 5.0,
    "respond": 5.0,
    "perplexity": 1.0,
    "score": 0.5,
    "static": 0.5,
}
#: kinds of steps that a GPU speeds up
KINDS_WITH_MODEL = frozenset({"train", "prefer", "chat", "score", "respond", "perplexity"})


@dataclass(frozen=True)
class Step:
    """One command of a study.

    Attributes:
        name: e.g. ``train/plato-mini/PEGE/0``.
        arguments: of `pege`.
        needs: names of the steps before it.
        output: what is there when it is done.
        takes_stdout: whether ``output`` is what the command prints.
        config: file and content of a config that the command reads, written before it runs.
        minutes: estimated.
    """

    name: str
    arguments: tuple[str, ...]
    output: Path
    needs: tuple[str, ...] = ()
    takes_stdout: bool = False
    config: tuple[Path, Mapping[str, Any]] | None = field(default=None, compare=False)
    minutes: float = 1.0

    @property
    def kind(self) -> str:
        """``corpus``, ``train``, ``prefer``, ``chat``, ``score``, ``respond``, ``static`` or ``perplexity``."""
        return self.name.split("/")[0]

    def config_text(self) -> str:
        """Give the config as YAML, empty without one."""
        return "" if self.config is None else yaml.safe_dump(dict(self.config[1]), sort_keys=False, allow_unicode=True)


def plan_study(study: Study, output: Path, data: Path, *, bases: Sequence[str] = ()) -> list[Step]:
    """Give the steps of a study, each after those it needs.

    Args:
        study: what is run.
        output: the study's folder.
        data: where the inputs of corpora and the lexicons lie.
        bases: whose rows; all unless named.

    Raises:
        InputError: a base that is not there; a row whose data its base has no corpus of.
    """
    for name in bases:
        if name not in study.bases:
            raise InputError(f"no base {name!r}", where=study.name, fix=did_you_mean(name, study.bases))
    chosen = tuple(bases) or tuple(study.bases)
    steps = [_corpus_step(study, name, output, data) for name in corpora_in_use(study, chosen)]
    for row in _in_order(study):
        for base in (b for b in study.bases_of(row) if b in chosen):
            for seed in study.seeds_of(row):
                steps += _row_steps(_Place(study, row, base, seed, output, data))
    return steps


def _in_order(study: Study) -> list[str]:
    """Rows that others are like, or are trained from, come first."""
    return sorted(study.rows, key=lambda name: study.rows[name].like is not None)


def corpora_in_use(study: Study, bases: Sequence[str]) -> list[str]:
    """Name the corpora that the rows of some bases need."""
    pairs = ((study.bases[b], study.rows[r].data) for r in study.rows for b in study.bases_of(r) if b in bases)
    named = [base.corpora[kind] for base, kind in pairs if kind in base.corpora]
    named += [study.bases[b].corpora["filtered"] for b in bases if "filtered" in study.bases[b].corpora]
    return list(dict.fromkeys(named))


def _corpus_step(study: Study, name: str, output: Path, data: Path) -> Step:
    settings = dict(study.corpora[name])
    settings["input"] = [in_data(i, data) for i in settings.get("input", ())]
    config, folder = output / "configs" / f"corpus.{name}.yaml", output / "corpora" / name
    arguments = ("corpus", "build", "--config", str(config), "--output", str(folder))
    return Step(
        f"corpus/{name}", arguments, folder / "report.json", config=(config, settings), minutes=_MINUTES["corpus"]
    )


def in_data(path: str, data: Path) -> str:
    """Give an input as `pege corpus build` takes it: in the data folder, unless it is elsewhere."""
    is_elsewhere = path == "chitchat" or path.startswith("hf:") or "://" in path or Path(path).is_absolute()
    return path if is_elsewhere else str(data / path)


@dataclass(frozen=True)
class _Place:
    """A row on a base with a seed."""

    study: Study
    row_name: str
    base_name: str
    seed: int
    output: Path
    data: Path

    @property
    def row(self) -> Row:
        return self.study.rows[self.row_name]

    @property
    def base(self) -> Base:
        return self.study.bases[self.base_name]

    @property
    def label(self) -> str:
        return f"{self.base_name}/{self.row_name}/{self.seed}"

    @property
    def folder(self) -> Path:
        return run_folder(self.output, self.base_name, self.row_name, self.seed)

    def corpus(self, kind: str) -> tuple[str, Path]:
        """Name of the step that builds it, and its folder."""
        name = self.base.corpora.get(kind)  # type: ignore[call-overload]
        if name is None:
            raise InputError(f"has no {kind} corpus, which {self.row_name} needs", where=f"bases.{self.base_name}")
        return f"corpus/{name}", self.output / "corpora" / name

    def minutes(self, kind: str) -> float:
        return float(self.base.minutes.get(kind, _MINUTES[kind]))


def run_folder(output: Path, base: str, row: str, seed: int) -> Path:
    """Give the folder of a row's run."""
    return output / "runs" / base / row.replace(" ", "-") / str(seed)


def _row_steps(place: _Place) -> Iterator[Step]:
    row, speaker = place.row, place.base.model
    needs: tuple[str, ...] = ()
    if row.train is not None:
        step = _train_step(place)
        yield step
        speaker, needs = str(place.folder), (step.name,)
    elif row.like is not None:
        speaker, needs = _run_of(place, row.like)
        if row.prefer is not None:
            step = _prefer_step(place, speaker, needs)
            yield step
            speaker, needs = str(place.folder), (step.name,)
    elif row.agent is not None:
        speaker, needs = _without_model(place, row.agent)
    yield from _chat_steps(place, speaker, needs)
    if place.study.n_static and place.seed == place.study.seeds[0]:
        yield from _static_steps(place, speaker, needs)


def _run_of(place: _Place, row: str) -> tuple[str, tuple[str, ...]]:
    """The run of another row with the same base and seed, and what makes it."""
    if place.study.rows[row].train is None:
        return place.base.model, ()
    other = _Place(place.study, row, place.base_name, place.seed, place.output, place.data)
    return str(other.folder), (f"train/{other.label}",)


def _without_model(place: _Place, agent: str) -> tuple[str, tuple[str, ...]]:
    if agent != "trivial:random":
        return agent, ()
    corpus, folder = place.corpus("filtered")
    return f"{agent}#{folder / 'train'}", (corpus,)


def _train_step(place: _Place) -> Step:
    corpus, folder = place.corpus(place.row.data)
    held_out, held_out_folder = place.corpus("filtered")
    settings: dict[str, Any] = {
        "model": place.base.model,
        "data": [str(folder / "train")],
        "validation": [str(held_out_folder / "validation")],
        "seed": place.seed,
        **_merged(place.base.train, place.row.train or {}),
    }
    config = place.output / "configs" / f"{place.label.replace('/', '.').replace(' ', '-')}.yaml"
    arguments = ("train", "--config", str(config), "--output_dir", str(place.folder))
    return Step(
        f"train/{place.label}", arguments, place.folder / "done", tuple(dict.fromkeys((corpus, held_out))),
        config=(config, settings), minutes=place.minutes("train"),
    )  # fmt: skip


def _prefer_step(place: _Place, speaker: str, needs: tuple[str, ...]) -> Step:
    corpus, folder = place.corpus("filtered")
    flags = {
        "agent": speaker, "user": place.base.user or place.base.model, "starters": folder / "train", "seed": place.seed,
        "lexicon": f"pege-{place.base.language}", **place.base.chat, **(place.row.prefer or {}),
    }  # fmt: skip
    arguments = ("prefer", *_flags(flags), "--output", str(place.folder))
    name, needs = f"prefer/{place.label}", tuple(dict.fromkeys((*needs, corpus)))
    return Step(name, arguments, place.folder / "done", needs, minutes=place.minutes("prefer"))


def _merged(base: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """The row's fields over the base's; mappings within are merged alike."""
    both = dict(base)
    for key, value in row.items():
        inner = both.get(key)
        both[key] = _merged(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
    return both


def _chat_steps(place: _Place, speaker: str, needs: tuple[str, ...]) -> Iterator[Step]:
    study, base, folder = place.study, place.base, place.folder
    chat, scores = folder / "selfchat.jsonl", folder / "score.json"
    flags = {
        "agent": speaker, "user": base.user or base.model, "starters": base.language, "turns": study.n_turns,
        "seed": place.seed, "batch-size": study.batch_size,
        **({"n-starters": study.n_starters} if study.n_starters else {}), **base.chat, **place.row.chat,
    }  # fmt: skip
    arguments = ("selfchat", *_flags(flags), "--output", str(chat))
    yield Step(f"chat/{place.label}", arguments, chat, needs, minutes=place.minutes("chat"))
    extra = {"lexicon": f"pege-{base.language}", "language": base.language}
    if base.unseen_lexicon:
        extra["unseen-lexicon"] = in_data(base.unseen_lexicon, place.data)
    if base.classifier:
        extra["classifier"] = base.classifier
    judges = ("--judges", *base.judges) if base.judges else ()
    per_dialog = ("--per-dialog", str(folder / "scores.jsonl"))
    arguments = ("score", str(chat), *_flags(extra), *judges, *per_dialog, "--json")
    yield Step(f"score/{place.label}", arguments, scores, (f"chat/{place.label}",), True, minutes=_MINUTES["score"])


def _static_steps(place: _Place, speaker: str, needs: tuple[str, ...]) -> Iterator[Step]:
    corpus, folder = place.corpus("filtered")
    rows, answers = str(folder / "validation"), place.folder / "answers.jsonl"
    needs = tuple(dict.fromkeys((*needs, corpus)))
    n = {"n-dialogs": place.study.n_static}
    decoding = {k: v for k, v in {**place.base.chat, **place.row.chat}.items() if k != "batch-size"}
    arguments = ("respond", *_flags({"agent": speaker, "data": rows, **n, **decoding}), "--output", str(answers))
    yield Step(f"respond/{place.label}", arguments, answers, needs, minutes=place.minutes("respond"))
    arguments = ("score", str(answers), "--references", rows, "--language", place.base.language, "--json")
    static = place.folder / "static.json"
    minutes = _MINUTES["static"]
    yield Step(f"static/{place.label}", arguments, static, (f"respond/{place.label}",), True, minutes=minutes)
    if place.row.agent is None and "guide" not in decoding:  # guided, a model has another one
        arguments = ("perplexity", *_flags({"model": speaker, "data": rows, **n}), "--json")
        minutes = place.minutes("perplexity")
        perplexity = place.folder / "perplexity.json"
        yield Step(f"perplexity/{place.label}", arguments, perplexity, needs, True, minutes=minutes)


def _flags(values: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(x for k, v in values.items() for x in (f"--{k}", str(v)))
