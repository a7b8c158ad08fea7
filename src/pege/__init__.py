"""pege: multi-turn empathetic dialog with positive emotion elicitation.

The public names are imported when first used, so that ``import pege`` stays cheap and never imports torch.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Dialog": "pege.dialog",
    "InputError": "pege.errors",
    "load_lexicon": "pege.lexicon",
    "extend_lexicon": "pege.lexicon",
    "load_emotion_classifier": "pege.emotion",
    "pege_loss": "pege.loss",
    "PegeTrainer": "pege.training",
    "score_dialogs": "pege.metrics",
}
__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'pege' has no attribute {name!r}")
