"""A tiny random BERT with a word-level tokenizer, and labelled text that any classifier learns."""

from __future__ import annotations

import pytest

from pege.emotion import read_labelled

WORDS = {"negative": "awful sad bad", "neutral": "table door street", "positive": "lovely happy good"}


@pytest.fixture(scope="session")
def plain_texts(tmp_path_factory):
    """54 texts, six for each of nine words."""
    lines = [f"{label}\tit is {w} {k}" for label, ws in WORDS.items() for w in ws.split() for k in range(6)]
    path = tmp_path_factory.mktemp("labelled") / "plain.tsv"
    path.write_text("label\ttext\n" + "\n".join(lines) + "\n")
    return path, read_labelled(path)


@pytest.fixture(scope="session")
def tiny_bert_dir(tmp_path_factory):
    """Folder of a random BERT, 16 wide, 2 layers, with [CLS] and [SEP] set by its tokenizer."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "it", "is", "a", *" ".join(WORDS.values()).split(), *"0123456789"]
    tokenizer = Tokenizer(models.WordLevel({w: k for k, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    folder = tmp_path_factory.mktemp("bert")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    return folder
