"""PaddleNLP's and Knover's weights to ours (docs/models.md): names, transposes, checks."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pege.errors import InputError
from pege.io import read_json
from pege.models.folder import whole_folder
from pege.models.paddle_files import Arrays, read_pdparams, read_variable_folder
from pege.models.plato2.config import Plato2Config
from pege.models.plato2.modeling import Plato2ForConditionalGeneration
from pege.models.plato2.tokenizer import paddlenlp_tokenizer

_VOCABULARIES = ("vocab.txt", "spm.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_CONFIGS = ("model_config.json", "config.json")
_WORDS = "model.embeddings.word_embeddings.weight"
_TRANSPOSED = re.compile(r"(_proj|linear1|linear2|transform)\.weight$")  # linear weights lie (in, out) there
_TIED = {"lm_head.decoder_weight"}  # the word embeddings once more

#: Three layouts: our name (a pattern) -> theirs.
_PADDLENLP = [
    (r"model\.embeddings\.(.+)", r"unified_transformer.embeddings.\1"),
    (r"model\.(layers\..+|norm\..+)", r"unified_transformer.encoder.\1"),
    (r"lm_head\.decoder\.bias", r"lm_head.decoder_bias"),
    (r"(lm_head\..+)", r"\1"),
]
_KNOVER = [
    (r"model\.embeddings\.word_embeddings\.weight", r"token_embedding.weight"),
    (r"model\.embeddings\.position_embeddings\.weight", r"pos_embedding.weight"),
    (r"model\.embeddings\.token_type_embeddings\.weight", r"type_embedding.weight"),
    (r"model\.embeddings\.role_embeddings\.weight", r"role_embedding.weight"),
    (r"model\.(layers\..+|norm\..+)", r"encoder.\1"),
    (r"lm_head\.transform\.(.+)", r"lm_trans_fc.\1"),
    (r"lm_head\.layer_norm\.(.+)", r"lm_trans_norm.\1"),
    (r"lm_head\.decoder\.bias", r"lm_logits_bias"),
]
_KNOVER_STATIC = [
    (r"model\.embeddings\.word_embeddings\.weight", r"word_embedding"),
    (r"model\.embeddings\.position_embeddings\.weight", r"pos_embedding"),
    (r"model\.embeddings\.token_type_embeddings\.weight", r"sent_embedding"),
    (r"model\.embeddings\.role_embeddings\.weight", r"role_embedding"),
    (r"model\.layers\.(\d+)\.self_attn\.q_proj\.(.).+", r"encoder_layer_\1_multi_head_att_query_fc.\2_0"),
    (r"model\.layers\.(\d+)\.self_attn\.k_proj\.(.).+", r"encoder_layer_\1_multi_head_att_key_fc.\2_0"),
    (r"model\.layers\.(\d+)\.self_attn\.v_proj\.(.).+", r"encoder_layer_\1_multi_head_att_value_fc.\2_0"),
    (r"model\.layers\.(\d+)\.self_attn\.out_proj\.(.).+", r"encoder_layer_\1_multi_head_att_output_fc.\2_0"),
    (r"model\.layers\.(\d+)\.linear1\.(.).+", r"encoder_layer_\1_ffn_fc_0.\2_0"),
    (r"model\.layers\.(\d+)\.linear2\.(.).+", r"encoder_layer_\1_ffn_fc_1.\2_0"),
    (r"model\.layers\.(\d+)\.norm1\.weight", r"encoder_layer_\1_pre_att_layer_norm_scale"),
    (r"model\.layers\.(\d+)\.norm1\.bias", r"encoder_layer_\1_pre_att_layer_norm_bias"),
    (r"model\.layers\.(\d+)\.norm2\.weight", r"encoder_layer_\1_pre_ffn_layer_norm_scale"),
    (r"model\.layers\.(\d+)\.norm2\.bias", r"encoder_layer_\1_pre_ffn_layer_norm_bias"),
    (r"model\.norm\.weight", r"post_encoder_layer_norm_scale"),
    (r"model\.norm\.bias", r"post_encoder_layer_norm_bias"),
    (r"lm_head\.transform\.(.).+", r"mask_lm_trans_fc.\1_0"),
    (r"lm_head\.layer_norm\.weight", r"mask_lm_trans_layer_norm_scale"),
    (r"lm_head\.layer_norm\.bias", r"mask_lm_trans_layer_norm_bias"),
    (r"lm_head\.decoder\.bias", r"mask_lm_out_fc.b_0"),
]
Layout = list[tuple[str, str]]
_MOST_LAYERS = 1000  # so that a broken config does not keep the machine busy
_LEFT_ALONE = re.compile(r".*(moment|pow_acc)|@LR_DECAY_COUNTER@|num_.*_steps|loss_scaling")  # of the optimizer


def their_name(ours: str, layout: Layout) -> str:
    """Give a parameter's name in a layout."""
    for pattern, theirs in layout:
        if match := re.fullmatch(pattern, ours):
            return match.expand(theirs)
    raise KeyError(ours)


def convert_plato(folder: Path | str, output: Path | str) -> Path:
    """Convert a folder of PaddleNLP or Knover into one that ``from_pretrained`` takes.

    Args:
        folder: ``model_state.pdparams`` (or another ``.pdparams``, or a file per variable) with ``model_config.json``
            (or ``config.json``), and the tokenizer's files where there are any.
        output: a new folder: ``model.safetensors``, ``config.json``, ``generation_config.json``, tokenizer files; with
            ``vocab.txt`` and ``spm.model`` a fast tokenizer too.

    Raises:
        InputError: an output that is there; a file that is missing, cut or not what it says; a weight that is missing,
            too many, or of another shape: named.
    """
    source, target = Path(folder), Path(output)
    if target.exists():
        raise InputError("is there already", where=target, fix="name a new --output")
    config = read_config(source)
    with torch.device("meta"):  # shapes alone, until the weights have them
        model = _make(config, source)
    arrays = _read_arrays(source, [n for n, _ in model.named_parameters()])
    _load(model, arrays, source)
    with whole_folder(target) as temporary:
        model.save_pretrained(temporary)
        for name in _VOCABULARIES:
            if (source / name).is_file():
                shutil.copyfile(source / name, temporary / name)
        if all((source / name).is_file() for name in ("vocab.txt", "spm.model")):
            paddlenlp_tokenizer(source / "spm.model", source / "vocab.txt").save_pretrained(temporary)
    return target


