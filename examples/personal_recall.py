"""Recall and precision of personal data on the shipped test set: `python examples/personal_recall.py [RECOGNISER] [HALF]`.

RECOGNISER is a name of `pege.corpus.entities.load_recogniser` (default `default`), HALF `test` (default) or `dev`. A name
counts as found where an entity of any kind overlaps it, an entity as right where it overlaps any planted data; contact data
is counted by utterance. The last rows say what the filter does: whether an utterance with personal data is hit at all.
"""

from __future__ import annotations

import importlib.resources
import json
import sys
import time
from collections import Counter

import pyarrow as pa

from pege.corpus.entities import Entity, EntityRecogniser, load_recogniser
from pege.corpus.personal import CONTACT_RULES

NAMES = ("person", "institution", "address")


def read_half(lang: str, half: str) -> list[dict]:
    source = importlib.resources.files("pege") / "assets" / "corpus" / f"personal.{lang}.jsonl"
    rows = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
    return [r for r in rows if r["half"] == half]


def overlaps(entity: Entity, span: dict) -> bool:
    return entity.start < span["stop"] and span["start"] < entity.stop


def measure(rows: list[dict], recogniser: EntityRecogniser) -> dict[str, Counter]:
    """Counts by kind: planted, found, hits, right."""
    counts = {kind: Counter() for kind in (*NAMES, *CONTACT_RULES, "any: utterances")}
    texts = [r["text"] for r in rows]
    hit = [False] * len(rows)
    for i, entities in enumerate(recogniser.find(texts)):
        hit[i] = bool(entities)
        for span in rows[i]["spans"]:
            if span["kind"] in NAMES:
                counts[span["kind"]]["planted"] += 1
                counts[span["kind"]]["found"] += any(overlaps(e, span) for e in entities)
        for entity in entities:
            counts[entity.kind]["hits"] += 1
            counts[entity.kind]["right"] += any(overlaps(entity, s) for s in rows[i]["spans"])
    for kind, rule in CONTACT_RULES.items():
        for i, is_hit in enumerate(rule(pa.array(texts)).to_pylist()):
            planted = any(s["kind"] == kind for s in rows[i]["spans"])
            hit[i] |= is_hit
            counts[kind].update(planted=planted, found=planted and is_hit, hits=is_hit, right=planted and is_hit)
    for is_hit, row in zip(hit, rows, strict=True):
        planted = bool(row["spans"])
        found = planted and is_hit
        counts["any: utterances"].update(planted=planted, found=found, hits=is_hit, right=found)
    return counts


def main() -> None:
    name, half = [*sys.argv[1:], *["default", "test"][len(sys.argv) - 1 :]][:2]
    recogniser = load_recogniser(name)
    print(f"recogniser {name}, {half} half\n\n| language | kind | recall | precision |\n|---|---|---|---|")
    for lang in ("en", "zh"):
        for kind, n in measure(read_half(lang, half), recogniser).items():
            recall = f"{n['found']}/{n['planted']} = {n['found'] / n['planted']:.2f}" if n["planted"] else "-"
            precision = f"{n['right']}/{n['hits']} = {n['right'] / n['hits']:.2f}" if n["hits"] else "-"
            print(f"| {lang} | {kind} | {recall} | {precision} |")
    print()
    for lang in ("en", "zh"):
        texts = [r["text"] for r in read_half(lang, "dev") + read_half(lang, "test")] * 4
        start = time.process_time()
        recogniser.find(texts)
        middle = time.process_time()
        column = pa.array(texts * 25)
        for rule in CONTACT_RULES.values():
            rule(column)
        stop = time.process_time()
        names, contacts = len(texts) / (middle - start), len(column) / (stop - middle)
        print(f"{lang}: names {names:,.0f} utterances/s, contact data {contacts:,.0f} utterances/s of one core")


if __name__ == "__main__":
    main()
