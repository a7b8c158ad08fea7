"""Safety: the crisis check that runs before any model, and the fixed text it answers with. No model library is imported.

Recall first; docs/safety.md says what it misses. A hit is never answered by a model.
"""

from pege.safety.check import KINDS, Crisis, Judgement, Kind, check_crisis, check_dialog, judge
from pege.safety.help import help_for, help_text

__all__ = [
    "KINDS",
    "Crisis",
    "Judgement",
    "Kind",
    "check_crisis",
    "check_dialog",
    "help_for",
    "help_text",
    "judge",
]
