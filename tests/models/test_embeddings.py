"""Word vectors from a file, and their projection."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertModel

from pege.errors import InputError
from pege.models.embeddings import initialise_embeddings, project_embeddings, read_glove


class Words:
    """A tokenizer of five words; the first is special."""

    all_special_ids = (0,)
    words = ("<pad>", " dog", "Dog", "sea", "park")

    def __len__(self):
        return len(self.words)

    def decode(self, ids):
        return "".join(self.words[k] for k in ids)


def write(tmp_path, text):
    path = tmp_path / "vectors.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_tokens_find_their_words_vectors(tmp_path):
    matrix, is_covered = read_glove(write(tmp_path, "dog 1 2\n<pad> 9 9\nsea -0.5 3e-1\nnew york 7 7\n"), Words())
    np.testing.assert_allclose(matrix, [[0, 0], [1, 2], [1, 2], [-0.5, 0.3], [0, 0]])
    assert is_covered.tolist() == [False, True, True, True, False]


def test_a_word_as_it_stands_wins_over_its_lower_case(tmp_path):
    for lines in ("dog 1 2\nDog 3 4\n", "Dog 3 4\ndog 1 2\n"):
        matrix, _ = read_glove(write(tmp_path, lines), Words())
        assert matrix[1].tolist() == [1, 2]
        assert matrix[2].tolist() == [3, 4]


def test_a_header_is_skipped(tmp_path):
    matrix, _ = read_glove(write(tmp_path, "2 3\ndog 1 2 3\n\nsea 4 5 6\n"), Words())
    assert matrix.shape == (5, 3)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dog 1 2\nsea 1\n", "vectors.txt:2: holds 1 numbers, not 2"),
        ("dog 1 x\n", "vectors.txt:1: holds something that is no number"),
        ("dog 1 nan\n", "vectors.txt:1: holds a number that is not finite"),
        ("cat 1 2\n", "for none of the tokenizer's tokens"),
        ("", "for none of the tokenizer's tokens"),
    ],
)
def test_a_bad_file_is_named(tmp_path, text, words):
    with pytest.raises(InputError, match=words):
        read_glove(write(tmp_path, text), Words())


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no-such\.txt: cannot be read"):
        read_glove(tmp_path / "no-such.txt", Words())


def test_markers_of_words_are_no_part_of_them(tmp_path, tiny_model_dir):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    _, is_covered = read_glove(write(tmp_path, "dog 1 2\nthe 3 4\n"), tokenizer)
    found = {tokenizer.convert_ids_to_tokens(int(k)) for k in np.flatnonzero(is_covered)}
    assert "Ġthe" in found
    assert {t.strip("Ġ").lower() for t in found} <= {"dog", "the"}


def test_a_smaller_width_is_the_best_of_its_rank():
    matrix = np.random.default_rng(0).standard_normal((30, 8))
    found = project_embeddings(matrix, 3)
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    best = (u[:, :3] * s[:3]) @ vt[:3]
    np.testing.assert_allclose(found @ found.T, best @ best.T, atol=1e-4)
    turned = np.linalg.qr(np.random.default_rng(1).standard_normal((8, 8)))[0]
    np.testing.assert_allclose(np.abs(project_embeddings(matrix @ turned, 3)), np.abs(found), atol=1e-4)


def test_the_same_vectors_are_projected_alike():
    matrix = np.random.default_rng(0).standard_normal((30, 8))
    np.testing.assert_array_equal(project_embeddings(matrix, 3), project_embeddings(matrix.copy(), 3))


def test_a_larger_width_has_zeros_behind():
    assert project_embeddings(np.array([[1, 2], [3, 4]]), 4).tolist() == [[1, 2, 0, 0], [3, 4, 0, 0]]


def test_a_model_starts_from_the_vectors_and_keeps_what_they_lack():
    model = BertModel(
        BertConfig(vocab_size=5, hidden_size=4, num_hidden_layers=1, num_attention_heads=2, intermediate_size=4)
    )
    before = model.get_input_embeddings().weight.detach().clone()
    is_covered = np.array([True, False, True, True, True])
    matrix = np.arange(15).reshape(5, 3)
    initialise_embeddings(model, matrix, is_covered=is_covered)
    weight = model.get_input_embeddings().weight.detach()
    assert torch.equal(weight[1], before[1])
    assert weight[2].tolist() == [6, 7, 8, 0]
    initialise_embeddings(model, matrix)
    assert weight[1].tolist() == [3, 4, 5, 0]


def test_a_matrix_of_another_vocabulary_is_refused():
    model = BertModel(
        BertConfig(vocab_size=5, hidden_size=4, num_hidden_layers=1, num_attention_heads=2, intermediate_size=4)
    )
    with pytest.raises(InputError, match="4 rows, the model's vocabulary 5"):
        initialise_embeddings(model, np.zeros((4, 4)))
