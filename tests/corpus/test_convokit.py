"""ConvoKit's folders, of both generations of field names."""

from __future__ import annotations

import json

import pytest

from pege.corpus.readers import guess_layout, read_raw
from pege.errors import InputError

NEW = [
    {
        "id": "u1",
        "conversation_id": "c1",
        "reply-to": None,
        "speaker": "ann",
        "text": "I am sad",
        "timestamp": 1,
        "meta": {},
    },
    {
        "id": "u2",
        "conversation_id": "c1",
        "reply-to": "u1",
        "speaker": "bob",
        "text": "Why?",
        "timestamp": 2,
        "meta": {},
    },
    {
        "id": "u3",
        "conversation_id": "c1",
        "reply-to": "u2",
        "speaker": "ann",
        "text": "It rains",
        "timestamp": 3,
        "meta": {},
    },
]
OLD = [
    {"id": r["id"], "root": "c1", "reply_to": r["reply-to"], "user": r["speaker"], "text": r["text"]} for r in NEW
]  # fmt: skip


def corpus(tmp_path, rows, *, companions=("corpus.json", "conversations.json")):
    folder = tmp_path / "my-corpus"
    folder.mkdir()
    (folder / "utterances.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    for name in companions:
        (folder / name).write_text("{}")
    return folder


@pytest.mark.parametrize("rows", [NEW, OLD, NEW[::-1]], ids=["new", "old", "reversed"])
@pytest.mark.parametrize("by_file", [False, True])
def test_a_corpus_is_read_by_its_folder_and_by_its_file(tmp_path, rows, by_file):
    folder = corpus(tmp_path, rows)
    ((file, _, row),) = read_raw([str(folder / "utterances.jsonl" if by_file else folder)])
    assert file == "my-corpus/utterances.jsonl"
    assert row == {
        "id": "c1#u1~u3",
        "source": "convokit",
        "messages": [
            {"role": "user", "content": "I am sad"},
            {"role": "assistant", "content": "Why?"},
            {"role": "user", "content": "It rains"},
        ],
        "posts": ["u1", "u2", "u3"],
    }


def test_only_utterances_are_needed(tmp_path):
    assert len(list(read_raw([str(corpus(tmp_path, NEW, companions=()))]))) == 1


def test_a_file_of_that_name_alone_is_taken_for_rows(tmp_path):
    assert guess_layout(corpus(tmp_path, NEW, companions=()) / "utterances.jsonl") == "messages"


def test_another_folder_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no ConvoKit corpus; its folder holds utterances\.jsonl"):
        list(read_raw([str(tmp_path)], layout="convokit"))
