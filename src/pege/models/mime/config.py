"""Shape of MIME: its layers, its emotions and their two groups."""

from __future__ import annotations

from typing import Any, Literal

from pege.models.listener_layers import ListenerConfig

#: The 32 emotions of EmpatheticDialogues, in the order of the original's classes.
EMOTIONS = (
    "surprised", "excited", "annoyed", "proud", "angry", "sad", "grateful", "lonely", "impressed", "afraid",
    "disgusted", "confident", "terrified", "hopeful", "anxious", "disappointed", "joyful", "prepared", "guilty",
    "furious", "nostalgic", "jealous", "anticipating", "embarrassed", "content", "devastated", "sentimental", "caring",
    "trusting", "ashamed", "apprehensive", "faithful",
)  # fmt: skip
#: The original's two groups of them, 13 and 19.
POSITIVE_EMOTIONS = (
    "confident", "joyful", "grateful", "impressed", "proud", "excited", "trusting", "hopeful", "faithful", "prepared",
    "content", "surprised", "caring",
)  # fmt: skip
NEGATIVE_EMOTIONS = (
    "afraid", "angry", "annoyed", "anticipating", "anxious", "apprehensive", "ashamed", "devastated", "disappointed",
    "disgusted", "embarrassed", "furious", "guilty", "jealous", "lonely", "nostalgic", "sad", "sentimental",
    "terrified",
)  # fmt: skip
#: The emotions of this project's rows; neutral is in neither group.
THREE_EMOTIONS = ("negative", "neutral", "positive")


class MimeConfig(ListenerConfig):
    """Shape, emotions and token ids of a MIME model; the defaults are those of the original's plain ``python main.py``.

    ``n_emotions`` follows from ``emotions``. Where ``sum_over_tokens`` is on, the KL is a sum over the batch too.

    Attributes:
        latent_size: Z, of the variable that a mixture of emotions is drawn with.
        fusion: how the two readings of the context become one: ``gate`` or ``attention``.
        emotions: names of the classes, in their order.
        positive_emotions: names of one group.
        negative_emotions: names of the other. A class in neither goes, dialog by dialog, with the likelier group.
    """

    model_type = "mime"

    latent_size: int = 300
    fusion: Literal["gate", "attention"] = "gate"
    emotions: list[str] | tuple[str, ...] = EMOTIONS
    positive_emotions: list[str] | tuple[str, ...] = POSITIVE_EMOTIONS
    negative_emotions: list[str] | tuple[str, ...] = NEGATIVE_EMOTIONS

    def __post_init__(self, **kwargs: Any) -> None:
        self.emotions, self.positive_emotions = list(self.emotions), list(self.positive_emotions)
        self.negative_emotions, self.n_emotions = list(self.negative_emotions), len(self.emotions)
        groups = (*self.positive_emotions, *self.negative_emotions)
        if unknown := sorted(set(groups) - set(self.emotions)):
            raise ValueError(f"grouped emotions that are no classes: {', '.join(unknown)}")
        if not self.positive_emotions or not self.negative_emotions:
            raise ValueError("a group without an emotion")
        if len(set(groups)) < len(groups) or len(set(self.emotions)) < len(self.emotions):
            raise ValueError("an emotion stands twice; each is one class, in one group or none")
        if self.fusion not in ("gate", "attention"):
            raise ValueError(f"fusion {self.fusion!r} is neither 'gate' nor 'attention'")
        super().__post_init__(**kwargs)

    @classmethod
    def of_three(cls, **more: Any) -> MimeConfig:
        """Give the shape for rows with three emotion probabilities: negative, neutral, positive."""
        groups = {"positive_emotions": ["positive"], "negative_emotions": ["negative"]}
        return cls(**{"emotions": list(THREE_EMOTIONS), **groups, **more})

    def classes_of(self, names: list[str] | tuple[str, ...]) -> list[int]:
        """Give the classes of some names."""
        return [list(self.emotions).index(name) for name in names]

    @property
    def ungrouped(self) -> list[int]:
        """Classes in neither group."""
        grouped = {*self.positive_emotions, *self.negative_emotions}
        return self.classes_of([e for e in self.emotions if e not in grouped])
