"""Vocabulary trimming: a model keeps only the tokens that a corpus uses, and says the same with them (docs/models.md).

Kept are: tokens of the corpus and of all that `encode_dialog` writes around it, all that a kept token is merged from,
special tokens and those that a config names, and what other text falls back to: bytes, or single characters where a
tokenizer has no bytes. A merge stays where its two
parts and its result stay. BPE takes the merge of lowest rank at each step; those it takes on the corpus all stay, so
the corpus is cut as before. WordPiece's longest match and Unigram's best path lie among the kept tokens for the same
reason. Other text is spelled with what stays; text that cannot be, for there are no bytes, is refused where a dialog is
encoded.
"""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pege.dialog import Emotion, Utterance
from pege.errors import InputError
from pege.io import read_json, write_json
from pege.models.causal import MAP_FILE, OUR_KINDS, load_model
from pege.models.prompt import encode_dialog

log = logging.getLogger(__name__)
_BATCH = 1000
_BYTES = {f"<0x{b:02X}>" for b in range(256)}  #: tokens of a vocabulary with byte fallback
_ID_FIELDS = (
    "bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id", "mask_token_id", "decoder_start_token_id",
    "forced_bos_token_id", "forced_eos_token_id",
)  # fmt: skip


def trim_model(name: str | Path, texts: Iterable[str], output: Path | str) -> dict[str, Any]:
    """Write a model with the part of its vocabulary that some texts use.

    ``trim.json`` in the folder holds the old id of each token, in the order of the new ones: `restore_model` goes back.

    Args:
        name: as `pege train --model` takes it.
        texts: of the corpus.
        output: the new folder.

    Returns:
        ``n_before``, ``n_after`` (rows of the vocabulary), ``n_parameters_before``, ``n_parameters_after``.

    Raises:
        InputError: no such model; a tokenizer without a fast form, or that marks parts of words; a folder that exists.
    """
    folder = Path(output)
    if folder.exists():
        raise InputError("is there already", where=folder, fix="name another --output")
    model, tokenizer = load_model(name)
    if model.config.model_type in OUR_KINDS:
        raise InputError(f"is a {model.config.model_type}", where=str(name), fix="trim a causal LM of the hub")
    backend = json.loads(_backend(tokenizer).to_str())
    n_rows = model.get_input_embeddings().weight.shape[0]
    used = set(kept_ids(tokenizer, backend, texts)) | set(_named_ids(model))
    kept = sorted(i for i in used if i < n_rows)  # a tokenizer may know of images, say
    before = {"n_before": n_rows, "n_parameters_before": model.num_parameters()}
    new_of = {old: new for new, old in enumerate(kept)}
    _cut_rows(model, kept)
    _renumber_config(model, new_of)
    model.save_pretrained(folder)
    _save_tokenizer(tokenizer, trimmed_backend(backend, new_of), new_of, folder)
    write_json(folder / MAP_FILE, {"model": str(name), "old_ids": kept})
    return before | {"n_after": len(kept), "n_parameters_after": model.num_parameters()}


def kept_ids(tokenizer: Any, backend: dict[str, Any], texts: Iterable[str]) -> list[int]:
    """Give the old ids that stay, in order.

    Args:
        tokenizer: of the model.
        backend: its ``tokenizer.json``.
        texts: of the corpus.

    Raises:
        InputError: BPE that marks parts of words, as GPT-1's.
    """
    used = set(tokenizer.all_special_ids) | {t["id"] for t in backend["added_tokens"] if t["special"]}
    used |= _frame_ids(tokenizer) | set(_processor_ids(backend.get("post_processor")))
    fast, texts = _backend(tokenizer), iter(texts)
    while batch := list(itertools.islice(texts, _BATCH)):
        batch += [" ".join(text.split()) for text in batch]  # as `encode_dialog` has them
        used.update(i for e in fast.encode_batch(batch, add_special_tokens=False) for i in e.ids)
    vocabulary = _vocabulary(backend["model"])
    has_bytes = backend["model"].get("byte_fallback") and set(vocabulary) >= _BYTES
    used |= {i for token, i in vocabulary.items() if (token in _BYTES if has_bytes else _is_character(token))}
    if backend["model"]["type"] == "BPE":
        used |= _parts_of(used, backend["model"])
    return sorted(used)


