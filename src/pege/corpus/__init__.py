"""Raw dialogs to a corpus: sources, cleaning, the filters of the paper, the plan that runs them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pege.corpus.config import CorpusConfig
from pege.corpus.read import corpus_rows, corpus_stats
from pege.corpus.readers import READERS, read_raw

if TYPE_CHECKING:
    from pege.corpus.build import build_corpus

__all__ = ["READERS", "CorpusConfig", "build_corpus", "corpus_rows", "corpus_stats", "read_raw"]


def __getattr__(name: str) -> Any:
    if name == "build_corpus":  # it loads daft
        from pege.corpus.build import build_corpus

        return build_corpus
    raise AttributeError(name)