def read_config(folder: Path) -> Plato2Config:
    """Read PaddleNLP's flat config, its older nested one, or Knover's.

    Raises:
        InputError: none there, a value of another kind, or one that the network cannot have.
    """
    path = next((folder / name for name in _CONFIGS if (folder / name).is_file()), None)
    if path is None:
        raise InputError("holds no model_config.json", where=folder)
    found = read_json(path)
    if not isinstance(found, dict):
        raise InputError("is no config", where=path)
    flat: dict[str, Any] = {}
    _flatten(found, flat)
    names = Plato2Config().to_dict()
    known = {k: v for k, v in flat.items() if k in names and k not in ("model_type", "architectures", "dtype")}
    if "hidden_size" not in known or "vocab_size" not in known:
        raise InputError("names no hidden_size or vocab_size", where=path, fix="it should be a PLATO-2 config")
    if flat.get("use_role") is False:
        known["role_type_size"] = None
    _check_kinds(known, path)
    try:
        return Plato2Config(**known)
    except (ValueError, TypeError) as e:
        raise InputError(f"is no config of PLATO-2 ({e})", where=path) from e


def _check_kinds(known: dict[str, Any], path: Path) -> None:
    """Refuse a value of another kind than the default's, which the network might take and mean something else by."""
    defaults = Plato2Config().to_dict() | {"role_type_size": 0, "mask_token_id": 0}
    for name, value in known.items():
        wanted = defaults[name]
        if value is None and name in ("role_type_size", "mask_token_id"):
            continue
        if not _is_of_kind(value, wanted) or (name == "num_attention_heads" and not value):
            raise InputError(f"{name} cannot be {str(value)[:40]!r}", where=path, fix="it should be a PLATO-2 config")
    if not 0 < known.get("num_hidden_layers", 1) <= _MOST_LAYERS:
        raise InputError(f"num_hidden_layers is {known['num_hidden_layers']}", where=path, fix="fetch it again")


def _is_of_kind(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, bool | str):
        return type(value) is type(wanted)
    if isinstance(wanted, int):
        return type(value) is int and 0 <= value < 2**31
    return not isinstance(wanted, float) or (type(value) in (int, float) and value >= 0)


def _flatten(value: Any, into: dict[str, Any]) -> None:
    """``init_args`` of older files hold dictionaries inside lists."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if isinstance(inner, dict | list):
                _flatten(inner, into)
            else:
                into.setdefault(name, inner)
    elif isinstance(value, list):
        for inner in value:
            _flatten(inner, into)


def _read_arrays(folder: Path, names: list[str]) -> Arrays:
    files = sorted(folder.glob("*.pdparams"), key=lambda p: (p.name != "model_state.pdparams", p.name))
    if files:
        return read_pdparams(files[0])
    arrays = read_variable_folder(folder, [their_name(n, _KNOVER_STATIC) for n in names])
    if not arrays:
        raise InputError("holds no weights", where=folder, fix="it needs model_state.pdparams, or a file per variable")
    return arrays


def _make(config: Plato2Config, folder: Path) -> Plato2ForConditionalGeneration:
    try:
        return Plato2ForConditionalGeneration(config)
    except (
        ValueError,
        TypeError,
        KeyError,
        RuntimeError,
        AssertionError,
    ) as e:  # an activation there is not, a size below 0
        words = " ".join(str(e).split())[:120]
        raise InputError(f"the network cannot be made of its config ({words})", where=folder) from e


def _load(model: Plato2ForConditionalGeneration, arrays: Arrays, folder: Path) -> None:
    """Copy the arrays into the model's parameters; nothing may be missing, left over, or misshaped."""
    layouts = (_PADDLENLP, _KNOVER, _KNOVER_STATIC)
    layout = next((o for o in layouts if their_name(_WORDS, o) in arrays), _PADDLENLP)
    left = {n for n in arrays if n not in _TIED and not _LEFT_ALONE.match(n)}
    weights = {}
    for ours, parameter in model.named_parameters():
        theirs = their_name(ours, layout)
        if theirs not in arrays:
            raise InputError(f"the weight {theirs!r} is missing", where=folder)
        array = arrays[theirs].T if _TRANSPOSED.search(ours) else arrays[theirs]
        if array.shape != tuple(parameter.shape):
            wanted = tuple(parameter.shape)[::-1] if _TRANSPOSED.search(ours) else tuple(parameter.shape)
            raise InputError(
                f"the weight {theirs!r} has the shape {arrays[theirs].shape}, not {wanted}",
                where=folder,
                fix="the config should be the one of these weights",
            )
        if not np.isfinite(array).all():
            raise InputError(f"the weight {theirs!r} holds numbers that are not finite", where=folder)
        weights[ours] = torch.from_numpy(np.array(array, dtype=np.float32, order="C"))
        left.discard(theirs)
    if left:
        raise InputError(f"{len(left)} weights are not PLATO-2's, e.g. {min(left)!r}", where=folder)
    model.load_state_dict(weights, strict=False, assign=True)  # all are there, but for the tied one
    model.tie_weights()
