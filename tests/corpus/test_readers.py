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


TALK = [{"speaker": "seeker", "content": "I fear"}, {"speaker": "supporter", "content": "Why"}]
HEAD = "conv_id,utterance_idx,context,prompt,speaker_idx,utterance,selfeval,tags\n"


@pytest.mark.parametrize(
    ("name", "text", "layout", "reason"),
    [
        ("x.json", json.dumps([{"dialog": ["I fear", "Why"]}, {"dialog": TALK}]), "esconv", "holds no dialog"),
        ("x.json", json.dumps([{"dialog": [{"speaker": "robot", "content": "a"}]}, {"dialog": TALK}]), "esconv", "neither"),
        ("x.json", json.dumps([{"dialog": [{"speaker": "seeker"}]}, {"dialog": TALK}]), "esconv", "without text"),
        ("x.json", json.dumps([["a", " ", "b"], ["I fear", "Why"]]), "lccc", "without text"),
        ("x.txt", "a __eou__ __eou__ b __eou__\n\nI fear __eou__ Why __eou__\n", None, "without text"),
        ("x.jsonl", '{"conversations": ["a", "b"]}\n{"conversations": [{"from": "human", "value": "I fear"}]}', None, "no messages"),
        ("x.csv", HEAD + "a,1,sad,p,1,I am sa\nb,1,sad,p,1,I fear,x,\n", None, "too few fields"),
        ("x.csv", f"{HEAD}a,1,sad,p,1,{'x' * 1_000_000},x,\nb,1,sad,p,1,I fear,x,\n", None, "at most"),
        ("x.csv", f"{HEAD}a,1,sad,p,1,\udcff,x,\nb,1,sad,p,1,I fear,x,\n", None, "unicode"),
    ],
)  # fmt: skip
def test_a_dialog_that_is_no_dialog_is_refused_and_the_next_one_read(tmp_path, name, text, layout, reason):
    (tmp_path / name).write_text(text, encoding="utf-8", errors="surrogateescape")
    raw = list(read_raw([str(tmp_path / name)], layout=layout))
    first, second = (check_row(row, file, line) for file, line, row in raw)
    assert reason in str(first)
    assert second.texts[0].replace(" ", "") == "Ifear"


def test_a_mark_at_the_beginning_and_a_number_as_id_are_taken(tmp_path):
    row = {"id": 17, "messages": [{"role": "user", "content": "a"}]}
    (tmp_path / "x.jsonl").write_text(json.dumps(row), encoding="utf-8-sig")
    ((file, line, raw),) = read_raw([str(tmp_path / "x.jsonl")])
    assert check_row(raw, file, line).id == "17"
    (tmp_path / "x.csv").write_text(f"{HEAD}a,1,sad,p,1,I fear,x,\n", encoding="utf-8-sig")
    assert len(list(read_raw([str(tmp_path / "x.csv")]))) == 1
