"""A dialog as the page holds it: the utterances, and what is shown beside each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from pege.agent.guarded import CHECK_FAILED
from pege.dialog import MAX_UTTERANCE_CHARS, Context, Dialog, Emotion, Utterance
from pege.io import is_unicode

Stage = Literal["empathy", "elicitation", "off"]
_STAGES = get_args(Stage)
_Content = Annotated[str, StringConstraints(max_length=MAX_UTTERANCE_CHARS, pattern=r"\S")]
MAX_NAME_CHARS = 120
_AUTO_NAME_CHARS = 60


class Shown(BaseModel):
    """What is shown beside an utterance.

    Attributes:
        valence: of its words, in [0, 1]; None without a word of the lexicon.
        emotion: of the first utterance of a dialog.
        kind: ``crisis`` (the fixed text with help lines), ``refused`` (fixed text instead of the model's), ``stopped``.
        stage: of guidance at this response.
        weight: of Eq. 2 and 3 at this response, in [-1, 1].
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    valence: float | None = Field(default=None, ge=0, le=1)
    emotion: Emotion | None = None
    kind: Literal["", "crisis", "refused", "stopped"] = ""
    stage: Stage | None = None
    weight: float | None = Field(default=None, ge=-1, le=1)


class Said(BaseModel):
    """An utterance of the page."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    content: _Content
    shown: Shown = Shown()

    @model_validator(mode="after")
    def _can_be_written(self) -> Said:
        if "\0" in self.content or not is_unicode(self.content):
            raise ValueError("holds what is no character")
        return self


class Talk(BaseModel):
    """A dialog of a page, the user's utterance first, the sides in turn.

    Attributes:
        said: the utterances.
        key: of the dialog where it is kept already.
        version: that the page has seen.
        keep: whether the person wants it kept.
        had_crisis: whether the dialog had one, also in an utterance that was edited away.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    said: tuple[Said, ...] = Field(min_length=1)
    key: str | None = Field(default=None, max_length=32)
    version: int = Field(default=0, ge=0, lt=2**31)
    keep: bool = False
    had_crisis: bool = False

    @property
    def is_supportive(self) -> bool:
        """Whether guidance is off for the rest of the dialog."""
        return self.had_crisis or shows_crisis(self.said)

    @property
    def context(self) -> Context:
        """What the agent is asked with."""
        return Context(utterances=_utterances(self.said), is_supportive=self.is_supportive)

    def answered(self, text: str, *, kind: str | None, is_fixed: bool, extras: dict[str, Any]) -> Talk:
        """Give the talk with a response, and what is shown beside all utterances.

        Args:
            text: the response.
            kind: of the crisis, where it answers one.
            is_fixed: whether it is fixed text.
            extras: the ``pege`` field of the API.
        """
        emotion = extras["emotion"]
        said = [*self.said, Said(content=text)]
        valences = [None if vad is None else vad["valence"] for vad in extras["vad"]]
        said = [s.model_copy(update={"shown": s.shown.model_copy(update={"valence": v})})
                for s, v in zip(said, valences, strict=True)]  # fmt: skip
        first = said[0].shown.model_copy(update={"emotion": Emotion(**emotion) if emotion else None})
        guidance, is_hit = extras["guidance"], kind not in (None, CHECK_FAILED)
        last = Shown(
            valence=valences[-1],
            kind="crisis" if is_hit else "refused" if is_fixed else "",
            stage=None if kind == CHECK_FAILED else guidance["stage"] if guidance["stage"] in _STAGES else "off",
            weight=guidance["weight"],
        )
        said[0] = said[0].model_copy(update={"shown": first})
        said[-1] = said[-1].model_copy(update={"shown": last})
        talk = self.model_copy(update={"said": tuple(said)})
        return talk.model_copy(update={"had_crisis": talk.is_supportive})


def shows_crisis(said: Sequence[Said]) -> bool:
    """Whether a response among the utterances says that the dialog had a crisis."""
    return any(s.shown.kind == "crisis" or s.shown.stage == "off" for s in said)


def name_of(first: str) -> str:
    """The name of a dialog that nobody has named: how its first utterance begins."""
    text = " ".join(first.split())
    return text if len(text) <= _AUTO_NAME_CHARS else text[: _AUTO_NAME_CHARS - 1].rstrip() + "…"


def row_of(key: str, name: str, said: tuple[Said, ...]) -> Dialog:
    """A kept dialog as the row that `pege corpus build` reads."""
    return Dialog(id=key, source="web-chat", messages=_utterances(said), emotion=said[0].shown.emotion, name=name)  # type: ignore[call-arg]  # further fields are kept


def _utterances(said: tuple[Said, ...]) -> tuple[Utterance, ...]:
    return tuple(Utterance(role="assistant" if k % 2 else "user", content=s.content) for k, s in enumerate(said))
