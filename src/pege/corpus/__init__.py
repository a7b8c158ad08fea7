"""Raw dialogs to a corpus: readers, filters, build."""

from pege.corpus.build import CorpusConfig, build_corpus, corpus_stats
from pege.corpus.readers import READERS, read_raw

__all__ = ["READERS", "CorpusConfig", "build_corpus", "corpus_stats", "read_raw"]
