"""Prepare the texts that the shipped offensive-language classifier learns from: `python examples/offensive_data.py OUT`.

Needs the packages chitchat_dataset and alt-profanity-check (MIT both), and PEGE_DATA (default ../shared/data) for COLD (Apache-2.0),
CPED (Apache-2.0) and SMILECHAT (CC0). Writes OUT/{train,validation,test-dialogs.en,test-dialogs.zh}.tsv.gz. Then:

    pege emotion train --labels clean offensive --train OUT/train.tsv.gz --validation OUT/validation.tsv.gz --output DIR
        --name pege-offensive-2 --vocabulary_size 12000 --n_filters 64 --n_epochs 3 --batch_size 64 --learning_rate 1e-3

Chinese has a real data set, COLD. English has none whose licence allows a model to be passed on, so its offensive texts are
composed: words that a teacher (the linear model in alt-profanity-check, MIT) calls profane and that everyday dialogs do not use,
set into everyday utterances and labelled by the teacher, and insults that we wrote. OLID (tweeteval-offensive) is only measured on.
"""

from __future__ import annotations

import gzip
import itertools
import os
import random
import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
from emotion_data import chitchat, cped_lines, smilechat, split_of

from pege.corpus.offensive import LABELS, offensive_words

DATA = Path(os.environ.get("PEGE_DATA", "../shared/data"))
WORDS = Path(__file__).parents[1] / "src/pege/assets/offensive"
Row = tuple[float, str]  # p(offensive), text
N_CLEAN = {"chitchat": 24_000, "cped": 9_000, "smilechat": 30_000}  # utterances of dialogs, clean
N_TAUGHT = 12_000  # utterances with a word of the teacher

TARGETED = {
    "en": ["you {}", "you're a {}", "you are such a {}", "what a {}", "shut up, {}", "he is a {} and so are you", "{}s like you",
           "you and your {} friends", "get lost, {}", "listen, {}", "you look like a {}", "you {} people", "your mother is a {}",
           "only a {} says that", "god, what a {} you are", "they are all {}s", "she's just a {}"],
    "zh": ["你{}", "你就是个{}", "你这个{}", "真是{}", "滚开，{}", "{}才这么说", "你们都是{}", "像你这样的{}", "他就是个{}", "闭嘴吧{}", "{}，滚"],
}  # fmt: skip
INSULTS = {
    "en": ["idiot", "moron", "loser", "fool", "pig", "creep", "coward", "liar", "freak", "clown", "rat", "brat", "psycho", "pervert",
           "jerk", "dummy", "parasite", "monster", "witch", "snake", "cockroach", "imbecile", "thug", "savage", "slob", "tramp",
           "disgusting pig", "stupid cow", "ugly freak", "fat slob", "lazy bum", "dirty rat", "pathetic loser", "worthless fool",
           "brainless idiot", "filthy animal", "selfish jerk", "lying snake", "piece of trash", "waste of space", "sick bastard"],
    "zh": ["蠢货", "白痴", "废物", "垃圾", "骗子", "窝囊废", "胆小鬼", "神经病", "猪", "混蛋", "贱人", "小人", "败类", "人渣", "丑八怪", "死胖子", "变态",
           "乡巴佬", "穷鬼", "没教养的东西", "没脑子的东西", "不要脸的东西", "恶心的家伙", "臭流氓", "智障", "傻子", "疯子", "走狗", "寄生虫", "吸血鬼"],
}  # fmt: skip
#: The same words said of oneself, of a thing, or told with regret: no offence.
HARMLESS = {
    "en": ["i feel like a {}", "i am such a {} sometimes", "he called me a {} and it hurt", "they called her a {} at school",
           "please don't call yourself a {}", "in the film he plays a {}", "you are not a {}", "am i a {}?", "i felt like a complete {}"],
    "zh": ["我觉得自己像个{}", "他骂我是{}，我很难过", "同学叫我{}", "我真是个{}", "你不是{}", "别说自己是{}", "电影里他演一个{}", "我是不是{}"],
}  # fmt: skip
INSULTING = {
    "en": ["nobody likes you", "you make me sick", "go back to where you came from", "you have no brain", "you are so dumb", "you suck",
           "you are ugly", "you are fat and lazy", "i hate your stupid face", "no one will ever love you", "you are worthless", "drop dead",
           "you disgust me", "your whole family is trash", "women are stupid", "men are pigs", "those people are animals", "all of them are thieves",
           "they should be locked up like dogs", "you should be ashamed of existing", "shut your stupid mouth", "you are a joke",
           "i hope you fail and cry", "you smell like garbage", "you are too stupid to understand", "only idiots think that", "go to hell",
           "immigrants are parasites", "old people are useless", "gays are disgusting", "you are dumber than a rock", "what is wrong with your brain"],
    "zh": ["没人喜欢你", "你真恶心", "滚回你的老家去", "你没长脑子吗", "你怎么这么蠢", "你太丑了，别出来吓人", "看见你就想吐", "你活着就是多余", "你全家都是垃圾",
           "女人就是头发长见识短", "男人没一个好东西", "他们那地方的人都是贼", "这些人就不配活着", "闭上你的臭嘴", "你就是个笑话", "你也配说话", "你懂个屁",
           "只有傻子才信", "外地人都滚出去", "同性恋真恶心", "你脑子有病", "你算老几", "撒泡尿照照自己", "像你这种人就该去死", "穷成这样还装"],
}  # fmt: skip


