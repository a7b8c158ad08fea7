import pytest

from pege.errors import InputError
from pege.metrics.ratings import Rating, check_rated, rating_columns, read_ratings
from pege.metrics.signature import ratings_signature

HEAD = "id,rater,scale,rating\n"


def test_means_over_raters(tmp_path):
    (tmp_path / "r.csv").write_text(HEAD + "a,x,empathy,1\na,y,empathy,0\nb,x,empathy,1\n")
    columns = rating_columns(read_ratings(tmp_path / "r.csv"), ["b", "a"])
    assert columns["empathy"].tolist() == [1.0, 0.5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + "a,x,empathy,much\n", r"r\.csv:2: rating"),
        (HEAD + "a,x,empathy,nan\n", "finite"),
        (HEAD + "a,x,empathy\n", r"r\.csv:2: rating"),
        (HEAD + ",x,empathy,1\n", r"r\.csv:2: id"),
        (HEAD + "a,x,empathy,1\n\na,x,empathy,0\n", r"r\.csv:4: rater 'x' rates 'a' twice"),
        ("id,who,scale,score\na,x,empathy,1\n", r"r\.csv:1: lacks the column rater and rating"),
        (HEAD, "holds no ratings"),
        ("", "holds no ratings"),
    ],
)
def test_bad_ratings_are_named(tmp_path, text, message):
    (tmp_path / "r.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_ratings(tmp_path / "r.csv")


def test_a_spreadsheets_mark_and_further_columns_are_read_over(tmp_path):
    (tmp_path / "r.csv").write_text("id,rater,scale,rating,note\na,x,empathy,1,fine\n", encoding="utf-8-sig")
    assert read_ratings(tmp_path / "r.csv") == [Rating(id="a", rater="x", scale="empathy", rating=1)]


def test_ratings_of_other_dialogs_are_refused():
    with pytest.raises(InputError, match="'b'"):
        check_rated([Rating(id=i, rater="x", scale="empathy", rating=1) for i in "ab"], ["a"])


def test_the_signature_pins_what_was_said_not_the_order_of_lines():
    said = [Rating(id=i, rater="x", scale="empathy", rating=1) for i in "ab"]
    other = [said[0], said[1].model_copy(update={"rating": 0.0})]
    assert ratings_signature(said) == ratings_signature(said[::-1]) != ratings_signature(other)
    assert "|n:2|raters:1|" in ratings_signature(said)


def test_an_unrated_dialog_is_named(tmp_path):
    (tmp_path / "r.csv").write_text(HEAD + "a,x,empathy,1\n")
    with pytest.raises(InputError, match="'b'"):
        rating_columns(read_ratings(tmp_path / "r.csv"), ["a", "b"])
