"""Labels are data: any classes, trained, saved and named by the same code."""

from __future__ import annotations

import json

import pytest

from pege.cli import main
from pege.emotion import load_classifier, load_emotion_classifier, read_labelled
from pege.emotion.classifier import ClassifierConfig
from pege.errors import InputError


@pytest.fixture(scope="module")
def offensive(tmp_path_factory):
    """A folder that the command line trained on two classes, and its texts."""
    folder = tmp_path_factory.mktemp("two")
    words = {"clean": "table door street", "offensive": "scum moron filth"}
    lines = [f"{label}\tyou {w} {k}" for label, ws in words.items() for w in ws.split() for k in range(6)]
    (folder / "x.tsv").write_text("label\ttext\n" + "\n".join(lines) + "\n")
    sizes = "--vocabulary_size 200 --embedding_size 16 --n_filters 8 --n_epochs 8 --batch_size 8 --learning_rate 0.02"
    files = ["--train", str(folder / "x.tsv"), "--validation", str(folder / "x.tsv"), "--output", str(folder / "model")]
    main(["emotion", "train", "--labels", "clean", "offensive", *files, *sizes.split(), "--json"])
    return folder / "model", folder / "x.tsv"


def test_two_classes_are_learnt_by_the_same_command(offensive):
    model = load_classifier(offensive[0])
    assert model.labels == ("clean", "offensive")
    assert model.predict(["you table", "you scum"]).argmax(1).tolist() == [0, 1]


def test_a_classifier_of_other_classes_tells_no_emotions(offensive):
    with pytest.raises(InputError, match="tells clean, offensive, not emotions"):
        load_emotion_classifier(offensive[0])
    with pytest.raises(InputError, match="not emotions"):
        load_classifier(offensive[0]).emotions(["hi"])


def test_eval_compare_and_cascade_take_it(offensive, capsys, tmp_path):
    model, file = map(str, offensive)
    main(["emotion", "eval", model, file, "--json"])
    assert json.loads(capsys.readouterr().out)["labels"] == ["clean", "offensive"]
    main(["emotion", "cascade", model, model, "--validation", file, "--output", str(tmp_path / "c"), "--json"])
    assert json.loads(capsys.readouterr().out) == {"name": "cascade", "threshold": 0.0, "asked": 0.0}
    main(["emotion", "compare", model, str(tmp_path / "c"), "--file", file])
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "36 texts"
    assert out[3].split()[:4] == ["cascade", "1.000", "1.000", "1.000"]


@pytest.mark.parametrize("labels", [("one",), ("a", "a"), ("a", ""), ("a ", "b")])
def test_labels_that_name_no_classes_are_refused(tmp_path, labels):
    with pytest.raises(InputError, match="two or more different names"):
        read_labelled(tmp_path / "x.tsv", labels=labels)


def test_probabilities_have_a_column_for_each_label(tmp_path):
    (tmp_path / "x.tsv").write_text("clean\toffensive\ttext\n0.25\t0.75\thi\n")
    found = read_labelled(tmp_path / "x.tsv", labels=("clean", "offensive"))
    assert found.targets.tolist() == [[0.25, 0.75]]
    with pytest.raises(InputError, match="unknown header"):
        read_labelled(tmp_path / "x.tsv")


@pytest.mark.parametrize("change", [{"prior": (0.5, 0.5)}, {"labels": ("a", "b")}, {"prior": (0.0, 0.0, 0.0)}])
def test_a_config_that_contradicts_itself_is_refused(change):
    with pytest.raises(ValueError, match=r"of one length|is 0 everywhere"):
        ClassifierConfig(name="x", shape={"vocabulary_size": 9}, **change)
