"""Safety: the crisis check that runs before any model, and the fixed text it answers with.

No model library is imported. Recall first; docs/safety.md says what it misses. A hit is never answered by a model.
"""

from pege.safety.check import (
    Crisis,
    DialogJudgement,
    Judgement,
    check_crisis,
    check_dialog,
    check_phrases,
    judge,
    judge_dialog,
)
from pege.safety.help import help_for, help_text
from pege.safety.phrases import KINDS, Kind

__all__ = [
    "KINDS",
    "Crisis",
    "DialogJudgement",
    "Judgement",
    "Kind",
    "check_crisis",
    "check_dialog",
    "check_phrases",
    "help_for",
    "help_text",
    "judge",
    "judge_dialog",
]
