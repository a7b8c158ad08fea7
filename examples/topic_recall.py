"""Recall and precision of topics on the shipped test set: `python examples/topic_recall.py [TOPICS]`.

TOPICS is a file of further phrases as `pege corpus build --topics` takes it. A post on a topic counts as found where any
topic has a phrase in it (the filter then drops its dialog), and as named where it is its own. A hit is right on a post,
wrong on emotional talk that touches the topic. The posts were written by somebody else than the phrases, and the half
`test` was not looked at for them.
"""

from __future__ import annotations

import importlib.resources
import json
import sys
from collections import Counter

import pyarrow as pa

from pege.corpus.topics import load_topics, topic_of


def read_posts(lang: str) -> list[dict]:
    source = importlib.resources.files("pege") / "assets" / "corpus" / f"topics.{lang}.jsonl"
    return [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]


def measure(posts: list[dict], found: list[str | None]) -> dict[str, Counter]:
    """Counts by topic and over all: posts, found, named, talk (the emotional one), wrong."""
    counts = {topic: Counter() for topic in dict.fromkeys([*(p["topic"] for p in posts), "all"])}
    for post, topic in zip(posts, found, strict=True):
        for name in (post["topic"], "all"):
            if post["on_topic"]:
                counts[name].update(posts=1, found=topic is not None, named=topic == post["topic"])
            else:
                counts[name].update(talk=1, wrong=topic is not None)
    return counts


def main() -> None:
    topics = load_topics(*sys.argv[1:2])
    print(
        "| language | half | topic | recall | of them named so | wrong hits | precision |\n|---|---|---|---|---|---|---|"
    )
    for lang in ("en", "zh"):
        posts = read_posts(lang)
        found = topic_of(pa.array([p["text"] for p in posts]), topics).to_pylist()
        for half in ("dev", "test"):
            some = [(p, t) for p, t in zip(posts, found, strict=True) if p["half"] == half]
            for topic, n in measure(*map(list, zip(*some, strict=True))).items():
                hits = n["found"] + n["wrong"]
                recall = f"{n['found']}/{n['posts']} = {n['found'] / n['posts']:.2f}"
                precision = f"{n['found'] / hits:.2f}" if hits else "-"
                print(
                    f"| {lang} | {half} | {topic} | {recall} | {n['named']} | {n['wrong']}/{n['talk']} | {precision} |"
                )


if __name__ == "__main__":
    main()
