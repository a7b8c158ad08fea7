"""The design of a study: one YAML (docs/study.md)."""

from __future__ import annotations

import functools
import importlib.resources
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator

from pege.errors import InputError, did_you_mean
from pege.io import read_yaml, why_invalid

Language = Literal["en", "zh"]
Key = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
SystemName = Annotated[str, StringConstraints(pattern=r"^[^\s/\\,\"'=:#][^/\\,\"'=:#\n]{0,59}$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=5_000)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, given: Any) -> Any:
        """A key that is misspelt is named before what is missing for it."""
        for key in given if isinstance(given, dict) else ():
            if key not in cls.model_fields:
                raise ValueError(f"no key is called {key!r}; {did_you_mean(str(key), cls.model_fields)}")
        return given


class Words(_Strict):
    """A text in the languages of the pages; where one is missing the other is shown."""

    en: Text | None = None
    zh: Text | None = None

    @model_validator(mode="after")
    def _one_at_least(self) -> Words:
        if self.en is None and self.zh is None:
            raise ValueError("a text needs en, zh or both")
        return self

    def of(self, language: str) -> str:
        """The text in a language, else in the other."""
        return (self.zh or self.en if language == "zh" else self.en or self.zh) or ""


class Metric(_Strict):
    """What is asked about an utterance of the agent, or about a whole dialog.

    Attributes:
        name: of the metric in results.
        level: asked of each agent utterance, or once of the dialog.
        title: short, beside the answers.
        question: what the rater answers.
        explanation: the instruction.
        values: whole numbers that can be given, in order; ``[0, 1]`` is no and yes.
        labels: of the values, one for each; no and yes, or the numbers, where there are none.
        asked_if: metric of the dialog -> value; asked only where that was given, else ``otherwise`` holds.
        otherwise: the value where it is not asked.
        measure: level of measurement for Krippendorff's alpha.
    """

    name: Key
    level: Literal["utterance", "dialog"]
    title: Words
    question: Words
    explanation: Words
    values: tuple[int, ...] = (0, 1)
    labels: tuple[Words, ...] = ()
    asked_if: dict[Key, int] = Field(default={}, max_length=1)
    otherwise: int = 0
    measure: Literal["nominal", "ordinal", "interval"] = "nominal"

    @model_validator(mode="after")
    def _fits(self) -> Metric:
        if not 2 <= len(self.values) <= 9:
            raise ValueError("values: from 2 to 9 of them")
        if list(self.values) != sorted(set(self.values)):
            raise ValueError("values: rising, each once")
        if self.labels and len(self.labels) != len(self.values):
            raise ValueError("labels: one for each value, or none")
        if self.asked_if and self.level == "utterance":
            raise ValueError("asked_if: only for metrics of the dialog")
        return self

    @property
    def is_binary(self) -> bool:
        """Whether the values are no and yes."""
        return self.values == (0, 1)


class Question(_Strict):
    """One question of an A/B comparison (ACUTE-Eval)."""

    name: Key
    title: Words
    question: Words


class Comparison(_Strict):
    """Two dialogs from one starter side by side; which is better?

    Attributes:
        questions: asked of each pair.
        pairs: of system names; all pairs where none are named.
        n_dialogs: starters for each pair of systems; as many as the study has, unless named.
        allow_tie: whether "no difference" can be answered.
    """

    questions: tuple[Question, ...] = Field(min_length=1, max_length=5)
    pairs: tuple[tuple[SystemName, SystemName], ...] = ()
    n_dialogs: Annotated[int, Field(ge=1)] | None = None
    allow_tie: bool = False


class PracticeItem(_Strict):
    """A dialog to try, and how it should be answered.

    Attributes:
        texts: utterances, the user's first, then in turns.
        answers: metric -> place of the agent's utterance, from 1 (0: the whole dialog) -> value, and why.
    """

    texts: tuple[Text, ...] = Field(min_length=2, max_length=40)
    answers: dict[Key, dict[Annotated[int, Field(ge=0)], tuple[int, Text]]] = Field(min_length=1)

    @property
    def places(self) -> tuple[int, ...]:
        """Places of the agent's utterances that are asked about."""
        return tuple(sorted({place for each in self.answers.values() for place in each} - {0}))


class Practice(_Strict):
    """A practice item in the languages of the pages; where one is missing the other is shown."""

    en: PracticeItem | None = None
    zh: PracticeItem | None = None

    def of(self, language: str) -> PracticeItem | None:
        """The item in a language, else in the other."""
        return self.zh or self.en if language == "zh" else self.en or self.zh

    @property
    def items(self) -> list[PracticeItem]:
        """Those there are."""
        return [i for i in (self.en, self.zh) if i]

    def check(self, metrics: Mapping[str, Metric]) -> None:
        """Check that the answers are ones that the metrics can be given.

        Raises:
            ValueError: they are not.
        """
        if not self.items:
            raise ValueError("practice: needs en, zh or both")
        if any(i.answers.keys() != self.items[0].answers.keys() for i in self.items):
            raise ValueError("practice: en and zh answer other metrics")
        for item in self.items:
            for name, answers in item.answers.items():
                metric = metrics.get(name)
                if metric is None:
                    raise ValueError(f"practice: {name!r} is no metric of this study; {did_you_mean(name, metrics)}")
                places = set(item.places) if metric.level == "utterance" else {0}
                if answers.keys() != places or max(places) > len(item.texts) // 2:
                    raise ValueError(
                        f"practice: {name} is asked of each {metric.level}: answers at {sorted(answers)}, not at "
                        f"{sorted(places)} of {len(item.texts) // 2} responses"
                    )
                if bad := [value for value, _ in answers.values() if value not in metric.values]:
                    raise ValueError(f"practice: {name}: {bad[0]} is none of its values")
                if not metric.asked_if.keys() <= item.answers.keys():
                    raise ValueError(f"practice: {name} hangs on a metric that has no answer here")


class Design(_Strict):
    """The config of a study.

    Attributes:
        title: raters see it.
        systems: name -> self-chat file; relative paths start at the YAML's folder. Raters never see the names.
        n_dialogs: of each system, the same starters for all, picked by seed.
        n_utterances: how many of a dialog's agent utterances are rated, the same places for all systems; 0: all.
        seed: of the pick and of every order.
        metrics: names of ours (coherence, informativeness, guidance, empathy) or whole definitions; all of ours unless
            named; ``[]`` where only pairs are compared.
        comparison: an A/B comparison, beside the metrics or alone.
        raters_per_item: ratings wanted of each item.
        items_per_rater: at most; 0: no limit.
        check_every: an attention check among so many items; 0: none.
        practice: whether our practice item comes first, for those of our metrics that are asked; or one of your own.
        consent: what the rater agrees to; ours unless given.
        contact: whom raters can write to.
        language: of the pages at first; the rater can switch.
        link_days: a personal link holds so long.
        hold_hours: an item that a rater has begun and left is given to others after so long.
    """

    title: Words = Words(en="How good are these conversations?", zh="这些对话怎么样？")
    systems: dict[SystemName, Path] = Field(min_length=1, max_length=50)
    n_dialogs: Annotated[int, Field(ge=1, le=10_000)] = 50
    n_utterances: Annotated[int, Field(ge=0)] = 0
    seed: Annotated[int, Field(ge=0)] = 0
    metrics: tuple[Metric, ...] = ()
    comparison: Comparison | None = None
    raters_per_item: Annotated[int, Field(ge=1, le=100)] = 3
    items_per_rater: Annotated[int, Field(ge=0)] = 0
    check_every: Annotated[int, Field(ge=0)] = 20
    practice: bool | Practice = True
    consent: Words | None = None
    contact: Annotated[str, StringConstraints(max_length=200)] = ""
    language: Language = "en"
    link_days: Annotated[float, Field(gt=0, le=3650)] = 30
    hold_hours: Annotated[float, Field(gt=0)] = 24

    @model_validator(mode="before")
    @classmethod
    def _ours_unless_named(cls, given: Any) -> Any:
        if isinstance(given, dict) and "metrics" not in given:
            return {**given, "metrics": list(own_metrics())}
        return given

    @field_validator("metrics", mode="before")
    @classmethod
    def _by_name(cls, given: Any) -> Any:
        if not isinstance(given, (list, tuple)):
            return given
        for name in given:
            if isinstance(name, str) and name not in own_metrics():
                raise ValueError(f"{name!r} is none of ours; {did_you_mean(name, own_metrics())}")
        return [own_metrics()[m] if isinstance(m, str) else m for m in given]

    @model_validator(mode="after")
    def _hangs_together(self) -> Design:
        names = [m.name for m in self.metrics]
        names += [q.name for q in self.comparison.questions] if self.comparison else []
        if not names:
            raise ValueError("neither metrics nor a comparison")
        if twice := {n for n in names if names.count(n) > 1}:
            raise ValueError(f"two metrics are called {min(twice)!r}")
        earlier: dict[str, Metric] = {}
        for metric in self.metrics:
            for name, value in metric.asked_if.items():
                if name not in earlier or value not in earlier[name].values:
                    raise ValueError(
                        f"{metric.name}: asked_if: {name}: {value} is no answer of an earlier dialog metric"
                    )
            if metric.level == "dialog":
                earlier[metric.name] = metric
        if isinstance(self.practice, Practice):
            self.practice.check({m.name: m for m in self.metrics})
        if self.comparison:
            if len(self.systems) < 2:
                raise ValueError("comparison: needs two systems")
            if "tie" in self.systems:
                raise ValueError("comparison: no system is called 'tie', which is an answer")
            for pair in self.comparison.pairs:
                if pair[0] == pair[1] or not set(pair) <= self.systems.keys():
                    raise ValueError(f"comparison: pairs: {' and '.join(pair)} are no two systems of this study")
        return self

    def metrics_of(self, level: str) -> list[Metric]:
        """The metrics of a level, in order."""
        return [m for m in self.metrics if m.level == level]


@functools.cache
def own_metrics() -> dict[str, dict[str, Any]]:
    """Our metrics by name, as in a design: the paper's four, with instructions in English and Chinese."""
    source = importlib.resources.files("pege") / "assets" / "study" / "metrics.yaml"
    return {m["name"]: m for m in yaml.safe_load(source.read_text(encoding="utf-8"))}


@functools.cache
def own_practice() -> Practice:
    """Our practice item."""
    source = importlib.resources.files("pege") / "assets" / "study" / "practice.yaml"
    return Practice.model_validate(yaml.safe_load(source.read_text(encoding="utf-8")))


def practice_metrics(design: Design) -> tuple[Metric, ...]:
    """What a study's practice item asks: nothing where there is none."""
    if isinstance(design.practice, Practice):
        return tuple(m for m in design.metrics if m.name in design.practice.items[0].answers)
    ours = {n: (m["level"], m.get("values", [0, 1])) for n, m in own_metrics().items()}
    fitting = [m for m in design.metrics if ours.get(m.name) == (m.level, list(m.values))]
    names = {m.name for m in fitting if design.practice}
    return tuple(m for m in fitting if design.practice and m.asked_if.keys() <= names)


def read_design(path: Path) -> Design:
    """Read a design; relative files in it are made to start at its folder.

    Raises:
        InputError: a missing or broken YAML, a value that does not fit.
    """
    given = read_yaml(path)
    try:
        design = Design.model_validate(given)
    except ValidationError as e:
        raise InputError(why_invalid(e), where=path, fix="docs/study.md lists what a design holds") from e
    return design.model_copy(update={"systems": {n: path.parent / f for n, f in design.systems.items()}})


def as_yaml(design: Design) -> str:
    """A design as it is kept in the study's folder, all values resolved."""
    return yaml.safe_dump(design.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