def _frame_ids(tokenizer: Any) -> set[int]:
    """Tokens of what `encode_dialog` writes around texts: of each role, with each emotion, after a crisis."""
    said = [Utterance(role=role, content="a") for role in ("user", "assistant", "user", "assistant")]
    emotions = [Emotion(positive=k / 100, neutral=0.0, negative=1 - k / 100) for k in range(101)]
    found = [encode_dialog(tokenizer, said, emotion) for emotion in (None, *emotions)]
    found.append(encode_dialog(tokenizer, said, is_supportive=True))
    return {i for encoded in found for i in encoded.ids}


def _named_ids(model: Any) -> Iterator[int]:
    """Ids that a model's configs name."""
    for config in _configs(model):
        for name in _ID_FIELDS:
            value = getattr(config, name, None)
            yield from value if isinstance(value, list) else [] if value is None else [value]


def _processor_ids(processor: dict[str, Any] | None) -> Iterator[int]:
    """Ids that a post-processor puts around texts."""
    if processor is None:
        return
    for inner in processor.get("processors", ()):
        yield from _processor_ids(inner)
    if processor["type"] == "TemplateProcessing":
        yield from (i for special in processor["special_tokens"].values() for i in special["ids"])
    yield from (processor[name][1] for name in ("sep", "cls") if name in processor)


def _configs(model: Any) -> list[Any]:
    configs = [model.config, model.config.get_text_config(), model.generation_config]
    return list({id(c): c for c in configs if c is not None}.values())


def _backend(tokenizer: Any) -> Any:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise InputError("has no fast tokenizer", where=type(tokenizer).__name__, fix="trim a model that has one")
    return backend


def _vocabulary(model: dict[str, Any]) -> dict[str, int]:
    """Token -> id, of BPE and WordPiece (a mapping) and Unigram (a list of token and score)."""
    vocab = model["vocab"]
    return {token: i for i, (token, _) in enumerate(vocab)} if isinstance(vocab, list) else dict(vocab)


def _is_character(token: str) -> bool:
    """A single one, also behind WordPiece's mark; in a byte-level vocabulary, a byte."""
    return len(token.removeprefix("##")) == 1


def _merges(model: dict[str, Any]) -> list[tuple[str, str]]:
    return [(a, b) for a, b in (m.split(" ") if isinstance(m, str) else m for m in model["merges"])]


def _parts_of(used: set[int], model: dict[str, Any]) -> set[int]:
    """Ids of all that BPE merges used tokens from, and these in turn.

    What lies within a token is merged as if the token stood alone, so it is merged from what BPE leaves of it where
    nothing may become as long as it is.
    """
    from tokenizers.models import BPE

    if mark := model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        raise InputError(f"a tokenizer that marks parts of words with {mark!r}", fix="trim a model whose does not")
    vocabulary, merges = _vocabulary(model), _merges(model)
    parts: dict[str, set[str]] = {}
    for a, b in merges:
        parts.setdefault(a + b, set()).update((a, b))
    tokens = {t for t, i in vocabulary.items() if i in used}
    able, waiting = set(tokens), list(tokens)  # all that a used token could be merged from, by whatever merges
    while waiting:
        new = parts.get(waiting.pop(), set()) - able
        able |= new
        waiting += new
    merges = [(a, b) for a, b in merges if a + b in able]
    for length in sorted({len(t) for t in able}, reverse=True):
        whole = [t for t in tokens if len(t) == length and t in parts]
        if whole:
            shorter = BPE(vocabulary, [(a, b) for a, b in merges if len(a + b) < length])
            tokens |= {p.value for t in whole for p in shorter.tokenize(t)}
    return {vocabulary[t] for t in tokens}


def trimmed_backend(backend: dict[str, Any], new_of: dict[int, int]) -> dict[str, Any]:
    """Give ``tokenizer.json`` with the kept tokens under their new ids."""
    found: dict[str, Any] = json.loads(json.dumps(backend))
    model = found["model"]
    if isinstance(model["vocab"], list):
        model["vocab"] = [row for i, row in enumerate(model["vocab"]) if i in new_of]
        model["unk_id"] = new_of.get(model.get("unk_id"))
    else:
        vocabulary = model["vocab"]
        model["vocab"] = {t: new_of[i] for t, i in vocabulary.items() if i in new_of}
        if "merges" in model:
            there = model["vocab"]
            rows = zip(model["merges"], _merges(model), strict=True)
            model["merges"] = [m for m, (a, b) in rows if a in there and b in there and a + b in there]
    found["added_tokens"] = [{**t, "id": new_of[t["id"]]} for t in found["added_tokens"] if t["id"] in new_of]
    _renumber_processor(found.get("post_processor"), new_of)
    return found


