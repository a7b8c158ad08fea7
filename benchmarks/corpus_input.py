"""Raw dialogs in any number, out of real ones: what `corpus.py` lets the builder and its peers read.

A dialog takes its length from a real row and each utterance from two real ones of the same source, side and place
(first, last, between): the first half of the one and the second half of the other. So no two dialogs are alike, and the
share that each rule drops changes little with the number; only utterances without a seam come again as they are, so
that at a million dialogs one in seventeen has a response that occurs too often.
One utterance in twenty gets dirt of the kind that people write.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from real import DIALOGS, read_dialogs

from pege.io import write_rows

LEFT_OUT = ("empathetic-pairs",)  # two utterances each: every one of them is too few
SHARE_DIRTY = 0.05
SHARE_CUT = 0.5  # of the dialogs that end with the agent: people wrote one more
#: what is put before and behind an utterance; most is taken away again, some is a reason to drop
DIRT = (
    ("@anna_b ", ""), ("<b>", "</b>"), ("", " &amp; so on"), ("  ", " \n"), ("", "!!!!!!!!"), ("**", "**"), ("> ", ""),
    ("", "ｏｋ１２"), ("回复@小明:", ""), ("", "\u200b"), ("", " http://example.com/a?b=1"), ("", " x" * 12),
    ("", " mail me: jo@example.org"), ("", " call 13812345678"), ("", " 微信号：abc_12345"), ("", "锟斤拷"),
)  # fmt: skip
_SEAM = re.compile(r"[ ，。！？；,.!?;]")


@dataclass
class Pool:
    """Utterances of a source, language, side and place, cut in two: any head goes with any tail."""

    heads: list[str] = field(default_factory=list)
    tails: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        """Cut at the seam that is nearest to the middle; what has none stays whole, with an empty tail."""
        seams = [m.end() for m in _SEAM.finditer(text, 1, len(text) - 1)] if len(text) > 2 else []
        seam = min(seams, key=lambda k: abs(2 * k - len(text)), default=len(text))
        self.heads.append(text[:seam])
        self.tails.append(text[seam:])

    def draw(self, rng: np.random.Generator) -> str:
        """Give a new utterance."""
        a, b = rng.integers(len(self.heads), size=2).tolist()
        return self.heads[a] + (self.tails[b] if self.tails[a] else "")


@dataclass
class Origin:
    """A source in one language: how long its dialogs are, and what is said where."""

    lang: str
    source: str
    lengths: list[int] = field(default_factory=list)
    pools: dict[tuple[int, str], Pool] = field(default_factory=dict)

    def pool(self, k: int, n: int) -> Pool:
        """Give the pool of utterance k of n."""
        place = "first" if k == 0 else "last" if k == n - 1 else "between"
        return self.pools.setdefault((k % 2, place), Pool())

    def draw(self, dialog_id: str, rng: np.random.Generator) -> dict[str, Any]:
        """Give a new row."""
        n = self.lengths[int(rng.integers(len(self.lengths)))]
        n -= n % 2 == 0 and n > 2 and rng.random() < SHARE_CUT
        texts = []
        for k in range(n):
            before, behind = DIRT[int(rng.integers(len(DIRT)))] if rng.random() < SHARE_DIRTY else ("", "")
            texts.append(before + self.pool(k, n).draw(rng) + behind)
        messages = [{"role": ("user", "assistant")[k % 2], "content": t} for k, t in enumerate(texts)]
        return {"id": dialog_id, "lang": self.lang, "source": self.source, "messages": messages}


def read_origins() -> list[Origin]:
    """Read the real dialogs: ``PEGE_DATA/dialogs``, else the package ``chitchat_dataset``."""
    files = [str(p) for p in sorted(DIALOGS.glob("*.jsonl.gz")) if not p.name.startswith(LEFT_OUT)]
    origins: dict[tuple[str, str], Origin] = {}
    for file, dialog in read_dialogs(files or ["chitchat"]):
        lang, source = dialog.language, dialog.source or file
        origin = origins.setdefault((lang, source), Origin(lang, source))
        n = len(dialog.texts)
        if n > 1:
            origin.lengths.append(n)
        for k, text in enumerate(dialog.texts):
            origin.pool(k, n).add(text)
            if k == n - 1 and n % 2 == 0:  # a side that never ends a dialog may be cut to
                origin.pool(k - 1, n - 1).add(dialog.texts[k - 1])
    return list(origins.values())


def write_input(folder: Path, n_dialogs: int, *, n_files: int, seed: int = 0) -> list[Path]:
    """Write dialogs as ``00000.jsonl.gz``, ...: the languages alike, within each the sources alike.

    Args:
        folder: of the files.
        n_dialogs: of all files.
        n_files: how many files.
        seed: of everything that is drawn.
    """
    origins = read_origins()
    langs = sorted({o.lang for o in origins})
    by_lang = [[o for o in origins if o.lang == lang and o.lengths] for lang in langs]
    rng = np.random.default_rng(seed)

    def rows(ids: range) -> Iterator[dict[str, Any]]:
        for k in ids:
            same = by_lang[int(rng.integers(len(by_lang)))]
            yield same[int(rng.integers(len(same)))].draw(f"b{k:08d}", rng)

    paths = []
    bounds = np.linspace(0, n_dialogs, n_files + 1).astype(int).tolist()
    for k, (start, stop) in enumerate(pairwise(bounds)):
        paths.append(folder / f"{k:05d}.jsonl.gz")
        write_rows(paths[-1], rows(range(start, stop)))
    return paths
