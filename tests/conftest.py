"""What tests share: a tiny random model with a real tokenizer, a small lexicon, a few dialogs."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Ray's 15 leaves its workers a thirtieth of a core beside other tests
os.environ.setdefault("RAY_worker_niceness", "0")
if not Path("/dev/nvidia0").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # Triton reads it when it is first imported

import pytest
from hypothesis import settings

from browsing import DESKTOP, launch
from pege.dialog import Emotion, make_dialog

settings.register_profile("pege", derandomize=True, deadline=None)  # the same cases on every machine, every day
settings.load_profile("pege")

TEXTS = [
    "I lost my dog and I am so sad.", "Oh no, what happened to your dog?", "He ran away in the park this morning.",
    "I am sorry, dogs often come home.", "Thanks, I hope so, you are kind!", "I am happy to help you.",
    "We had a wonderful holiday at the sea.", "That is great, was it sunny?", "Yes, it was lovely every day.",
    "Nice, I love the sea and the sun.", "我今天很难过。", "怎么了？发生了什么事？", "我的狗丢了。", "别担心，它会回来的。",
]  # fmt: skip
CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory):
    """Folder of a random Llama (32 wide, 2 layers) with a byte-level BPE tokenizer trained here."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        additional_special_tokens=special[2:],
        chat_template=CHAT_TEMPLATE,
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(fast), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, pad_token_id=0, eos_token_id=1, bos_token_id=None,
        tie_word_embeddings=True,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("tiny-model")
    LlamaForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


@pytest.fixture
def lexicon_file(tmp_path):
    """A small English lexicon on disk, [0, 1]."""
    path = tmp_path / "small.tsv"
    path.write_text(
        "word\tvalence\tarousal\tdominance\nsad\t0.1\t0.4\t0.2\nhappy\t0.9\t0.6\t0.6\ndog\t0.8\t0.5\t0.5\n"
        "lost\t0.2\t0.6\t0.2\nlovely\t0.9\t0.4\t0.6\nsea\t0.8\t0.2\t0.4\nkind\t0.9\t0.3\t0.7\n"
    )
    return path


@pytest.fixture
def dialogs():
    """Four dialogs with emotions, the user last."""
    emotions = [Emotion(negative=0.8, neutral=0.15, positive=0.05), Emotion(negative=0.05, neutral=0.15, positive=0.8)]
    return [
        make_dialog(TEXTS[:5], id="a", lang="en", emotion=emotions[0]),
        make_dialog(TEXTS[6:9], id="b", lang="en", emotion=emotions[1]),
        make_dialog([TEXTS[2], TEXTS[3], TEXTS[4]], id="c", lang="en", emotion=emotions[0]),
        make_dialog([TEXTS[9], TEXTS[7], TEXTS[8], TEXTS[5], TEXTS[4]], id="d", lang="en", emotion=emotions[1]),
    ]


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = launch(playwright)
        yield found
        found.close()


@pytest.fixture
def open_page(browser):
    """Open a page of its own; complaints of its console are errors of the test."""
    contexts, complaints = [], []

    def opened(**how):
        contexts.append(browser.new_context(**{"locale": "en-US", **DESKTOP, **how}))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda e: complaints.append(str(e)))
        page.on("console", lambda m: complaints.append(m.text) if "Content Security Policy" in m.text else None)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []
