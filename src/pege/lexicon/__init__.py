"""VAD lexicons: load, extend to a vocabulary, report coverage (design sec. 3)."""

from pege.lexicon.coverage import compare_lexicons, text_coverage, token_coverage
from pege.lexicon.extend import TokenVad, cached_token_vad, extend_lexicon
from pege.lexicon.load import Lexicon, load_lexicon, mean_vad, positive_anchor

__all__ = [
    "Lexicon",
    "TokenVad",
    "cached_token_vad",
    "compare_lexicons",
    "extend_lexicon",
    "load_lexicon",
    "mean_vad",
    "positive_anchor",
    "text_coverage",
    "token_coverage",
]
