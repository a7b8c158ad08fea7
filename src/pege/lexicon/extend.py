"""A lexicon extended to a tokenizer's vocabulary: the table O of Eq. 1-4 (design sec. 3)."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pege.errors import InputError
from pege.io import write_atomic
from pege.lexicon.load import Lexicon
from pege.words import guess_language

log = logging.getLogger(__name__)

WORD, PIECE, NEUTRAL = 1, 2, 3  # the three steps of design sec. 3
STEP_NAMES = {WORD: "word", PIECE: "piece", NEUTRAL: "neutral"}
_RAREST = 1e-9  # weight of a word that the frequency list lacks; its rarest has 1e-8
_BATCH = 20_000
_FORMAT = "2"  # part of the cache key: raise it when the rule changes


@dataclass(frozen=True)
class TokenVad:
    """VAD per token.

    Attributes:
        values: (V, 3) float32 in [0, 1].
        step: (V,) uint8: 1 a lexicon word, 2 a piece of lexicon words, 3 the neutral value.
        neutral: (3,) float32, the lexicon's mean.
    """

    values: NDArray[np.float32]
    step: NDArray[np.uint8]
    neutral: NDArray[np.float32]

    def shares(self) -> dict[str, float]:
        """Share of the vocabulary by step, in [0, 1]."""
        return {name: float((self.step == step).mean()) for step, name in STEP_NAMES.items()}

    def save(self, path: Path | str) -> None:
        """Write as safetensors, whole or not at all."""
        from safetensors.numpy import save_file

        tensors: dict[str, NDArray[Any]] = {"values": self.values, "step": self.step, "neutral": self.neutral}
        with write_atomic(path) as temporary:
            save_file(tensors, temporary)

    @classmethod
    def load(cls, path: Path | str) -> TokenVad:
        """Read what `save` wrote.

        Raises:
            InputError: the file is cut or is something else.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            tensors = load_file(path)
            return cls(tensors["values"], tensors["step"], tensors["neutral"])
        except (SafetensorError, OSError, KeyError) as e:
            raise InputError(f"is no whole token table ({e})", where=path, fix="delete it; it is built again") from e


def extend_lexicon(lexicon: Lexicon, tokenizer: Any, *, shrinkage: float = 5.0, n_rows: int | None = None) -> TokenVad:
    """Give every token of a vocabulary a VAD.

    In this order: (1) the token's text without its mark (``Ġ``, ``▁``, ``##``, ``</w>``), lower-cased, is a lexicon
    word: that value, whether the token begins a word or goes on one; (2) the frequency-weighted mean of the k lexicon
    words whose tokenization contains it, shrunk to the neutral value by k / (k + shrinkage); (3) special tokens, tokens
    without a letter, tokens without evidence: the neutral value.
    Words are tokenized as they occur in text: at its start, after a space, and after a space with a capital.

    Args:
        lexicon: the words.
        tokenizer: a Hugging Face tokenizer (BPE, byte-level BPE, SentencePiece, WordPiece).
        shrinkage: kappa, >= 0 (5.0: design sec. 3).
        n_rows: rows of the table; a model's output matrix may have more than the tokenizer has tokens. The rest is
            neutral.

    Raises:
        InputError: ``n_rows`` below the tokenizer's size, a negative shrinkage.
    """
    n_tokens = len(tokenizer)
    n_rows = n_tokens if n_rows is None else n_rows
    if n_rows < n_tokens:
        raise InputError(f"n_rows is {n_rows}", fix=f"the tokenizer has {n_tokens} tokens")
    if shrinkage < 0:
        raise InputError(f"shrinkage is {shrinkage}", fix="give 0 or more")
    neutral = lexicon.mean
    values = np.tile(neutral, (n_rows, 1))
    step = np.full(n_rows, NEUTRAL, dtype=np.uint8)

    means, counts = _mean_of_words_with(lexicon, tokenizer, n_rows)
    special = set(tokenizer.all_special_ids)
    for token_id, text in enumerate(token_texts(tokenizer)):
        if token_id in special or (text and not any(c.isalpha() or c == "�" for c in text)):
            continue
        row = lexicon.words.get(text.lower()) if text else None
        if row is not None:
            values[token_id], step[token_id] = lexicon.values[row], WORD
        elif counts[token_id]:
            trust = counts[token_id] / (counts[token_id] + shrinkage)
            values[token_id], step[token_id] = neutral + trust * (means[token_id] - neutral), PIECE
    return TokenVad(values.clip(0, 1).astype(np.float32), step, neutral.astype(np.float32))


