"""The layouts that people have."""

from __future__ import annotations

import json

import pytest

from pege.corpus import read_raw
from pege.corpus.readers import check_row
from pege.dialog import Dialog
from pege.errors import InputError


def read(tmp_path, name, text, layout=None):
    (tmp_path / name).write_text(text, encoding="utf-8")
    rows = [check_row(raw, file, line) for file, line, raw in read_raw([str(tmp_path / name)], layout=layout)]
    return [(r.texts if isinstance(r, Dialog) else str(r)) for r in rows]


def test_messages_of_openai_and_sharegpt(tmp_path):
    openai = {
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "assistant", "content": "Hi"},
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"},
        ]
    }
    share = {"conversations": [{"from": "human", "value": "c"}, {"from": "gpt", "value": "d"}]}
    assert read(tmp_path, "x.jsonl", f"{json.dumps(openai)}\n{json.dumps(share)}\n") == [["a", "b"], ["c", "d"]]


def test_empathetic_dialogues(tmp_path):
    head = "conv_id,utterance_idx,context,prompt,speaker_idx,utterance,selfeval,tags\n"
    rows = "hit:0_conv:1,1,sad,p,1,I lost_comma_ well,x,\nhit:0_conv:1,2,sad,p,0,Oh no,x,\nhit:0_conv:1,3,sad,p,0,Why?,x,\n"
    assert read(tmp_path, "x.csv", head + rows) == [["I lost, well", "Oh no Why?"]]


def test_esconv_starts_with_the_seeker(tmp_path):
    rows = [
        {
            "emotion_type": "fear",
            "dialog": [
                {"speaker": "supporter", "content": "Hello"},
                {"speaker": "seeker", "content": "I fear"},
                {"speaker": "supporter", "content": "Why"},
            ],
        }
    ]
    assert read(tmp_path, "x.json", json.dumps(rows), "esconv") == [["I fear", "Why"]]


def test_lccc_and_dailydialog(tmp_path):
    assert read(tmp_path, "x.json", json.dumps([["你 好", "好 啊"]], ensure_ascii=False), "lccc") == [["你好", "好啊"]]
    assert read(tmp_path, "x.txt", "Hi . __eou__ Hello ! __eou__\n") == [["Hi .", "Hello !"]]


def test_a_dataset_folder_is_read_by_its_name(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    (folder / "train.jsonl").write_text(json.dumps(row) + "\n")
    rows = [check_row(raw, file, line) for file, line, raw in read_raw([f"hf:{folder}"])]
    assert [r.texts for r in rows] == [["a", "b"]]


@pytest.mark.parametrize(
    ("name", "text", "layout", "message"),
    [
        ("x.csv", "a,b\n", None, "no CSV of EmpatheticDialogues"),
        ("x.json", "[", "esconv", "not JSON"),
        ("x.json", "{}", "lccc", "no JSON list"),
        ("x.json", "[]", None, "--layout"),
        ("x.jsonl", "", "mesages", "did you mean 'messages'"),
    ],
)
def test_another_layout_is_named(tmp_path, name, text, layout, message):
    with pytest.raises(InputError, match=message):
        read(tmp_path, name, text, layout)


def test_a_bad_item_gives_its_reason(tmp_path):
    rows = read(tmp_path, "x.jsonl", '{"x": 1}\n{"messages": [{"role": "assistant", "content": "hi"}]}\n')
    assert "no messages" in rows[0]
    assert "starts with" in rows[1]
