"""The extension to real tokenizers of the four kinds, by hand on small lexicons."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from pege.errors import InputError
from pege.lexicon import TokenVad, cached_token_vad, extend_lexicon, token_coverage
from pege.lexicon.extend import NEUTRAL, PIECE, WORD
from pege.lexicon.load import Lexicon

TEXT = [
    "happy happiness unhappy happily sad sadness sadly the cat sat on the mat 12 !",
    "快乐 快乐的 悲伤 你好 我很快乐",
] * 20


def make_tokenizer(kind):
    special = ["[UNK]", "[PAD]"]
    if kind == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(vocab_size=90, special_tokens=special, show_progress=False)
    elif kind == "byte-level":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=330,
            special_tokens=special,
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )
    elif kind == "bpe":
        tokenizer = Tokenizer(models.BPE(unk_token="[UNK]", end_of_word_suffix="</w>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer.decoder = decoders.BPEDecoder()
        trainer = trainers.BpeTrainer(
            vocab_size=110, special_tokens=special, end_of_word_suffix="</w>", show_progress=False
        )
    else:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=90, special_tokens=special, unk_token="[UNK]", show_progress=False)
    tokenizer.train_from_iterator(TEXT, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]")


KINDS = ["wordpiece", "byte-level", "bpe", "sentencepiece"]
TOKENIZERS = {kind: make_tokenizer(kind) for kind in KINDS}


def make_lexicon(values):
    words = {w: k for k, w in enumerate(values)}
    return Lexicon("test", "1", words, np.array(list(values.values()), dtype=float))


VALUES = {"happy": (0.9, 0.6, 0.7), "sad": (0.1, 0.3, 0.2), "unhappy": (0.2, 0.5, 0.3), "快乐": (0.9, 0.5, 0.6)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_that_is_a_word_has_the_value_of_the_word(kind):
    tokenizer = TOKENIZERS[kind]
    table = extend_lexicon(make_lexicon(VALUES), tokenizer)
    seen = 0
    for word, vad in VALUES.items():
        for form in (word, f" {word}"):
            ids = tokenizer(form, add_special_tokens=False)["input_ids"]
            if len(ids) == 1:
                assert table.values[ids[0]] == pytest.approx(vad, abs=1e-6)
                assert table.step[ids[0]] == WORD
                seen += 1
    assert seen >= 2


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_digits_and_punctuation_are_neutral(kind):
    tokenizer = TOKENIZERS[kind]
    table = extend_lexicon(make_lexicon(VALUES), tokenizer)
    ids = set(tokenizer.all_special_ids) | set(tokenizer("12 !", add_special_tokens=False)["input_ids"])
    for i in ids:
        if tokenizer.convert_ids_to_tokens(i) in ("▁", "Ġ"):
            continue  # a bare space is a piece of words
        assert table.values[i] == pytest.approx(table.neutral)
        assert table.step[i] == NEUTRAL


def make_dog_tokenizer(kind):
    """A tokenizer whose tokens, the unknown one aside, are "dog" with and without the mark of its kind."""
    if kind == "wordpiece":
        model = models.WordPiece({"[UNK]": 0, "dog": 1, "##dog": 2}, unk_token="[UNK]")
    elif kind == "bpe":
        model = models.BPE({"[UNK]": 0, "dog": 1, "dog</w>": 2}, [], end_of_word_suffix="</w>")
    elif kind == "byte-level":
        model = models.BPE({"[UNK]": 0, "dog": 1, "Ġdog": 2}, [])
    else:
        model = models.Unigram([("[UNK]", 0.0), ("dog", -1.0), ("▁dog", -1.0)], unk_id=0)
    tokenizer = Tokenizer(model)
    tokenizer.decoder = {
        "wordpiece": decoders.WordPiece(),
        "bpe": decoders.BPEDecoder(),
        "byte-level": decoders.ByteLevel(),
        "sentencepiece": decoders.Metaspace(),
    }[kind]
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_has_the_value_of_the_word_with_and_without_the_mark_in_all_kinds(kind):
    table = extend_lexicon(make_lexicon({"dog": (0.8, 0.5, 0.6), "war": (0.1, 0.9, 0.4)}), make_dog_tokenizer(kind))
    assert table.step.tolist() == [NEUTRAL, WORD, WORD]
    assert table.values[1] == pytest.approx([0.8, 0.5, 0.6])
    assert table.values[2] == pytest.approx([0.8, 0.5, 0.6])


def test_a_piece_is_the_shrunk_weighted_mean_of_its_words(monkeypatch):
    # The piece "un" of a character tokenizer: words "un" is none, "unhappy" and "unsad" contain its letters.
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "b": 2, "c": 3}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split("", "isolated")]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")
    lexicon = make_lexicon({"ab": (0.8, 0.4, 0.2), "ac": (0.2, 0.4, 0.6)})
    weights = {"ab": 3e-5, "ac": 1e-5}
    monkeypatch.setattr("pege.lexicon.extend._frequencies", lambda lang: weights)
    table = extend_lexicon(lexicon, fast, shrinkage=5.0)
    neutral = np.array([0.5, 0.4, 0.4])
    mean_a = np.array([(3 * 0.8 + 0.2) / 4, 0.4, (3 * 0.2 + 0.6) / 4])
    assert table.values[1] == pytest.approx(neutral + 2 / 7 * (mean_a - neutral), abs=1e-6)  # k = 2
    assert table.values[2] == pytest.approx(neutral + 1 / 6 * (np.array([0.8, 0.4, 0.2]) - neutral), abs=1e-6)
    assert table.step.tolist() == [NEUTRAL, PIECE, PIECE, PIECE]


@given(
    st.dictionaries(
        st.sampled_from(["happy", "sad", "cat", "mat", "unhappy", "sadly", "你好", "悲伤", "happily"]),
        st.tuples(*[st.floats(0, 1)] * 3),
        min_size=1,
    ),
    st.sampled_from(KINDS),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_values_stay_within_the_lexicon_and_the_order_of_words_does_not_matter(values, kind):
    tokenizer = TOKENIZERS[kind]
    table = extend_lexicon(make_lexicon(values), tokenizer)
    array = np.array(list(values.values()))
    assert (table.values >= array.min(0) - 1e-6).all()
    assert (table.values <= array.max(0) + 1e-6).all()
    backwards = extend_lexicon(make_lexicon(dict(reversed(values.items()))), tokenizer)
    assert backwards.values == pytest.approx(table.values, abs=1e-6)


def test_more_rows_than_tokens_are_neutral_and_fewer_are_refused():
    tokenizer = TOKENIZERS["wordpiece"]
    table = extend_lexicon(make_lexicon(VALUES), tokenizer, n_rows=len(tokenizer) + 5)
    assert table.values.shape == (len(tokenizer) + 5, 3)
    assert (table.values[-5:] == table.neutral).all()
    with pytest.raises(InputError, match="n_rows is 3"):
        extend_lexicon(make_lexicon(VALUES), tokenizer, n_rows=3)


def test_the_cache_gives_the_same_table_and_a_broken_file_is_built_again(tmp_path):
    tokenizer, lexicon = TOKENIZERS["byte-level"], make_lexicon(VALUES)
    first = cached_token_vad(lexicon, tokenizer, cache_dir=tmp_path)
    (file,) = tmp_path.iterdir()
    again = cached_token_vad(lexicon, tokenizer, cache_dir=tmp_path)
    assert (again.values == first.values).all()
    whole = file.read_bytes()
    for cut in (b"", whole[:4], whole[:50], whole[:-1], b"x" * 99, b"\x02" + bytes(7) + b"{}"):
        file.write_bytes(cut)
        with pytest.raises(InputError, match="no whole token table"):
            TokenVad.load(file)
        assert (cached_token_vad(lexicon, tokenizer, cache_dir=tmp_path).values == first.values).all()
        assert file.read_bytes() == whole


def test_the_cache_tells_lexicons_tokenizers_and_options_apart(tmp_path):
    tokenizer, lexicon = TOKENIZERS["byte-level"], make_lexicon(VALUES)
    other_special = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, pad_token="happy")
    for content, options in [
        ((lexicon, tokenizer), {}),
        ((make_lexicon({**VALUES, "sad": (0.1, 0.3, 0.21)}), tokenizer), {}),
        ((make_lexicon({**VALUES, "cat": (0.5, 0.5, 0.5)}), tokenizer), {}),
        ((lexicon, TOKENIZERS["wordpiece"]), {}),
        ((lexicon, other_special), {}),
        ((lexicon, tokenizer), {"shrinkage": 1.0}),
        ((lexicon, tokenizer), {"n_rows": 400}),
    ]:
        n_before = len(list(tmp_path.iterdir()))
        cached_token_vad(*content, cache_dir=tmp_path, **options)
        assert len(list(tmp_path.iterdir())) == n_before + 1


def test_shares_of_vocabulary_and_text_sum_to_one():
    tokenizer = TOKENIZERS["byte-level"]
    table = extend_lexicon(make_lexicon(VALUES), tokenizer)
    assert sum(table.shares().values()) == pytest.approx(1)
    assert sum(token_coverage(TEXT[:2], table, tokenizer).values()) == pytest.approx(1)