def token_texts(tokenizer: Any) -> list[str]:
    """Text of each token without the marks of where words begin, go on or end; empty for a bare mark.

    A token that is part of a character's bytes decodes to U+FFFD.
    """
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    prefix, suffix = _continuation_marks(tokenizer)
    bare = [(token or "").removeprefix(prefix).removesuffix(suffix) for token in tokens]
    return [tokenizer.convert_tokens_to_string([token]).replace("▁", " ").strip() for token in bare]


def _continuation_marks(tokenizer: Any) -> tuple[str, str]:
    """Give WordPiece's prefix of a continuation (``##``) and BPE's suffix of a word's end (``</w>``), or ''."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return "", ""
    model = json.loads(backend.to_str())["model"]
    prefix = model.get("continuing_subword_prefix") or ""
    return prefix, model.get("end_of_word_suffix") or ""


def _mean_of_words_with(lexicon: Lexicon, tokenizer: Any, n_rows: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Step 2's evidence: mean VAD (V, 3) of the words whose tokenization contains a token, and their number (V,)."""
    words = list(lexicon.words)
    weights = _word_weights(words)
    pairs = np.unique(_token_word_pairs(words, tokenizer), axis=0)  # (P, 2): token, word; each once
    token, word = pairs[:, 0], pairs[:, 1]
    counts = np.bincount(token, minlength=n_rows)
    total = np.bincount(token, weights=weights[word], minlength=n_rows)
    columns = [np.bincount(token, weights=weights[word] * lexicon.values[word, d], minlength=n_rows) for d in range(3)]
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.stack(columns, axis=1) / total[:, None]
    return means, counts


def _token_word_pairs(words: Sequence[str], tokenizer: Any) -> NDArray[np.int64]:
    parts = [np.empty((0, 2), dtype=np.int64)]
    for start in range(0, len(words), _BATCH):
        batch = words[start : start + _BATCH]
        for form in (list(batch), [f" {w}" for w in batch], [f" {w[:1].upper()}{w[1:]}" for w in batch]):
            ids = tokenizer(form, add_special_tokens=False)["input_ids"]
            lengths = [len(i) for i in ids]
            word = np.repeat(np.arange(start, start + len(batch)), lengths)
            parts.append(np.stack((np.concatenate([np.asarray(i, dtype=np.int64) for i in ids]), word), axis=1))
    return np.concatenate(parts)


def _word_weights(words: Sequence[str]) -> NDArray[np.float64]:
    return np.array([_frequencies(guess_language(w)).get(w, _RAREST) for w in words])


@functools.cache
def _frequencies(lang: str) -> dict[str, float]:
    import wordfreq

    table: dict[str, float] = wordfreq.get_frequency_dict(lang)
    return table


def cached_token_vad(
    lexicon: Lexicon, tokenizer: Any, *, cache_dir: Path | str, shrinkage: float = 5.0, n_rows: int | None = None
) -> TokenVad:
    """Give `extend_lexicon`'s table from a cache keyed by lexicon, tokenizer and options; build it where it lacks.

    A broken cache file is replaced.
    """
    n_rows = len(tokenizer) if n_rows is None else n_rows
    key = hashlib.sha256(f"{_FORMAT}|{lexicon.digest}|{_tokenizer_digest(tokenizer)}|{shrinkage}|{n_rows}".encode())
    path = Path(cache_dir) / f"token-vad-{key.hexdigest()[:16]}.safetensors"
    if path.is_file():
        try:
            return TokenVad.load(path)
        except InputError as e:
            log.warning("%s", e)
    table = extend_lexicon(lexicon, tokenizer, shrinkage=shrinkage, n_rows=n_rows)
    table.save(path)
    return table


def _tokenizer_digest(tokenizer: Any) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    content = backend.to_str() if backend is not None else json.dumps(sorted(tokenizer.get_vocab().items()))
    return hashlib.sha256(f"{content}{sorted(tokenizer.all_special_ids)}".encode()).hexdigest()