def _renumber_processor(processor: dict[str, Any] | None, new_of: dict[int, int]) -> None:
    if processor is None:
        return
    for inner in processor.get("processors", ()):
        _renumber_processor(inner, new_of)
    if processor["type"] == "TemplateProcessing":
        for special in processor["special_tokens"].values():
            special["ids"] = [new_of[i] for i in special["ids"]]
    for name in ("sep", "cls"):
        if name in processor:
            processor[name] = [processor[name][0], new_of[processor[name][1]]]


def _cut_rows(model: Any, kept: Sequence[int]) -> None:
    """Keep the kept rows of input and output embeddings, and of a bias."""
    rows = torch.tensor(kept)
    inputs, outputs = model.get_input_embeddings(), model.get_output_embeddings()
    is_tied = outputs is not None and outputs.weight is inputs.weight
    inputs.weight = nn.Parameter(inputs.weight.detach()[rows].clone(), requires_grad=inputs.weight.requires_grad)
    inputs.num_embeddings = len(kept)
    if outputs is not None:
        outputs.weight = inputs.weight if is_tied else nn.Parameter(outputs.weight.detach()[rows].clone())
        outputs.out_features = len(kept)
        if getattr(outputs, "bias", None) is not None:
            outputs.bias = nn.Parameter(outputs.bias.detach()[rows].clone())
    for config in (model.config, model.config.get_text_config()):
        config.vocab_size = len(kept)


def _renumber_config(model: Any, new_of: dict[int, int]) -> None:
    for config in _configs(model):
        for name in _ID_FIELDS:
            value = getattr(config, name, None)
            if isinstance(value, list):
                setattr(config, name, [new_of[i] for i in value if i in new_of])
            elif value is not None:
                setattr(config, name, new_of.get(value))


def _save_tokenizer(tokenizer: Any, backend: dict[str, Any], new_of: dict[int, int], folder: Path) -> None:
    """Save the tokenizer as a plain fast one: its own class may read the old files."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    named = {k: str(v) for k, v in tokenizer.special_tokens_map.items() if isinstance(v, str)}
    special = {k: v for k, v in named.items() if tokenizer.convert_tokens_to_ids(v) in new_of}
    plain = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(backend)),
        chat_template=tokenizer.chat_template,
        model_max_length=tokenizer.model_max_length,
        clean_up_tokenization_spaces=False,
        **special,
    )
    plain.padding_side = tokenizer.padding_side
    plain.save_pretrained(folder)
    log.info("%d of %d tokens stay", len(new_of), len(tokenizer))


def restore_model(trimmed: Path | str, output: Path | str) -> None:
    """Write the full model again, with a trimmed one's rows and layers where they may have been trained since.

    Args:
        trimmed: a folder of `trim_model`, or a run trained from one.
        output: the new folder.

    Raises:
        InputError: no map there; the model that was trimmed is gone; a folder that is there already.
    """
    folder, output = Path(trimmed), Path(output)
    if output.exists():
        raise InputError("is there already", where=output, fix="name another --output")
    if not (folder / MAP_FILE).is_file():
        raise InputError(f"no {MAP_FILE} here", where=folder, fix="name a folder of `pege trim`")
    about = read_json(folder / MAP_FILE)
    small, _ = load_model(folder)
    full, tokenizer = load_model(about["model"])
    rows = torch.tensor(about["old_ids"])
    state = full.state_dict()
    for name, value in small.state_dict().items():
        if value.shape == state[name].shape:
            state[name] = value
        else:
            state[name] = _with_rows(state[name], value, rows)
    full.load_state_dict(state)
    full.save_pretrained(output)
    tokenizer.save_pretrained(output)


def _with_rows(matrix: Tensor, rows: Tensor, places: Tensor) -> Tensor:
    whole = matrix.clone()
    whole[places] = rows.to(whole.dtype)
    return whole
