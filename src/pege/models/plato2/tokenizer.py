"""PLATO-2's vocabularies as fast tokenizers that ``AutoTokenizer`` loads: trained here, or PaddleNLP's own."""

from __future__ import annotations

import io
import logging
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pege.errors import InputError
from pege.models.plato2.spm_file import (
    BYTE,
    CONTROL,
    UNKNOWN,
    UNUSED,
    SentencePieces,
    parse_sentencepieces,
    read_sentencepieces,
)
from pege.words import guess_language

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

log = logging.getLogger(__name__)

UNK, BOS, EOS, MASK = "[UNK]", "[CLS]", "[SEP]", "[MASK]"  # the original's names; unk pads too
SPACE = "\u2581"  # SentencePiece's mark of a word's start
N_PIECES = 30_000  # the paper's vocabulary
_N_CHARACTERS = 0.9995  # share of the text's characters that are pieces; the rest are bytes
_LONGEST = 500_000  # bytes of an utterance, above those of the longest row
_NEVER = -1e6  # score of a piece that is not to be found in text


def train_tokenizer(texts: Iterable[str], *, n_pieces: int = N_PIECES) -> PreTrainedTokenizerFast:
    """Train a BPE vocabulary with byte fallback: no text is ever unknown; the same texts give the same bytes.

    Ids: unk (and padding) 0, bos 1, eos 2, then bytes and pieces, and mask last, as ``n_pieces``.

    Args:
        texts: utterances, languages mixed.
        n_pieces: unk, bos, eos and the 256 bytes among them; the mask is one more.

    Raises:
        InputError: no text, too little of it for so many pieces, a missing package.
    """
    from tokenizers import normalizers

    try:
        import sentencepiece
    except ImportError as e:
        raise InputError("sentencepiece is not installed", fix="pip install sentencepiece") from e
    lines = [line for t in texts if (line := " ".join(unicodedata.normalize("NFC", t).split()))]
    if not lines:
        raise InputError("no text to train a tokenizer on", fix="name files of rows (docs/rows.md)")
    out = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=out,
            model_type="bpe",
            vocab_size=n_pieces,
            byte_fallback=True,
            character_coverage=_N_CHARACTERS,
            normalization_rule_name="identity",
            max_sentence_length=_LONGEST,
            unk_id=0,
            bos_id=1,
            eos_id=2,
            pad_id=-1,
            unk_piece=UNK,
            bos_piece=BOS,
            eos_piece=EOS,
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as e:
        if "ocab" not in str(e):
            raise
        raise InputError(
            f"too little text for {n_pieces} pieces, or too few pieces", fix="name another n_pieces"
        ) from e
    found = parse_sentencepieces(out.getvalue())
    ids = {piece: k for k, (piece, _, _) in enumerate(found.pieces)}
    return _fast(found, ids | {MASK: len(ids)}, [normalizers.NFC()], jieba=False)


def paddlenlp_tokenizer(spm_model: Path | str, vocabulary: Path | str) -> PreTrainedTokenizerFast:
    """Make a fast tokenizer of PaddleNLP's (or Knover's) two files, with the ids of the vocabulary.

    Text is prepared as there: spaces collapsed, characters decomposed and their accents dropped, curly quotes and long
    dashes made plain, control characters dropped, and SentencePiece's own normalization. Where the vocabulary has
    Chinese, text was cut into words by jieba first; no tokenizer file can say that, so it is noted
    (``tokenizer.init_kwargs["jieba"]``) and `pege.models.plato2.encode` does it.

    Args:
        spm_model: ``spm.model``.
        vocabulary: ``vocab.txt``: a token a line, its id behind a tab, or the line's number.

    Raises:
        InputError: a file that is missing or broken, a vocabulary without the special tokens.
    """
    found = read_sentencepieces(spm_model)
    has_chinese = any(guess_language(piece.strip(SPACE)) == "zh" for piece, _, _ in found.pieces)
    return _fast(found, _read_vocabulary(Path(vocabulary)), [*_as_paddlenlp(), *_charsmap(found)], jieba=has_chinese)


