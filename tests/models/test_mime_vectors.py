"""MIME's emotion embeddings from word vectors."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pege.errors import InputError
from pege.models.mime import MimeConfig, MimeForConditionalGeneration, set_emotion_vectors

SMALL = {
    "vocab_size": 9, "embedding_size": 6, "hidden_size": 8, "key_depth": 4, "filter_size": 5, "latent_size": 7,
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<unk>", "<pad>", "</s>", "<s>", "negative", "neutral", "positive", "good", "bad"]
    core = Tokenizer(models.WordLevel({w: k for k, w in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", pad_token="<pad>")


def test_emotions_start_from_the_vectors_of_their_names(tokenizer):
    model = MimeForConditionalGeneration(MimeConfig.of_three(**SMALL))
    matrix = np.arange(54, dtype=np.float32).reshape(9, 6)
    set_emotion_vectors(model, tokenizer, matrix)
    scale = math.sqrt(6)
    np.testing.assert_allclose(model.encoder.mixtures.embeddings.weight.detach(), matrix[[4, 5, 6]] * scale, rtol=1e-6)
    set_emotion_vectors(model, tokenizer, matrix, names=["bad unheard", "neutral", "good positive"])
    expected = np.stack((matrix[8], matrix[5], (matrix[7] + matrix[6]) / 2)) * scale
    np.testing.assert_allclose(model.encoder.mixtures.embeddings.weight.detach(), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "names", "message"),
    [
        ((9, 5), None, "9 x 5, not 9 x 6"),
        ((8, 6), None, "8 x 6, not 9 x 6"),
        ((9, 6), ["good", "bad"], "2 names for 3 emotions"),
        ((9, 6), ["good", "unheard", "bad"], "emotion 'unheard': has no token"),
    ],
)
def test_vectors_that_do_not_fit_are_refused(tokenizer, shape, names, message):
    model = MimeForConditionalGeneration(MimeConfig.of_three(**SMALL))
    with pytest.raises(InputError, match=message):
        set_emotion_vectors(model, tokenizer, np.zeros(shape), names=names)
