"""What depends on the kind of model: where it comes from, its samples, its batches."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from pege.dialog import Dialog
from pege.errors import InputError
from pege.lexicon import Lexicon
from pege.models.causal import LISTENER_KINDS, OUR_KINDS, load_model, load_tokenizer
from pege.models.presets import PRESETS, new_model
from pege.training.config import TrainConfig
from pege.training.responses import collate_responses, listener_encoder, make_response_samples, plato2_encoder
from pege.training.samples import collate, make_samples


def load_for_training(config: TrainConfig) -> tuple[Any, Any]:
    """Load the model of a config and its tokenizer, or make one of the paper's with first weights.

    Raises:
        InputError: see `pege.models.causal.load_model` and `pege.models.presets.new_model`; a new model without a
            tokenizer or with LoRA; a tokenizer for a model that has its own.
    """
    if config.model not in PRESETS:
        if config.tokenizer or config.word_vectors:
            name = "tokenizer" if config.tokenizer else "word_vectors"
            raise InputError(
                f"{config.model} has its own", where=name, fix=f"take it away, or name {', '.join(PRESETS)}"
            )
        return load_model(config.model, dtype=config.dtype)
    if not config.tokenizer:
        raise InputError(f"{config.model} needs one", where="tokenizer", fix="make it with `pege tokenizer`")
    if config.lora is not None:
        raise InputError("a model with first weights is trained whole", where="lora", fix="leave it out")
    tokenizer = load_tokenizer(config.tokenizer)
    return new_model(config.model, tokenizer, word_vectors=config.word_vectors), tokenizer


def samples_for(
    model: Any,
    tokenizer: Any,
    dialogs: Sequence[Dialog],
    lexicon: Lexicon,
    config: TrainConfig,
    *,
    only_last: bool = False,
) -> list[Any]:
    """Give the samples of dialogs: one a dialog for a causal LM, one a response for the paper's models.

    With ``only_last`` it is one a dialog for both, in which the last utterance alone is learned.
    """
    common: dict[str, Any] = {"sides": config.sides, "count": config.loss.count, "only_last": only_last}
    kind = model.config.model_type
    if kind not in OUR_KINDS:
        more: dict[str, Any] = {"emotion_input": config.emotion_input, "max_length": config.max_length}
        return list(make_samples(dialogs, tokenizer, lexicon, **common, **more))
    make_encoder = listener_encoder if kind in LISTENER_KINDS else plato2_encoder
    encode = make_encoder(tokenizer, model.config, max_length=config.max_length)
    emotion_input = config.emotion_input or kind in LISTENER_KINDS  # they learn to tell it
    return list(make_response_samples(dialogs, encode, lexicon, emotion_input=emotion_input, **common))


def collator_for(model: Any, tokenizer: Any) -> Callable[[Sequence[Any]], dict[str, Any]]:
    """Give what makes a batch of the samples of a model."""
    if model.config.model_type not in OUR_KINDS:
        return functools.partial(collate, pad_id=tokenizer.pad_token_id)
    roles = getattr(model.config, "role_type_size", None) is not None
    return functools.partial(collate_responses, pad_id=tokenizer.pad_token_id, roles=roles)
