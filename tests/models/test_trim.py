"""A trimmed model cuts the corpus as before and says the same with the tokens it kept."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pege.cli import main
from pege.dialog import Emotion, Utterance, make_dialog
from pege.errors import InputError
from pege.io import write_rows
from pege.models.causal import MAP_FILE, load_model
from pege.models.prompt import encode_dialog
from pege.models.trim import kept_ids, restore_model, trim_model
from pege.training import TrainConfig, run_training

CORPUS = ["I lost my dog in the park.", "Oh no, what happened to your dog?", "我今天很难过。"]
OTHER = ["The zebra’s quizzical xylophone: 42 € ça va?", "别担心，它会回来的。"]
ALL = [
    *CORPUS,
    *OTHER,
    "We had a wonderful holiday at the sea.",
    "Thanks, I hope so, you are kind!",
    "怎么了？发生了什么事？",
]


def save_model(folder, tokenizer, *, tied=True):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id, bos_token_id=tokenizer.bos_token_id, tie_word_embeddings=tied,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def byte_level(folder):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    t = Tokenizer(models.BPE())
    t.pre_tokenizer, t.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = ["<pad>", "<end>", "<start>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    t.train_from_iterator(ALL * 3, trainer)
    return save_model(
        folder, PreTrainedTokenizerFast(tokenizer_object=t, pad_token="<pad>", eos_token="<end>", bos_token="<start>")
    )


def sentence_piece(folder):
    from pege.models.plato2.tokenizer import train_tokenizer

    return save_model(folder, train_tokenizer(ALL * 3, n_pieces=380), tied=False)


def unigram(folder):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    t = Tokenizer(models.Unigram())
    t.pre_tokenizer, t.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    special = ["<unk>", "<pad>", "<end>"]
    t.train_from_iterator(
        ALL * 3, trainers.UnigramTrainer(vocab_size=120, special_tokens=special, unk_token="<unk>", show_progress=False)
    )
    return save_model(
        folder, PreTrainedTokenizerFast(tokenizer_object=t, pad_token="<pad>", eos_token="<end>", unk_token="<unk>")
    )


def word_piece(folder):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    t.pre_tokenizer, t.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]"]
    t.train_from_iterator(
        ALL * 3, trainers.WordPieceTrainer(vocab_size=200, special_tokens=special, show_progress=False)
    )
    t.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", t.token_to_id("[CLS]")), ("[SEP]", t.token_to_id("[SEP]"))]
    )
    return save_model(
        folder,
        PreTrainedTokenizerFast(
            tokenizer_object=t, pad_token="[PAD]", eos_token="[SEP]", bos_token="[CLS]", unk_token="[UNK]"
        ),
    )


KINDS = {f.__name__: f for f in (byte_level, sentence_piece, unigram, word_piece)}


@pytest.fixture(scope="module", params=KINDS)
def pair(request, tmp_path_factory):
    """A model and what is left of it."""
    place = tmp_path_factory.mktemp(request.param)
    full = KINDS[request.param](place / "full")
    found = trim_model(full, CORPUS, place / "small")
    return full, place / "small", found


def logits(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0]


def test_the_corpus_is_cut_as_before_and_the_logits_are_the_same(pair):
    full, small, found = pair
    (a, ta), (b, tb) = load_model(full, dtype="float32"), load_model(small, dtype="float32")
    old = json.loads((small / MAP_FILE).read_text())["old_ids"]
    assert found["n_after"] == len(tb) == len(old) < len(ta) == found["n_before"]
    assert found["n_parameters_after"] < found["n_parameters_before"]
    dialog = [Utterance(role=r, content=f" {t}\n") for r, t in zip(("user", "assistant", "user"), CORPUS, strict=True)]
    for more in ({}, {"emotion": Emotion(positive=0.37, neutral=0.1, negative=0.53)}, {"is_supportive": True}):
        before, after = (encode_dialog(t, dialog, **more).ids for t in (ta, tb))
        assert [old[i] for i in after] == before
    for text in CORPUS:
        before, after = ta(text)["input_ids"], tb(text)["input_ids"]
        assert [old[i] for i in after] == before
        torch.testing.assert_close(logits(b, after), logits(a, before)[:, old])


def test_special_tokens_keep_their_meaning(pair):
    full, small, _ = pair
    (a, ta), (b, tb) = load_model(full, dtype="float32"), load_model(small, dtype="float32")
    assert ta.special_tokens_map == tb.special_tokens_map
    old = json.loads((small / MAP_FILE).read_text())["old_ids"]
    assert old[b.config.eos_token_id] == a.config.eos_token_id
    assert old[b.generation_config.eos_token_id] == a.generation_config.eos_token_id


def test_other_text_is_said_with_bytes_and_refused_where_there_are_none(pair):
    full, small, _ = pair
    (_, ta), (_, tb) = load_model(full), load_model(small)
    for text in [*OTHER, "\U0001f984"]:
        said = [Utterance(role="user", content=text)]
        if "byte_level" in str(full) or "sentence_piece" in str(full):
            found = encode_dialog(tb, said)
            (start, stop) = found.spans[0]
            whole = encode_dialog(ta, said)
            assert tb.decode(found.ids[start:stop]) == ta.decode(whole.ids[slice(*whole.spans[0])])
        elif tb.unk_token_id in tb(text, add_special_tokens=False)["input_ids"]:
            assert encode_dialog(ta, said).ids  # the full model takes even what it cannot write
            with pytest.raises(InputError, match="no tokens for a part of a text"):
                encode_dialog(tb, said)
        else:
            assert text in OTHER
            assert encode_dialog(tb, said).ids


def plain_bpe(word, ranks):
    """Merge what ranks lowest, leftmost first; give the pieces and all that was on the way."""
    pieces, made = list(word), set(word)
    while True:
        pairs = [(ranks[p], k) for k, p in enumerate(itertools.pairwise(pieces)) if p in ranks]
        if not pairs:
            return pieces, made
        _, k = min(pairs)
        pieces[k : k + 2] = [pieces[k] + pieces[k + 1]]
        made.add(pieces[k])


@given(
    st.lists(st.text("甲乙丙", min_size=2, max_size=6), min_size=1, max_size=12, unique=True),
    st.lists(st.text("甲乙丙", min_size=1, max_size=12), max_size=6),
    st.randoms(use_true_random=False),
)
@settings(max_examples=60, deadline=None)
def test_a_token_brings_what_it_is_merged_from_and_no_more(tokens, words, rng):
    from tokenizers import Tokenizer
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    vocabulary = {t: i for i, t in enumerate(["甲", "乙", "丙", *tokens, *(f"<0x{b:02X}>" for b in range(256))])}
    splits = [(t[:k], t[k:]) for t in tokens for k in range(1, len(t))]  # SentencePiece's: each way to make a token
    merges = [pair for pair in splits if pair[0] in vocabulary and pair[1] in vocabulary]
    rng.shuffle(merges)
    fast = Tokenizer(BPE(vocabulary, merges, byte_fallback=True))
    kept = kept_ids(PreTrainedTokenizerFast(tokenizer_object=fast), json.loads(fast.to_str()), words)
    ranks, used, made = {pair: k for k, pair in enumerate(merges)}, set(), set()
    for word in words:
        pieces, _ = plain_bpe(word, ranks)
        assert fast.encode(word).tokens == pieces
        used |= set(pieces)
    for token in used:
        made |= plain_bpe(token, ranks)[1]
    assert {t for t, i in vocabulary.items() if i in kept and i < 3 + len(tokens)} == made


def test_tokens_that_nothing_needs_go_and_those_without_a_row_do_not_come_back(tmp_path):
    from tokenizers import AddedToken

    full = sentence_piece(tmp_path / "full")
    _, tokenizer = load_model(full)
    tokenizer.add_tokens(["<unused0>", "<tool>", "<picture>", "<user>", "<ends>"])
    tokenizer.chat_template = "{% for m in messages %}{{ '<' + m.role + '>' + m.content + '<tool>' }}{% endfor %}"
    save_model(full, tokenizer)  # a row for each of these
    config = json.loads((full / "generation_config.json").read_text())
    config["eos_token_id"] = [config["eos_token_id"], tokenizer.convert_tokens_to_ids("<ends>")]
    (full / "generation_config.json").write_text(json.dumps(config))
    tokenizer.add_special_tokens({"additional_special_tokens": [AddedToken("<image>")]})
    tokenizer.save_pretrained(full)
    trim_model(full, [*CORPUS, "See <picture>"], tmp_path / "small")
    model, small = load_model(tmp_path / "small")
    assert len(small) == model.config.vocab_size
    there = set(small.get_vocab())
    assert {"<tool>", "<picture>", "<user>", "<ends>"} <= there
    assert not {"<unused0>", "<image>"} & there
    assert small.convert_ids_to_tokens(model.generation_config.eos_token_id)[-1] == "<ends>"


def test_bytes_that_are_not_fallen_back_to_do_not_stand_for_characters():
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    vocabulary = {t: i for i, t in enumerate(["甲", "乙", *(f"<0x{b:02X}>" for b in range(256))])}
    for falls_back in (True, False):
        fast = Tokenizer(models.BPE(vocabulary, [], byte_fallback=falls_back))
        kept = kept_ids(PreTrainedTokenizerFast(tokenizer_object=fast), json.loads(fast.to_str()), ["甲"])
        assert (vocabulary["乙"] in kept) != falls_back


def test_parts_of_words_with_marks_are_refused():
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    fast = Tokenizer(models.BPE({"a": 0, "b</w>": 1, "ab</w>": 2}, [("a", "b</w>")], end_of_word_suffix="</w>"))
    with pytest.raises(InputError, match="marks parts of words with '</w>'"):
        kept_ids(PreTrainedTokenizerFast(tokenizer_object=fast), json.loads(fast.to_str()), CORPUS)


def test_what_was_trained_since_goes_back_into_the_full_vocabulary(pair, tmp_path):
    _, small, _ = pair
    model, tokenizer = load_model(small, dtype="float32")
    with torch.no_grad():
        model.get_input_embeddings().weight[5] += 1
        model.model.norm.weight += 1
    run = tmp_path / "run"
    model.save_pretrained(run)
    tokenizer.save_pretrained(run)
    (run / MAP_FILE).write_text((small / MAP_FILE).read_text())
    restore_model(run, tmp_path / "whole")
    (a, ta), (b, _) = load_model(tmp_path / "whole", dtype="float32"), load_model(run, dtype="float32")
    old = json.loads((small / MAP_FILE).read_text())["old_ids"]
    ids = tokenizer(CORPUS[0])["input_ids"]
    torch.testing.assert_close(logits(a, ta(CORPUS[0])["input_ids"])[:, old], logits(b, ids))


@pytest.mark.parametrize("lora", [{}, {"lora": {"r": 4, "target_modules": ["q_proj"]}}])
def test_a_run_trained_from_a_trimmed_model_is_restored_by_the_command(tiny_model_dir, lexicon_file, tmp_path, lora):
    small, run, whole = tmp_path / "small", tmp_path / "run", tmp_path / "whole"
    write_rows(tmp_path / "rows.jsonl", [make_dialog([*CORPUS[:2], CORPUS[0]], lang="en")])
    main(["trim", "--model", str(tiny_model_dir), "--data", str(tmp_path / "rows.jsonl"), "--output", str(small)])
    config = {
        "model": str(small), "data": [str(tmp_path / "rows.jsonl")], "lexicon": str(lexicon_file), "dtype": "float32",
        "training": {"max_steps": 2, "learning_rate": 0.01, "disable_tqdm": True}, **lora,
    }  # fmt: skip
    run_training(TrainConfig.model_validate(config), run)
    main(["trim", "--model", str(run), "--restore", "--output", str(whole)])
    (a, ta), (b, tb) = load_model(whole, dtype="float32"), load_model(run, dtype="float32")
    old = json.loads((run / MAP_FILE).read_text())["old_ids"]
    found = logits(a, ta(CORPUS[0])["input_ids"])[:, old]
    torch.testing.assert_close(found, logits(b, tb(CORPUS[0])["input_ids"]))
    before, _ = load_model(tiny_model_dir, dtype="float32")
    assert not torch.allclose(found, logits(before, ta(CORPUS[0])["input_ids"])[:, old])


def test_the_command_trims_and_refuses_in_one_line(tiny_model_dir, tmp_path, capsys):
    write_rows(tmp_path / "rows.jsonl", [make_dialog(CORPUS[:2])])
    flags = ["trim", "--model", str(tiny_model_dir), "--output", str(tmp_path / "small")]
    main([*flags, "--data", str(tmp_path / "rows.jsonl"), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["n_after"] < found["n_before"]
    for more, message in (
        (["--data", str(tmp_path / "rows.jsonl")], "is there already"), (["--data", "nowhere.jsonl"], "is there already"),
    ):  # fmt: skip
        with pytest.raises(SystemExit):
            main([*flags, *more])
        assert message in capsys.readouterr().err
    with pytest.raises(InputError, match=r"no trim\.json here"):
        restore_model(tiny_model_dir, tmp_path / "x")
    assert not Path(tmp_path / "x").exists()
