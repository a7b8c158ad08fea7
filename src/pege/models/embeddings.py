"""Word vectors that a model starts from: read from a text file, or taken from another model and projected."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pege.errors import InputError

Matrix = NDArray[np.float32]


def read_glove(path: Path | str, tokenizer: Any) -> tuple[Matrix, NDArray[np.bool_]]:
    """Read the vectors of a tokenizer's tokens from a text file, one word and its numbers a line, as GloVe's.

    A token's word is its decoded text without spaces, as it stands or else in lower case; special tokens have none. A
    first line of two whole numbers (word2vec's) is skipped.

    Args:
        path: the file, UTF-8.
        tokenizer: a Hugging Face tokenizer of V tokens.

    Returns:
        The vectors, (V, width), zero where the file has none; and which tokens are covered, (V,).

    Raises:
        InputError: no such file; a line with another count of numbers, or something that is no finite number; no token
            covered.
    """
    n, special = len(tokenizer), set(tokenizer.all_special_ids)
    words = {k: tokenizer.decode([k]).strip() for k in range(n) if k not in special}
    exact, lower = _ids_of(words), _ids_of({k: w.lower() for k, w in words.items() if w != w.lower()})
    matrix: Matrix | None = None
    rank = np.zeros(n, dtype=np.int8)  # 2 as it stands, 1 in lower case, 0 not covered
    for word, numbers, where in _lines(Path(path)):
        if matrix is None:
            matrix = np.zeros((n, len(numbers)), dtype=np.float32)
        for strength, ids in ((2, exact.get(word, [])), (1, lower.get(word, []))):
            new = [k for k in ids if rank[k] < strength]
            if new:
                matrix[new] = _floats(numbers, where)
                rank[new] = strength
    if matrix is None or not rank.any():
        raise InputError("has a vector for none of the tokenizer's tokens", where=path, fix="is it of this language?")
    return matrix, rank > 0


def project_embeddings(matrix: NDArray[Any], width: int) -> Matrix:
    """Bring vectors to another width: the best of that rank (SVD) where it is smaller, zeros behind where larger.

    The projection turns and cuts, so dot products of the kept part stay what they are. It is not centred. Nothing is
    random: of each axis the entry that is largest (the first of them) is positive.

    Args:
        matrix: (V, D).
        width: wanted, >= 1.

    Returns:
        (V, width).
    """
    rows = np.asarray(matrix, dtype=np.float64)
    if rows.ndim != 2 or width < 1:
        raise ValueError(f"wants a matrix and a width of 1 or more, not {rows.shape} and {width}")
    if width >= rows.shape[1]:
        padded: Matrix = np.pad(rows, ((0, 0), (0, width - rows.shape[1]))).astype(np.float32)
        return padded
    _, axes = np.linalg.eigh(rows.T @ rows)  # (D, D), the largest last
    axes = axes[:, ::-1][:, :width]
    largest = np.abs(axes).argmax(axis=0)
    axes = axes * np.sign(axes[largest, np.arange(width)])
    projected: Matrix = (rows @ axes).astype(np.float32)  # (V, D) @ (D, width)
    return projected


def initialise_embeddings(model: Any, matrix: NDArray[Any], *, is_covered: NDArray[np.bool_] | None = None) -> None:
    """Let a model's input embeddings start from a matrix, projected to their width.

    Args:
        model: a Hugging Face model of V tokens; changed in place.
        matrix: (V, D).
        is_covered: (V,), the tokens to set, all unless given; the others keep their first values.

    Raises:
        InputError: a matrix of another count of rows than the model's vocabulary, or with no finite number.
    """
    import torch

    weight = model.get_input_embeddings().weight
    if len(matrix) != len(weight):
        raise InputError(
            f"the word vectors have {len(matrix)} rows, the model's vocabulary {len(weight)}",
            fix="both should come from one tokenizer",
        )
    if not np.isfinite(matrix).all():
        raise InputError("the word vectors hold numbers that are not finite")
    covered = np.ones(len(matrix), dtype=bool) if is_covered is None else is_covered
    new = torch.from_numpy(project_embeddings(np.asarray(matrix)[covered], weight.shape[1]))
    with torch.no_grad():
        weight[torch.from_numpy(covered).to(weight.device)] = new.to(weight)


def _ids_of(words: dict[int, str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for k, word in words.items():
        if word:
            found.setdefault(word, []).append(k)
    return found


def _lines(path: Path) -> Iterator[tuple[str, list[str], str]]:
    """Word, numbers, place. A word may hold spaces, as some of GloVe's do: the width is the first line's."""
    try:
        with path.open(encoding="utf-8", newline="\n") as file:
            width = 0
            for k, line in enumerate(file, start=1):
                parts = line.rstrip().split(" ")
                if not parts[0] or (k == 1 and len(parts) == 2 and all(p.isdigit() for p in parts)):
                    continue
                width = width or len(parts) - 1
                if len(parts) <= width or width == 0:
                    raise InputError(f"holds {len(parts) - 1} numbers, not {width}", where=f"{path}:{k}")
                yield " ".join(parts[:-width]), parts[-width:], f"{path}:{k}"
    except OSError as e:
        raise InputError(f"cannot be read ({e.strerror})", where=path) from e
    except UnicodeDecodeError as e:
        raise InputError("is not UTF-8 text", where=path) from e


def _floats(numbers: list[str], where: str) -> Matrix:
    try:
        found = np.array(numbers, dtype=np.float32)
    except ValueError as e:
        raise InputError(f"holds something that is no number ({e})", where=where) from e
    if not np.isfinite(found).all():
        raise InputError("holds a number that is not finite", where=where)
    return found
