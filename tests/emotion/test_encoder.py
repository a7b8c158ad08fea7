"""ERNIE-TextCNN: trained, saved, loaded offline, the same answer in any batch; bad encoders are named."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from pege.emotion import load_emotion_classifier
from pege.emotion.encoder import read_encoder, special_pieces
from pege.emotion.evaluation import macro_f1
from pege.emotion.options import TrainOptions
from pege.errors import InputError

SMALL = {"n_filters": 8, "widths": (2, 3), "batch_size": 8, "learning_rate": 0.02, "max_pieces": 32}


def train(texts, bert, output, **options):
    from pege.emotion.train import train_emotion_classifier

    settings = TrainOptions(encoder=str(bert), **SMALL, **options)
    return train_emotion_classifier(texts, texts, output, options=settings)


@pytest.fixture(scope="module")
def trained(plain_texts, tiny_bert_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder") / "one"
    return folder, train(plain_texts[1], tiny_bert_dir, folder, n_epochs=8, encoder_learning_rate=0.005)


def test_it_learns_and_what_is_saved_is_what_was_measured(trained, plain_texts):
    folder, found = trained
    texts = plain_texts[1]
    assert found["macro_f1"] > 0.9
    loaded = load_emotion_classifier(folder).predict(texts.texts)
    assert macro_f1(loaded.argmax(1), texts.classes) == pytest.approx(found["macro_f1"])


def test_it_loads_without_the_encoder_it_came_from(trained, tiny_bert_dir):
    config = json.loads((trained[0] / "config.json").read_text())
    assert str(tiny_bert_dir) not in json.dumps(config)
    assert config["encoder"]["model_type"] == "bert"
    assert {p.name for p in trained[0].iterdir()} == {"model.safetensors", "tokenizer.json", "config.json"}


def test_a_text_does_not_change_with_its_batch_and_a_blank_one_gets_the_prior(trained):
    model = load_emotion_classifier(trained[0])
    alone = model.predict(["it is happy"])[0]
    beside = model.predict(["it is happy", "it is a table door street sad bad good 1 2 3", "  "])
    assert beside[0] == pytest.approx(alone, abs=1e-5)
    assert beside[2] == pytest.approx([1 / 3] * 3, abs=1e-5)  # the classes of the training text are of one size


def test_a_long_text_is_read_from_both_ends_within_the_encoders_places(trained):
    model = load_emotion_classifier(trained[0])
    ids = model.pieces(["sad " * 100 + "good " * 100])[0]
    assert len(ids) == 32
    assert (ids[0], ids[1], ids[-2], ids[-1]) == (2, 8, 15, 3)  # [CLS] sad ... good [SEP]


def test_the_special_pieces_are_the_tokenizers(tiny_bert_dir):
    assert special_pieces(read_encoder(str(tiny_bert_dir))[1]) == ([2], [3])


def test_a_frozen_encoder_stays_as_it_was(plain_texts, tiny_bert_dir, tmp_path):
    train(plain_texts[1], tiny_bert_dir, tmp_path / "frozen", n_epochs=1, freeze_encoder=True)
    before = read_encoder(str(tiny_bert_dir))[0].state_dict()
    after = load_emotion_classifier(tmp_path / "frozen").model.encoder.state_dict()
    assert all(torch.equal(v.half().float(), after[k]) for k, v in before.items())


def test_an_encoder_that_is_none_is_named(tmp_path, plain_texts, tiny_bert_dir):
    with pytest.raises(InputError, match="no encoder could be read"):
        read_encoder(str(tmp_path / "nothing"))
    with pytest.raises(InputError, match="reads 64 pieces, not 128"):
        from pege.emotion.train import train_emotion_classifier

        options = TrainOptions(encoder=str(tiny_bert_dir))
        train_emotion_classifier(plain_texts[1], plain_texts[1], tmp_path / "x", options=options)


def test_a_folder_with_the_config_of_another_encoder_is_named(trained, tmp_path):
    shutil.copytree(trained[0], tmp_path / "other")
    path = tmp_path / "other" / "config.json"
    config = json.loads(path.read_text())
    for change, message in (
        ({"model_type": "no-such"}, "no encoder that transformers"),
        ({"hidden_size": 32}, "cut or"),
    ):
        path.write_text(json.dumps(config | {"encoder": config["encoder"] | change}))
        with pytest.raises(InputError, match=message):
            load_emotion_classifier(tmp_path / "other")


def test_the_weights_are_finite_numbers(trained):
    probabilities = load_emotion_classifier(trained[0]).predict(["it is good", "", "?"])
    assert np.isfinite(probabilities).all()
    assert probabilities.sum(1) == pytest.approx(1)