def main(out: Path) -> None:
    """Write the splits."""
    rng = random.Random(0)
    english, chinese = clean_english(), clean_chinese()
    splits: dict[str, list[Row]] = {"train": [], "validation": [], "test-dialogs.en": [], "test-dialogs.zh": []}
    for lang, keyed in (("en", english), ("zh", chinese)):
        for key, text in keyed:
            part = split_of(key)
            splits[f"test-dialogs.{lang}" if part == "test" else part].append((0.0, text))
        plain = [text for key, text in keyed if split_of(key) == "train"]
        rows = composed(lang, plain, rng) + (taught(plain, rng) if lang == "en" else [])
        for row in rows:
            splits["validation" if split_of(row[1]) == "validation" else "train"].append(row)
    splits["train"] += cold("train", sure=0.95)
    splits["validation"] += cold("dev", sure=1.0)
    for name, rows in splits.items():
        if name.startswith("test"):
            rng.shuffle(rows)
        write(out / f"{name}.tsv.gz", rows)
        print(name, len(rows), "offensive", round(float(np.mean([r[0] for r in rows])), 3))


def cold(part: str, *, sure: float) -> list[Row]:
    """COLD's texts; its training labels were found half by machine, so they are not quite sure."""
    with gzip.open(DATA / f"labelled/cold-offensive-{part}.zh.tsv.gz", "rt", encoding="utf-8") as file:
        cells = [line.rstrip("\n").partition("\t") for line in file][1:]
    return [(sure if label == LABELS[1] else 1 - sure, text) for label, _, text in cells if text]


def without_words(rows: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Leave out what the word list finds."""
    found = offensive_words(pa.array([text for _, text in rows])).to_pylist()
    return [row for row, hit in zip(rows, found, strict=True) if not hit]


def clean_english() -> list[tuple[str, str]]:
    """(key, text) of student small talk; it was recorded with names, and hardly anyone offends anyone in it."""
    seen = {text: dialog for (dialog, _), text in sorted(chitchat().items()) if 1 <= len(text.split()) <= 40}
    rows = sorted((key, text) for text, key in seen.items())
    random.Random(1).shuffle(rows)
    return without_words(rows[: N_CLEAN["chitchat"]])


def clean_chinese() -> list[tuple[str, str]]:
    """(key, text) of television talk and of counselling."""
    lines = [
        (f"{part}-{k // 50}", t) for part in ("valid", "test") for k, (_, t) in enumerate(cped_lines(part)) if k and t
    ]
    random.Random(1).shuffle(lines)
    talk = [(r["id"], m["content"]) for r in itertools.islice(smilechat(), 20_000) for m in r["messages"]]
    random.Random(2).shuffle(talk)
    return without_words(lines[: N_CLEAN["cped"]] + talk[: N_CLEAN["smilechat"]])


def composed(lang: str, plain: list[str], rng: random.Random) -> list[Row]:
    """Insults that we wrote, alone and beside an everyday sentence, and the same words without offence."""
    entries = [w.removesuffix("*") for w in (WORDS / f"words.{lang}.txt").read_text(encoding="utf-8").splitlines()]
    listed = [w for w in entries if w and not w.startswith("#")]
    words = [w for w in listed if " " not in w and len(w) > 2] * 2 + INSULTS[lang] * 3
    gap = " " if lang == "en" else ""
    short = [t for t in plain if len(t) < (60 if lang == "en" else 25)]
    rows: list[Row] = [(0.97, w) for w in listed]
    for sentence in INSULTING[lang] * 6 + [rng.choice(TARGETED[lang]).format(w) for w in words for _ in range(6)]:
        text = sentence + rng.choice(["", "", "!", ".", "！" if lang == "zh" else "!!"])
        rows.append((0.97, text.capitalize() if rng.random() < 0.5 else text))
        if rng.random() < 0.5:
            parts = [text, rng.choice(short)]
            rng.shuffle(parts)
            rows.append((0.95, gap.join(parts)))
    for word in INSULTS[lang]:
        rows += [(0.05, frame.format(word)) for frame in HARMLESS[lang]]
    return rows


def taught(plain: list[str], rng: random.Random) -> list[Row]:
    """Everyday utterances with one or two of the teacher's words, labelled by the teacher."""
    from profanity_check import predict_prob
    from profanity_check.profanity_check import vectorizer

    usual = Counter(w for t in plain for w in set(re.findall(r"[a-z]+", t.lower())))
    vocabulary = sorted(w for w in vectorizer.vocabulary_ if w.isalpha() and len(w) > 2)
    p = predict_prob(vocabulary)
    profane = [w for w, q in zip(vocabulary, p, strict=True) if q > 0.5 and usual[w] <= 2]
    harmless = [w for w, q in zip(vocabulary, p, strict=True) if q < 0.1 and usual[w] <= 2]
    texts = []
    for k in range(N_TAUGHT):
        words = rng.choice(plain).split()[:14]
        for _ in range(rng.choice((1, 1, 2))):
            words.insert(rng.randint(0, len(words)), rng.choice(profane if k % 3 else harmless))
        texts.append(" ".join(words))
    q = np.asarray(predict_prob(texts))
    return [(float(round(v, 3)), t) for v, t in zip(q, texts, strict=True) if not 0.35 < v < 0.65]


def write(path: Path, rows: list[Row]) -> None:
    """Write probabilities and texts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.GzipFile(path, "wb", mtime=0) as file:
        file.write(("\t".join((*LABELS, "text")) + "\n").encode())
        for p, text in rows:
            file.write(f"{1 - p:.3f}\t{p:.3f}\t{' '.join(text.split())}\n".encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
