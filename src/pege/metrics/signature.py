"""The string that pins a score: whoever has it and the dialogs can compute the same number."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from pege import __version__
from pege.lexicon import Lexicon
from pege.metrics.ratings import Rating
from pege.words import segmenter_name


def pege_signature(lexicon: Lexicon, language: str, *, oov: str = "skip", agg: str = "mean") -> str:
    """Signature of PEG-, E- and PEGE-Score, e.g. ``pege|lex:pege-en-1|seg:words-en|oov:skip|agg:mean|...``."""
    parts = [
        "pege",
        f"lex:{lexicon.name}-{lexicon.version}",
        *(["range:{:g}..{:g}".format(*lexicon.given_range)] if lexicon.given_range else []),
        *([f"dims:{lexicon.dimensions}"] if lexicon.dimensions != "vad" else []),
        f"seg:{segmenter_name(language)}",
        f"oov:{oov}",
        f"agg:{agg}",
        "ref:lexicon",
        "half:paper",
        f"v:{__version__}",
    ]
    return "|".join(parts)


def distinct_signature(language: str) -> str:
    """Signature of Distinct-1/2."""
    return f"distinct|seg:{segmenter_name(language)}|level:corpus|side:agent|v:{__version__}"


def classifier_signature(name: str, threshold: float) -> str:
    """Signature of the share of dialogs that end positive."""
    return f"positive-end|classifier:{name}|utterance:last-user|p>{threshold:g}|v:{__version__}"


def ratings_signature(ratings: Sequence[Rating]) -> str:
    """Signature of human ratings; ``data`` is of what was said, whatever the order of the lines."""
    said = sorted((r.id, r.rater, r.scale, r.rating) for r in ratings)
    digest = hashlib.sha256(repr(said).encode()).hexdigest()
    n_raters = len({r.rater for r in ratings})
    return f"ratings|data:{digest[:8]}|n:{len(ratings)}|raters:{n_raters}|per-dialog:mean|v:{__version__}"
