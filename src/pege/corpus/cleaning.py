"""Cleaning of utterances by a list of named rules (docs/cleaning.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ValidationError

from pege.corpus import refusing, rewriting
from pege.corpus.rewriting import NoOptions
from pege.errors import InputError, did_you_mean
from pege.io import why_invalid

_BATCH = 8192  # utterances, whose code points then fit the processor's cache


@dataclass(frozen=True)
class Rule:
    """One rule over a batch of utterances.

    Attributes:
        name: what a config calls it.
        kind: ``rewrite`` gives the utterances anew, ``refuse`` gives true where one is bad.
        apply: the function: utterances (N,) without nulls and options to strings (N,), or booleans (N,).
        options: its options; in `RULES` the defaults.
        reason: code of what it refuses; empty for one that rewrites.
    """

    name: str
    kind: Literal["rewrite", "refuse"]
    apply: Callable[[pa.StringArray, Any], pa.Array]
    options: BaseModel
    reason: str = ""

    def __call__(self, texts: pa.StringArray) -> pa.Array:
        """Apply the rule with its options."""
        return self.apply(texts, self.options)


def _rewrite(name: str, apply: Callable[..., pa.Array], options: BaseModel | None = None) -> Rule:
    return Rule(name, "rewrite", apply, options or NoOptions())


def _refuse(name: str, apply: Callable[..., pa.Array], options: BaseModel | None = None, reason: str = "") -> Rule:
    return Rule(name, "refuse", apply, options or NoOptions(), reason or name)


#: name -> rule with its default options
RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        _rewrite("unicode", rewriting.normalise_unicode),
        _rewrite("markup", rewriting.strip_markup),
        _rewrite("urls", rewriting.strip_urls),
        _rewrite("mentions", rewriting.strip_mentions),
        _rewrite("whitespace", rewriting.tidy_whitespace),
        _rewrite("repeated-characters", rewriting.cut_runs, rewriting.RunOptions()),
        _refuse("empty", refusing.is_empty),
        _refuse("too-short", refusing.is_too_short, refusing.ShortOptions()),
        _refuse("too-long", refusing.is_too_long, refusing.LongOptions()),
        _refuse("url", refusing.has_url),
        _refuse("refuse-markup", refusing.has_markup, reason="markup"),
        _refuse("refuse-repeated-characters", refusing.has_long_run, refusing.RunOptions(), "repeated-characters"),
        _refuse("repeated-words", refusing.repeats_words, refusing.RepeatedWordsOptions()),
        _refuse("few-letters", refusing.has_few_letters, refusing.LettersOptions()),
        _refuse("long-word", refusing.has_long_word, refusing.LongWordOptions()),
        _refuse("ad", refusing.is_ad),
        _refuse("mojibake", refusing.is_mojibake),
        _refuse("speaker-label", refusing.has_speaker_label),
    )
}

#: The rules that run unless a config lists others, in this order.
DEFAULT_CLEANING: tuple[dict[str, Any], ...] = tuple(
    {"rule": name}
    for name in (
        "unicode", "markup", "mentions", "whitespace", "repeated-characters",
        "empty", "too-short", "too-long", "url", "few-letters", "long-word", "repeated-words", "mojibake",
        "speaker-label", "ad",
    )
)  # fmt: skip


def active_rules(config: Sequence[Mapping[str, Any]]) -> tuple[Rule, ...]:
    """Give the rules that a config lists, with its options.

    Args:
        config: in the order of running, each ``{"rule": NAME, option: value, ...}``.

    Raises:
        InputError: not such a list; an unknown rule or option; an option's value out of its range.
    """
    if isinstance(config, str | Mapping) or not isinstance(config, Sequence):
        raise InputError("is no list of rules", where="cleaning", fix="write - rule: NAME")
    return tuple(_active_rule(step, f"cleaning.{k}") for k, step in enumerate(config))


def _active_rule(step: Mapping[str, Any], where: str) -> Rule:
    if not isinstance(step, Mapping) or not isinstance(step.get("rule"), str):
        raise InputError("names no rule", where=where, fix="write - rule: NAME")
    name = step["rule"]
    if name not in RULES:
        raise InputError(f"unknown rule {name!r}", where=where, fix=did_you_mean(name, RULES))
    rule = RULES[name]
    known = type(rule.options).model_fields
    values = {k: v for k, v in step.items() if k != "rule"}
    for option in values.keys() - known.keys():
        fix = did_you_mean(str(option), known) if known else f"{name} has no options"
        raise InputError(f"unknown option {option!r} of {name}", where=where, fix=fix)
    try:
        return replace(rule, options=type(rule.options).model_validate(values))
    except ValidationError as e:
        raise InputError(f"{name}: {why_invalid(e)}", where=where) from e


def clean(texts: pa.StringArray, rules: Sequence[Rule]) -> tuple[pa.StringArray, pa.StringArray]:
    """Run rules over utterances, each on what those before it made of them.

    Args:
        texts: (N,); a null counts as empty. `pege.corpus.codepoints.as_texts` makes one of any strings.
        rules: in the order of running.

    Returns:
        The rewritten utterances (N,), refused ones included, and (N,) the reason of the first rule that refused each,
        null where none did.
    """
    texts = pc.fill_null(texts, "")
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
    parts = [_clean_batch(texts.slice(k, _BATCH), rules) for k in range(0, len(texts), _BATCH)]
    if not parts:
        return texts, pa.array([], pa.string())
    return pa.concat_arrays([p[0] for p in parts]), pa.concat_arrays([p[1] for p in parts])


def _clean_batch(texts: pa.StringArray, rules: Sequence[Rule]) -> tuple[pa.StringArray, pa.StringArray]:
    codes = np.full(len(texts), len(rules))  # of the first rule that refused each
    for k, rule in enumerate(rules):
        if rule.kind == "rewrite":
            texts = rule(texts)
        else:
            is_bad = rule(texts).to_numpy(zero_copy_only=False)
            codes[is_bad & (codes == len(rules))] = k
    names = pa.array([*(rule.reason for rule in rules), None], pa.string())
    return texts, names.take(pa.array(codes))
