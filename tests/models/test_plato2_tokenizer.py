"""PLATO-2's vocabularies against SentencePiece itself, and against PaddleNLP's rules worked by hand."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
import sentencepiece
from transformers import AutoTokenizer

from pege.cli import main
from pege.dialog import make_dialog
from pege.errors import InputError
from pege.io import write_rows
from pege.models.plato2.convert import convert_plato
from pege.models.plato2.spm_file import parse_sentencepieces, read_sentencepieces
from pege.models.plato2.tokenizer import paddlenlp_tokenizer, train_tokenizer

TEXTS = [
    "I lost my dog and I am so sad.", "Oh no, what happened to your dog?", "He ran away in the park this morning.",
    "I am sorry, dogs often come home.", "We had a wonderful holiday at the sea.", "我今天很难过。", "怎么了？发生了什么事？",
    "我的狗丢了。", "别担心，它会回来的。", "我们 去 公园 找 它 吧 。", "The café was closed, it's a pity!",
] * 20  # fmt: skip
NEW = ["My dog is sad and lost  in the sea", "狗会回来的吗？", "Zürich 2024 😀!", "aaaa", "dogs,dogs；狗 dog狗", " x "]


def spm_model(kind, **more):
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS), model_writer=out, model_type=kind, vocab_size=150, num_threads=1, minloglevel=2,
        hard_vocab_limit=False, **more,
    )  # fmt: skip
    return out.getvalue()


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(TEXTS, n_pieces=400).save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def test_ids_are_those_of_the_table_and_mask_is_last(ours):
    assert (ours.pad_token_id, ours.unk_token_id, ours.bos_token_id, ours.eos_token_id) == (0, 0, 1, 2)
    assert ours.mask_token_id == 400 == len(ours) - 1


@pytest.mark.parametrize("text", TEXTS[:11] + NEW)
def test_no_text_is_unknown_and_decoding_gives_it_back(ours, text):
    ids = ours(text, add_special_tokens=False)["input_ids"]
    assert 0 not in ids
    assert ours.decode(ids) == " ".join(text.split())


def test_pieces_are_what_sentencepiece_finds(ours):
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS), model_writer=out, model_type="bpe", vocab_size=400, byte_fallback=True,
        normalization_rule_name="identity", unk_id=0, bos_id=1, eos_id=2, pad_id=-1, num_threads=1, minloglevel=2,
    )  # fmt: skip
    processor = sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())
    for text in TEXTS + NEW:
        assert ours(text, add_special_tokens=False)["input_ids"] == processor.encode(text), text


def test_the_command_gives_the_same_bytes_in_every_process(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_rows("rows.jsonl", [make_dialog(TEXTS[k : k + 3], id=str(k)) for k in range(0, 60, 3)])
    arguments = ["tokenizer", "--data", "rows.jsonl", "--n_pieces", "350", "--output"]
    main([*arguments, "a"])
    assert capsys.readouterr().out == "a: 351 tokens\n"
    subprocess.run(
        [sys.executable, "-m", "pege", *arguments, "b"],
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "5"},
        capture_output=True,
    )
    for file in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize("arguments", [["--n_pieces", "9000"], ["--n_pieces", "100"], ["--output", "."]])
def test_the_command_words_bad_input_in_one_line(tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    write_rows("rows.jsonl", [make_dialog(TEXTS[:3])])
    with pytest.raises(SystemExit) as caught:
        main(
            [
                "tokenizer",
                "--data",
                "rows.jsonl",
                *(["--output", "out"] if arguments[0] != "--output" else []),
                *arguments,
            ]
        )
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("pege: ")
    assert not (tmp_path / "out").exists()


def test_no_text_is_refused():
    with pytest.raises(InputError, match="no text"):
        train_tokenizer([" "])


# ---- PaddleNLP's two files


def original_pieces(processor, text):
    """What the original makes of words that are cut already: worked from its rules, with SentencePiece itself."""
    text = unicodedata.normalize("NFKD", " ".join(text.split()))
    text = "".join(c for c in text if not unicodedata.combining(c))
    pieces = []
    for word in text.split():
        for plain, curly in (('"', "“”"), ("'", "‘’"), ("-", "—")):
            for c in curly:
                word = word.replace(c, plain)
        word = "".join(c for c in word if not unicodedata.category(c).startswith("C"))
        pieces += processor.encode_as_pieces(word)
    return pieces


def vocabulary_of(data, path):
    """A vocab.txt with the original's special tokens, pieces in another order than the model's."""
    pieces = [p for p, _, kind in parse_sentencepieces(data).pieces if kind == 1]
    ids = {"[UNK]": 0, "[PAD]": 0, "[CLS]": 1, "[SEP]": 2} | {p: k for k, p in enumerate(reversed(pieces), start=3)}
    ids["[MASK]"] = len(ids) - 1
    path.write_text("".join(f"{t}\t{k}\n" for t, k in ids.items()), encoding="utf-8")
    return ids


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_paddlenlps_files_give_its_pieces_and_the_vocabularys_ids(tmp_path, kind):
    data = spm_model(kind)
    (tmp_path / "spm.model").write_bytes(data)
    ids = vocabulary_of(data, tmp_path / "vocab.txt")
    paddlenlp_tokenizer(tmp_path / "spm.model", tmp_path / "vocab.txt").save_pretrained(tmp_path / "out")
    fast = AutoTokenizer.from_pretrained(tmp_path / "out")
    processor = sentencepiece.SentencePieceProcessor(model_proto=data)
    for text in [*TEXTS[:11], *NEW, "“It’s — me”", "ｄｏｇ ﬁne\u200b", "\x07dog\tsad"]:
        expected = [ids.get(p, 0) for p in original_pieces(processor, text)]
        assert fast(text, add_special_tokens=False)["input_ids"] == expected, text
    assert (fast.pad_token_id, fast.bos_token_id, fast.eos_token_id, fast.mask_token_id) == (0, 1, 2, ids["[MASK]"])
    assert fast.init_kwargs["jieba"] is True


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_the_reader_finds_what_sentencepiece_says(tmp_path, kind):
    data = spm_model(kind)
    (tmp_path / "spm.model").write_bytes(data)
    found = read_sentencepieces(tmp_path / "spm.model")
    processor = sentencepiece.SentencePieceProcessor(model_proto=data)
    assert found.kind == kind
    assert [p for p, _, _ in found.pieces] == [processor.id_to_piece(k) for k in range(len(processor))]
    assert [s for _, s, _ in found.pieces] == pytest.approx([processor.get_score(k) for k in range(len(processor))])


def test_a_converted_folder_has_the_fast_tokenizer(tmp_path):
    source = tmp_path / "in"
    shutil.copytree(Path(__file__).parents[1] / "reference" / "plato2" / "pre", source)
    data = spm_model("unigram")
    (source / "spm.model").write_bytes(data)
    ids = vocabulary_of(data, source / "vocab.txt")
    (source / "tokenizer_config.json").write_text('{"tokenizer_class": "UnifiedTransformerTokenizer"}')
    fast = AutoTokenizer.from_pretrained(convert_plato(source, tmp_path / "out"))
    assert fast.mask_token_id == ids["[MASK]"]
    assert fast.decode(fast("my dog", add_special_tokens=False)["input_ids"]) == "my dog"


@pytest.mark.parametrize(
    ("model", "vocabulary", "message"),
    [
        (lambda d: d[:-9], None, "no whole SentencePiece"),
        (lambda d: b"text", None, "no whole SentencePiece"),
        (lambda d: b"", None, "no whole SentencePiece"),
        (lambda d: spm_model("char"), None, "whole words or characters"),
        (None, "[UNK]\n[CLS]\n[SEP]\n", r"\[MASK\]"),
        (None, "[UNK]\tzero\n", "no vocabulary"),
    ],
)
def test_broken_files_are_refused(tmp_path, model, vocabulary, message):
    data = spm_model("bpe")
    vocabulary_of(data, tmp_path / "vocab.txt")
    (tmp_path / "spm.model").write_bytes(model(data) if model else data)
    if vocabulary is not None:
        (tmp_path / "vocab.txt").write_text(vocabulary)
    with pytest.raises(InputError, match=message) as caught:
        paddlenlp_tokenizer(tmp_path / "spm.model", tmp_path / "vocab.txt")
    assert "\n" not in str(caught.value)
