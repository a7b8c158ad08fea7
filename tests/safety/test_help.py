"""Help lines: ours, and those of a file of the owner's."""

from __future__ import annotations

import json
import logging

import pytest

from pege.errors import InputError
from pege.safety.help import check_help, help_for, help_lines, help_text, help_written

LINE = {"country": "BR", "name": "CVV", "contact": "188", "source": "https://cvv.org.br", "checked": "2026-10-05"}
OWN = {"written": "2026-10-05", "lines": [LINE]}


@pytest.fixture
def bring(tmp_path, monkeypatch):
    """Name a file of the owner's with this content."""

    def write(content):
        path = tmp_path / f"help-{len(list(tmp_path.iterdir()))}.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        monkeypatch.setenv("PEGE_HELP_LINES", str(path))
        return path

    return write


def test_ours_say_where_each_line_is_from_and_that_none_was_checked():
    check_help()
    assert help_written() == "2026-11"
    assert {row["checked"] for row in help_lines()} == {None}
    assert all(row["source"].startswith("https://") for row in help_lines())


def test_an_owners_lines_stand_in_the_fixed_text_of_both_languages(bring):
    bring(OWN)
    check_help()
    assert help_lines() == [LINE]
    assert help_written() == "2026-10-05"
    for language, words in (("en", "I am a computer program"), ("zh", "我只是一个程序")):
        text = help_text(language)
        assert "- BR: CVV, 188" in text
        assert words in text
        assert "988" not in text


def test_an_owners_text_is_taken_as_it_is(bring):
    bring({**OWN, "text": {"en": "Call {lines} {now}"}})
    check_help()
    assert help_for("hello") == "Call - BR: CVV, 188 {now}"
    assert "我只是一个程序" in help_for("我不想活了")  # ours where there is none


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "JSON"), ("[]", "object"), ({"written": "2026-10"}, "lines"), ({"lines": [LINE]}, "written"),
        ({**OWN, "lines": []}, "lines"), ({**OWN, "written": "soon"}, "written: is no YYYY-MM"),
        ({**OWN, "lines": [{**LINE, "source": "javascript:alert(1)"}]}, "lines.0.source: is no address"),
        ({**OWN, "lines": [{**LINE, "checked": "yesterday"}]}, "lines.0.checked"),
        ({**OWN, "lines": [{**LINE, "contact": " "}]}, "lines.0.contact"),
        ({**OWN, "text": {"en": "Call somebody."}}, "text.en: has no {lines}"),
        ({**OWN, "more": 1}, "more"),
    ],
)  # fmt: skip
def test_a_file_that_is_none_is_told_at_the_start_and_ours_are_given_all_the_same(bring, caplog, content, why):
    path = bring(content)
    with pytest.raises(InputError) as told:
        check_help()
    assert str(told.value).startswith(f"{path}: ")
    assert why in str(told.value)
    with caplog.at_level(logging.ERROR):
        assert "988" in help_text("en")  # a person in need is never left without
    assert "shipped help lines" in caplog.text


def test_a_file_that_is_not_there_is_told_at_the_start(monkeypatch):
    monkeypatch.setenv("PEGE_HELP_LINES", "/nowhere/help.json")
    with pytest.raises(InputError, match="cannot be read"):
        check_help()
