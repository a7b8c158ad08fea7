"""CSV files: rows as they were written, and a line number for what is wrong."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pege.csvfile import read_csv, write_csv
from pege.errors import InputError


def read(path):
    return read_csv(path, lambda rows: list(rows), holds="rows", fix="write some")


def test_rows_carry_the_line_they_begin_at(tmp_path):
    (tmp_path / "t.csv").write_bytes(b'\xef\xbb\xbfa,b\r\n1,"x\r\ny"\r\n\r\n,,,\r\n2\r\n3,4,,\r\n')
    assert read(tmp_path / "t.csv") == [
        (2, {"a": "1", "b": "x\r\ny"}),
        (6, {"a": "2", "b": ""}),
        (7, {"a": "3", "b": "4"}),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('a,b\n1,2\n3,"4\n5,6\n7,8\n', r"t\.csv:3: a quote is opened in the row that begins here"),
        ('a,b\n1,2\n3,"4\n5,6\n7,"8"\n', r"t\.csv:3: a quote"),  # meets a quote of another row
        ('a,"b\n1,2\n', r"t\.csv:1: a quote"),
        ('a,b\n1,2\n\n3,"' + "4\n" * 99_999, r"t\.csv:4: a quote"),  # longer than a cell may be
        ("a,b\n1,2\n3,4,5\n", r"t\.csv:3: has 3 cells, the header 2"),
        ("a,b,a\n1,2,3\n", r"t\.csv:1: has the column 'a' twice"),
        ("a,b\n", "holds no rows"),
        ("", "holds no rows"),
    ],
)
def test_what_is_wrong_is_one_line_with_its_place(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path / "t.csv")
    assert "\n" not in str(caught.value)


def test_what_is_no_utf8_is_said(tmp_path):
    (tmp_path / "t.csv").write_bytes("a,b\nä,1\n".encode("latin-1"))
    with pytest.raises(InputError, match="in UTF-8"):
        read(tmp_path / "t.csv")


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0")) | st.sampled_from(["=1+1", "'-x", "''@", "-1"])


@given(st.lists(st.lists(CELLS, min_size=2, max_size=2).filter(any), min_size=1))
def test_what_is_written_is_read_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    write_csv(path, ("a", "b"), rows)
    assert [list(row.values()) for _, row in read(path)] == rows


@pytest.mark.parametrize("text", ["=1+1", "+x", "-x", "@x", "\t=1", "\r=1", "'=1", "-1+1", "=", "-"])
def test_text_like_a_formula_is_written_with_an_apostrophe(tmp_path, text):
    write_csv(tmp_path / "t.csv", ("a",), [[text]])
    assert list(csv.reader(io.StringIO((tmp_path / "t.csv").read_bytes().decode(), newline="")))[1] == [f"'{text}"]
    assert read(tmp_path / "t.csv") == [(2, {"a": text})]


@pytest.mark.parametrize("cell", [-1, -0.5, "-1", "+1.5", "-2e-7", "1", "a-b", "", "x@y"])
def test_numbers_and_plain_text_stay_as_they_are(tmp_path, cell):
    write_csv(tmp_path / "t.csv", ("a", "b"), [[cell, "x"]])
    assert (tmp_path / "t.csv").read_text() == f"a,b\n{cell},x\n"


def test_a_file_that_fails_on_the_way_is_not_written(tmp_path):
    def rows():
        yield ["1"]
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_csv(tmp_path / "t.csv", ("a",), rows())
    assert list(tmp_path.iterdir()) == []
