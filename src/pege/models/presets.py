"""The paper's models by name, with first weights: what `pege train --model plato-mini | moel | mime` starts from."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from pege.errors import InputError
from pege.models.embeddings import initialise_embeddings, project_embeddings, read_glove
from pege.models.listener_input import add_listener_tokens

log = logging.getLogger(__name__)

PLATO_PREFIX = "plato-"
LISTENERS = ("moel", "mime")
PRESETS = ("plato-tiny", "plato-mini", "plato-12L", "plato-24L", "plato-32L", *LISTENERS)


def new_model(name: str, tokenizer: Any, *, word_vectors: str | None = None) -> Any:
    """Make a model of one of the paper's kinds with random weights; torch's generator is the seed.

    MoEL and MIME come in the shape of their papers, with the three emotions of our rows; their loss is a mean over
    tokens without label smoothing, so that its NLL compares with the others' (docs/models.md).

    Args:
        name: of `PRESETS`.
        tokenizer: of the model; MoEL and MIME add three tokens to it.
        word_vectors: what the input embeddings start from: a file in GloVe's format, or a model with the same tokens.

    Raises:
        InputError: an unknown name; vectors that do not fit.
    """
    if name.startswith(PLATO_PREFIX):
        from pege.models.plato2 import Plato2Config, Plato2ForConditionalGeneration

        ids = {"vocab_size": len(tokenizer), "mask_token_id": tokenizer.mask_token_id}
        model = Plato2ForConditionalGeneration(Plato2Config.of_size(name.removeprefix(PLATO_PREFIX), **ids))
    else:
        model = _new_listener(name, tokenizer)
    if word_vectors:
        matrix, is_covered = _read_vectors(word_vectors, tokenizer)
        initialise_embeddings(model, matrix, is_covered=is_covered)
        if name == "mime":
            from pege.models.mime import set_emotion_vectors

            size = model.config.embedding_size
            set_emotion_vectors(model, tokenizer, project_embeddings(matrix, size))
    return model


def _new_listener(name: str, tokenizer: Any) -> Any:
    tokens = add_listener_tokens(tokenizer)
    loss = {"label_smoothing": 0.0, "sum_over_tokens": False}
    if name == "moel":
        from pege.models.moel import MoelConfig, MoelForConditionalGeneration

        return MoelForConditionalGeneration(MoelConfig(n_emotions=3, n_top_listeners=0, **tokens, **loss))
    from pege.models.mime import MimeConfig, MimeForConditionalGeneration

    return MimeForConditionalGeneration(MimeConfig.of_three(**tokens, **loss))


def _read_vectors(spec: str, tokenizer: Any) -> tuple[Any, Any]:
    """Vectors (V, D) of a tokenizer's tokens, and which of them have one."""
    path = Path(spec)
    if path.is_file():
        matrix, is_covered = read_glove(path, tokenizer)
    else:
        from pege.models.causal import load_model

        model, theirs = load_model(spec, dtype="float32")
        table = model.get_input_embeddings().weight.detach().numpy()
        matrix = np.zeros((len(tokenizer), table.shape[1]), dtype=np.float32)
        vocabulary = theirs.get_vocab()
        ids = [vocabulary.get(token) for token in tokenizer.convert_ids_to_tokens(range(len(tokenizer)))]
        is_covered = np.array([i is not None for i in ids])
        matrix[is_covered] = table[[i for i in ids if i is not None]]
    log.info("%d of %d tokens start from %s", is_covered.sum(), len(is_covered), spec)
    if not is_covered.any():
        raise InputError("has a vector for none of the tokens", where=spec, fix="name vectors of the same language")
    return matrix, is_covered
