"""The scores: Eq. 7-9, BLEU, Distinct, intervals, and their signatures. No torch is imported here."""

from pege.metrics.pege import DialogScore, is_scorable, score_dialogs, utterance_vad
from pege.metrics.signature import pege_signature
from pege.metrics.table import Options, compare_table, language_of, score_table, text_rows
from pege.metrics.text import bleu, distinct
from pege.metrics.trajectory import valence_trajectory

__all__ = [
    "DialogScore",
    "Options",
    "bleu",
    "compare_table",
    "distinct",
    "is_scorable",
    "language_of",
    "pege_signature",
    "score_dialogs",
    "score_table",
    "text_rows",
    "utterance_vad",
    "valence_trajectory",
]
