"""The config of a training run: one YAML, one frozen model, defaults here and nowhere else."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, get_type_hints

from cyclopts import Parameter
from peft import LoraConfig
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    create_model,
    model_validator,
)
from transformers import GenerationConfig, TrainingArguments

_STRICT = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


def _truth(value: Any) -> Any:
    """Flags arrive as text: ``true`` and ``false`` are truth values; ``no`` stays a word, as in save_strategy."""
    return {"true": True, "false": False}.get(value.lower(), value) if isinstance(value, str) else value


Scalar = Annotated[StrictBool | int | float | str, Field(union_mode="left_to_right"), BeforeValidator(_truth)]


def _must_be(words: str, *kinds: type) -> AfterValidator:
    def check(value: Any) -> Any:
        if value is not None and type(value) not in kinds:  # a truth value is no number
            raise ValueError(f"{value!r} is not {words}")
        return value

    return AfterValidator(check)


_CHECKS: dict[Any, AfterValidator] = {
    int: _must_be("a whole number", int),
    float: _must_be("a number", int, float),
    bool: _must_be("true or false", bool),
}
_CHECKS |= {kind | None: check for kind, check in _CHECKS.items()}
_LISTS = (list[str] | None, list[int] | None)


def _settings(name: str, names: Iterable[str], doc: str, kinds: Mapping[str, Any] | None = None) -> Any:
    """Make a model whose fields bear another library's names; unset fields stay with that library's defaults.

    Args:
        name: of the model.
        names: of its fields.
        doc: of the model.
        kinds: that library's types of some fields; numbers, truth values and lists are checked.
    """
    fields: dict[str, Any] = {}
    for n in (n for n in names if not n.startswith("_")):
        kind: Any = (kinds or {}).get(n)
        checked = Annotated[Scalar | None, _CHECKS[kind]] if kind in _CHECKS else Scalar | None
        fields[n] = (kind if kind in _LISTS else checked, None)
    return create_model(name, __config__=_STRICT, __doc__=doc, **fields)


#: ``TrainingArguments`` by their own names; what pege sets itself is left out
TrainingSettings = _settings(
    "TrainingSettings",
    [f.name for f in dataclasses.fields(TrainingArguments) if f.name not in ("output_dir", "seed", "data_seed")],
    "Fields of transformers.TrainingArguments.",
    get_type_hints(TrainingArguments),
)
GenerationSettings = _settings(
    "GenerationSettings", vars(GenerationConfig()), "Fields of transformers.GenerationConfig."
)
LoraSettings = _settings(
    "LoraSettings",
    [f.name for f in dataclasses.fields(LoraConfig) if f.name not in ("task_type", "base_model_name_or_path")],
    "Fields of peft.LoraConfig.",
    get_type_hints(LoraConfig)
    | dict.fromkeys(("target_modules", "exclude_modules", "modules_to_save"), list[str] | None)
    | {"layers_to_transform": list[int] | None},
)


class LossSettings(BaseModel):
    """The loss (Eq. 5): ``kind`` pege or target (ours, design sec. 4)."""

    model_config = _STRICT
    kind: Literal["pege", "target"] = "pege"
    """Eq. 5, or ours with a direction (design sec. 4)."""
    alpha: float = Field(5.0, ge=0)
    """Weight of L_peg (5, the paper's) or of L_target (0.5 unless given)."""
    beta: float = Field(2.0, ge=0)
    """Weight of L_ner (2, the paper's)."""
    period: int = Field(7, ge=1)
    """M of Eq. 2."""
    count: Literal["utterances", "turns"] = "utterances"
    """What c of Eq. 2 counts."""

    @model_validator(mode="before")
    @classmethod
    def _alpha_of_kind(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("kind") == "target":
            return {"alpha": 0.5, **value}
        return value


class TrainConfig(BaseModel):
    """All that a training run depends on; ``pege train --config RUN/config.yaml`` repeats it."""

    model_config = _STRICT
    model: str = "base"
    """`base`, a run folder, a model of the Hugging Face hub; or plato-mini, moel, mime with first weights."""
    tokenizer: str | None = None
    """Folder of `pege tokenizer`, or `base-plato` for its own, for a model with first weights."""
    word_vectors: str | None = None
    """What such a model's embeddings start from: a file in GloVe's format, or a model with the same tokens."""
    data: tuple[str, ...]
    """Files of rows to train on (docs/rows.md)."""
    n_dialogs: int | None = Field(None, ge=1)
    """At most so many dialogs of those files, drawn by the seed."""
    validation: tuple[str, ...] = ()
    """Files of rows for the validation loss and perplexity."""
    n_validation: int | None = Field(None, ge=1)
    """At most so many dialogs of those files, drawn by the seed."""
    lexicon: str = "pege-en"
    """A lexicon of ours or a file."""
    lexicon_range: tuple[float, float] | None = None
    """Scale of the lexicon's file, where it is not recognised."""
    shrinkage: float = Field(5.0, ge=0)
    """kappa of the lexicon's extension (design sec. 3)."""
    sides: Literal["agent", "both", "rest"] = "agent"
    """Whose utterances are learned; `both` makes a base-chat (design sec. 8), `rest` in one piece (docs/models.md)."""
    emotion_input: bool = True
    """p(positive | u1) and p(negative | u1) as text ahead of the first utterance (design sec. 5)."""
    max_length: int = Field(512, ge=16)
    """Tokens of a sample; where a dialog is longer, its oldest turns are dropped."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type of the loaded weights; LoRA's own are float32."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Of the order of dialogs, of dropout and of LoRA's first weights."""
    loss: LossSettings = Field(default_factory=LossSettings)  # type: ignore[arg-type]
    lora: Annotated[LoraSettings | None, Parameter(show=False)] = None  # type: ignore[valid-type]
    """Fields of peft.LoraConfig; without any, all weights are trained."""
    training: Annotated[TrainingSettings, Parameter(show=False)] = TrainingSettings()  # type: ignore[valid-type]
    """Fields of transformers.TrainingArguments."""
    generation: Annotated[GenerationSettings, Parameter(show=False)] = GenerationSettings()  # type: ignore[valid-type]
    """Fields of transformers.GenerationConfig, kept with the run for its agent."""

    def names_of(self, part: Literal["lora", "training", "generation"]) -> dict[str, Any]:
        """Give the names of another library that are set in a part."""
        settings: BaseModel | None = getattr(self, part)
        return {} if settings is None else settings.model_dump(exclude_none=True)

    def resolved(self) -> dict[str, Any]:
        """Give the config as plain values, unset names of other libraries left out."""
        return self.model_dump(mode="json", exclude_none=True)
