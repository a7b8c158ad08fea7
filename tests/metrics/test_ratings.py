import pytest

from pege.errors import InputError
from pege.metrics.ratings import rating_columns, read_ratings

HEAD = "id,rater,scale,rating\n"


def test_means_over_raters(tmp_path):
    (tmp_path / "r.csv").write_text(HEAD + "a,x,empathy,1\na,y,empathy,0\nb,x,empathy,1\n")
    columns = rating_columns(read_ratings(tmp_path / "r.csv"), ["b", "a"])
    assert columns["empathy"].tolist() == [1.0, 0.5]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("a,x,empathy,much\n", "rating"),
        ("a,x,empathy,nan\n", "finite"),
        ("a,x,empathy\n", "rating"),
        ("a,x,empathy,1\na,x,empathy,0\n", "twice"),
    ],
)
def test_bad_ratings_are_named(tmp_path, body, message):
    (tmp_path / "r.csv").write_text(HEAD + body)
    with pytest.raises(InputError, match=message):
        read_ratings(tmp_path / "r.csv")


def test_an_unrated_dialog_is_named(tmp_path):
    (tmp_path / "r.csv").write_text(HEAD + "a,x,empathy,1\n")
    with pytest.raises(InputError, match="'b'"):
        rating_columns(read_ratings(tmp_path / "r.csv"), ["a", "b"])