def _read_vocabulary(path: Path) -> dict[str, int]:
    """Token to id; several tokens may share one."""
    if not path.is_file():
        raise InputError("no such file", where=path)
    ids: dict[str, int] = {}
    try:
        for k, line in enumerate(path.read_text(encoding="utf-8").split("\n")):
            token, _, number = line.rstrip().partition("\t")
            if token.strip():
                ids[token.strip()] = int(number) if number else k
    except ValueError as e:
        raise InputError(f"is no vocabulary ({e})", where=path, fix="a token a line, its id behind a tab") from e
    lacking = [t for t in (UNK, BOS, EOS, MASK) if t not in ids]
    if lacking:
        raise InputError(f"holds no {lacking[0]}", where=path, fix="it should be the vocabulary of PLATO-2")
    return ids


def _fast(found: SentencePieces, ids: dict[str, int], normalizers: list[Any], *, jieba: bool) -> Any:
    """Put a tokenizer together: normalizers, words split at spaces, the model with our ids, a decoder."""
    from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
    from tokenizers.normalizers import Sequence
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(_model(found, ids))
    tokenizer.normalizer = Sequence(normalizers)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always")]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in (UNK, BOS, EOS, MASK)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=UNK,
        pad_token=UNK,
        bos_token=BOS,
        eos_token=EOS,
        mask_token=MASK,
        jieba=jieba,
        clean_up_tokenization_spaces=False,
    )


def _model(found: SentencePieces, ids: dict[str, int]) -> Any:
    """BPE or unigram model of the pieces; ids without a piece are never found in text."""
    from tokenizers.models import BPE, Unigram

    scores = {p: score for p, score, kind in found.pieces if kind not in (UNKNOWN, CONTROL, UNUSED)}
    if lacking := sum(p not in ids for p, _, kind in found.pieces if p in scores and kind != BYTE):
        log.warning("%d pieces are not in the vocabulary and are left out", lacking)
    token_of = {k: t for t, k in ids.items()} | {ids[t]: t for t in (UNK, BOS, EOS, MASK)}
    has_bytes = any(kind == BYTE for _, _, kind in found.pieces)
    vocabulary = {token_of.get(k, f"[unused{k}]"): k for k in range(max(token_of) + 1)}
    if found.kind == "bpe":
        known = {p: s for p, s in scores.items() if p in vocabulary}
        return BPE(vocab=vocabulary, merges=_merges(known), unk_token=UNK, fuse_unk=True, byte_fallback=has_bytes)
    listed = [(t, scores.get(t, _NEVER)) for t in vocabulary]
    return Unigram(listed, unk_id=ids[UNK], byte_fallback=has_bytes)


def _merges(scores: dict[str, float]) -> list[tuple[str, str]]:
    """All ways to put two pieces together into a third, the best third first."""
    merges = []
    for place, piece in enumerate(sorted(scores, key=lambda p: -scores[p])):
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in scores and right in scores:
                merges.append((place, left, right))
    return [(left, right) for _, left, right in merges]


def _as_paddlenlp() -> list[Any]:
    from tokenizers import Regex, normalizers

    plain = {"[\u201c\u201d]": '"', "[\u2018\u2019]": "'", "\u2014": "-", r"[\p{C}&&[^ ]]": ""}
    return [
        normalizers.Replace(Regex(r"[\s\x1c-\x1f\x85]+"), " "),
        normalizers.NFKD(),
        normalizers.StripAccents(),
        *(normalizers.Replace(Regex(pattern), text) for pattern, text in plain.items()),
    ]


def _charsmap(found: SentencePieces) -> list[Any]:
    from tokenizers import normalizers

    return [normalizers.Precompiled(found.charsmap)] if found.charsmap else []
