"""The check before a release finds what the filter let through."""

from __future__ import annotations

import json

import pytest

from pege.corpus import CorpusConfig, build_corpus
from pege.corpus.audit import LOOSE, audit_corpus
from pege.errors import InputError


class Nobody:
    """A recogniser that knows nobody."""

    def find(self, texts):
        return [[] for _ in texts]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("ring me at 415 555 26 71 any time", "digits"),
        ("write to jane (at) mail", "at-sign"),
        ("see www.example.org/me", "link"),
        ("my name is Okonkwo", "introduction"),
        ("我叫阿强", "introduction"),
        ("I asked Dr. Meier", "title"),
        ("王老师说的", "title"),
        ("I met Derek Okonkwo there", "capitals"),
    ],
)
def test_each_loose_pattern_finds_its_kind(text, reason):
    assert [r for r, p in LOOSE.items() if p.search(text)] == [reason]


@pytest.mark.parametrize(
    "text", ["I feel sad today and 3 times worse than in 2019.", "今天我好难过，想哭。", "Thank you so much!"]
)
def test_plain_talk_is_not_suspected(text):
    assert not any(p.search(text) for p in LOOSE.values())


@pytest.fixture
def corpus(tmp_path):
    lines = []
    for k in range(6):
        texts = [
            f"I feel sad number {k}",
            f"I told Derek Okonkwo of it {k}" if k == 2 else f"tell me more {k}",
            "I feel great",
        ]
        messages = [{"role": ("user", "assistant")[j % 2], "content": t} for j, t in enumerate(texts)]
        lines.append(json.dumps({"id": f"d{k}", "messages": messages, "mood": "call me Ishmael" if k == 4 else "low"}))
    (tmp_path / "raw.jsonl").write_text("\n".join(lines))
    config = CorpusConfig(
        input=(str(tmp_path / "raw.jsonl"),), filters=(), fields=("mood",), duplicate_bands=0, validation_share=0.3
    )
    build_corpus(config, tmp_path / "out", workers=1)
    return tmp_path / "out"


def test_texts_and_fields_are_searched(corpus):
    found = audit_corpus(corpus, Nobody(), n_dialogs=100)
    assert found["n_dialogs"] == 6
    assert {(r["id"], r["place"], r["reason"]) for r in found["leaks"]} == {
        ("d2", 2, "capitals"),
        ("d4", "extra", "introduction"),
    }
    assert found["suspected"] == {"capitals": 1, "introduction": 1}


def test_the_sample_is_drawn_by_the_seed(corpus):
    assert audit_corpus(corpus, Nobody(), n_dialogs=3)["n_dialogs"] == 3
    with pytest.raises(InputError, match="a sample of -3"):
        audit_corpus(corpus, Nobody(), n_dialogs=-3)
