"""``pege score`` and ``pege compare``."""

from __future__ import annotations

import json as jsonlib
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.types import NonNegativeInt, PositiveInt

from pege.dialog import Dialog
from pege.errors import InputError
from pege.io import ROW_SUFFIXES, read_rows, write_rows
from pege.lexicon import load_lexicon
from pege.metrics import Options, compare_table, is_scorable, score_table, text_rows
from pege.metrics.judges import Judge, load_judge
from pege.metrics.ratings import read_ratings

log = logging.getLogger(__name__)
Range = tuple[float, float]
Judges = Annotated[tuple[str, ...], Parameter(consume_multiple=True)]


def score(
    file: Path,
    /,
    *,
    lexicon: str | None = None,
    lexicon_range: Range | None = None,
    language: Literal["en", "zh"] | None = None,
    oov: Literal["skip", "neutral"] = "skip",
    agg: Literal["mean", "sum"] = "mean",
    unseen_lexicon: str | None = None,
    classifier: str | None = None,
    ratings: Path | None = None,
    references: Path | None = None,
    judges: Judges = (),
    per_dialog: Path | None = None,
    seed: NonNegativeInt = 0,
    n_resamples: PositiveInt = 9_999,
    json: bool = False,
) -> None:
    """Score dialogs: PEG-, E- and PEGE-Score (Eq. 7-9) with intervals, Distinct, and the honest companions.

    Args:
        file: rows, e.g. of `pege selfchat`.
        lexicon: one of ours or a file; ours of the language unless named.
        lexicon_range: the file's scale, where it is not recognised.
        language: of all dialogs; guessed unless named.
        oov: what a word counts that the lexicon lacks: nothing, or the reference value.
        agg: over the utterances of a half.
        unseen_lexicon: a lexicon that training never saw: the same scores with it.
        classifier: an emotion classifier that training never saw (a folder, or `default` for ours): how dialogs end.
        ratings: CSV of human ratings, columns id,rater,scale,rating.
        references: rows with the same ids and as many responses: BLEU-1/2 by sacreBLEU.
        judges: repetition, safety, empathy:FOLDER, relevance:MODEL[#DTYPE], lm:URL#MODEL (docs/scores.md).
        per_dialog: write the scores of each dialog there, JSONL; Distinct and BLEU beside it, in NAME.text.jsonl.
        seed: of the bootstrap.
        n_resamples: of the bootstrap.
        json: print one JSON object.
    """
    dialogs = list(read_rows(file, Dialog))
    options = _options(lexicon, lexicon_range, language, oov, agg, unseen_lexicon, classifier, seed, n_resamples)
    options = replace(options, judges=[_judge(j) for j in judges])
    if ratings:
        options = replace(options, ratings=read_ratings(ratings))
    if references:
        options = replace(options, references=list(read_rows(references, Dialog)))
    table, rows = score_table(dialogs, options)
    silent = [d.id for d in dialogs if not is_scorable(d)]
    if silent:
        log.warning("%s: %d dialogs not scored (no-response), e.g. %s", file, len(silent), silent[0])
    if per_dialog:
        write_rows(per_dialog, rows)
        write_rows(_beside(per_dialog, "text"), text_rows(dialogs, options))
        if silent:
            write_rows(_beside(per_dialog, "quarantine"), ({"id": i, "reason": "no-response"} for i in silent))
    print(jsonlib.dumps(table, ensure_ascii=False) if json else _score_text(table))


def _beside(path: Path, kind: str) -> Path:
    """NAME.jsonl -> NAME.KIND.jsonl."""
    suffix = next((s for s in ROW_SUFFIXES if path.name.endswith(s)), "")
    return path.with_name(f"{path.name.removesuffix(suffix)}.{kind}.jsonl")


def compare(
    a: Path,
    b: Path,
    /,
    *,
    lexicon: str | None = None,
    lexicon_range: Range | None = None,
    language: Literal["en", "zh"] | None = None,
    oov: Literal["skip", "neutral"] = "skip",
    agg: Literal["mean", "sum"] = "mean",
    unseen_lexicon: str | None = None,
    classifier: str | None = None,
    ratings: tuple[Path, Path] | None = None,
    judges: Judges = (),
    seed: NonNegativeInt = 0,
    n_resamples: PositiveInt = 9_999,
    json: bool = False,
) -> None:
    """Compare two systems on the same starters: differences, intervals, paired permutation test.

    Args:
        a: rows of the first system.
        b: rows of the second, with the same ids or the same starters.
        lexicon: one of ours or a file; ours of the language unless named.
        lexicon_range: the file's scale, where it is not recognised.
        language: of all dialogs; guessed unless named.
        oov: what a word counts that the lexicon lacks: nothing, or the reference value.
        agg: over the utterances of a half.
        unseen_lexicon: a lexicon that training never saw.
        classifier: an emotion classifier that training never saw (a folder, or `default` for ours).
        ratings: two CSV of human ratings, of the first and of the second system, columns id,rater,scale,rating.
        judges: repetition, safety, empathy:FOLDER, relevance:MODEL[#DTYPE], lm:URL#MODEL (docs/scores.md).
        seed: of bootstrap and permutation.
        n_resamples: of both.
        json: print one JSON object.
    """
    options = _options(lexicon, lexicon_range, language, oov, agg, unseen_lexicon, classifier, seed, n_resamples)
    options = replace(options, judges=[_judge(j) for j in judges])
    rated = (read_ratings(ratings[0]), read_ratings(ratings[1])) if ratings else None
    table = compare_table(list(read_rows(a, Dialog)), list(read_rows(b, Dialog)), options, ratings=rated)
    print(jsonlib.dumps(table, ensure_ascii=False) if json else _compare_text(table))


def _judge(spec: str) -> Judge:
    kind, _, model = spec.partition(":")
    if kind == "relevance" and model:
        from pege.training.relevance import relevance_judge

        return relevance_judge(model)
    return load_judge(spec, api_key=os.environ.get("OPENAI_API_KEY"))


def _options(
    lexicon: str | None, lexicon_range: Range | None, language: str | None, oov: Any, agg: Any,
    unseen_lexicon: str | None, classifier: str | None, seed: int, n_resamples: int,
) -> Options:  # fmt: skip
    if lexicon_range and not lexicon:
        raise InputError("--lexicon_range is the scale of a file", fix="name it with --lexicon")
    return Options(
        lexicon=load_lexicon(lexicon, value_range=lexicon_range) if lexicon else None,
        language=language,
        oov=oov,
        agg=agg,
        unseen_lexicon=load_lexicon(unseen_lexicon) if unseen_lexicon else None,
        classifier=classifier,
        seed=seed,
        n_resamples=n_resamples,
    )


_COMPANIONS = {
    "unseen_lexicon": ("with a lexicon that training never saw", "--unseen-lexicon FILE"),
    "classifier": ("by a classifier that training never saw", "--classifier FOLDER"),
    "ratings": ("human ratings", "--ratings {files}"),
}


def _lacking(found: dict[str, Any], *, files: str) -> list[str]:
    """Name the companions that a table has not got, and the flags that give them."""
    lacking = (pair for name, pair in _COMPANIONS.items() if name not in found)
    return [f"{what}: none ({flag.format(files=files)})" for what, flag in lacking]


def _score_text(table: dict[str, Any]) -> str:
    lines = [f"{table['n_dialogs']} dialogs"]
    lines += _scores_of(table)
    distinct = table["distinct"]
    lines += [f"Distinct-{n} {_measured(distinct, f'distinct_{n}', '.4f')}" for n in (1, 2)]
    lines.append(f"  {distinct['signature']}")
    if bleu := table.get("bleu"):
        for n in (1, 2):
            lines.append(f"BLEU-{n} {_measured(bleu, f'bleu_{n}', '.2f')}  ({bleu['n_responses']} responses)")
            lines.append(f"  {bleu[f'signature_{n}']}")
    companions = table["companions"]
    if other := companions.get("unseen_lexicon"):
        lines += ["with a lexicon that training never saw:", *_scores_of(other)]
    if end := companions.get("classifier"):
        lines.append(
            f"P(positive) of the user's last utterance {_measured(end, 'p_positive_end', '.3f')}, "
            f"above 0.9 in {end['share']:.1%}"
        )
        lines += [f"  {end['signature']}", *_own(end["signature"])]
    if rated := companions.get("ratings"):
        shown = "  ".join(f"{scale} {_measured(rated, scale, '.3f')}" for scale in rated["ci"])
        lines += [f"human ratings ({rated['n_raters']} raters): {shown}", f"  {rated['signature']}"]
    for name in (n for n in companions if n not in _COMPANIONS):
        judged = companions[name]
        shown = "  ".join(f"{value} {_measured(judged, value, '.3f')}" for value in judged["ci"])
        lines += [f"{name}: {shown}", f"  {judged['signature']}"]
    return "\n".join([*lines, *_lacking(companions, files="FILE.csv")])


def _measured(table: dict[str, Any], name: str, form: str) -> str:
    low, high = table["ci"][name]
    return f"{table[name]:{form}} [{low:{form}}, {high:{form}}]"


def _own(signature: str) -> list[str]:
    return ["  (our classifier filters the corpora: no independent judge)"] if "classifier:pege-" in signature else []


def _scores_of(table: dict[str, Any]) -> list[str]:
    titles = {"peg": "PEG-Score", "e": "E-Score", "pege": "PEGE-Score"}
    lines = [f"{title:<11} {_measured(table, name, '+.4f')}" for name, title in titles.items()]
    return [*lines, f"  {table['signature']}"]


def _compare_text(table: dict[str, Any]) -> str:
    lines = [f"{table['n_pairs']} pairs", f"{'':<30}{'A':>9}{'B':>9}{'A - B':>9}   95 % interval         p"]
    for name, row in table["scores"].items():
        low, high = row["ci"]
        lines.append(
            f"{name:<30}{row['a']:>+9.4f}{row['b']:>+9.4f}{row['difference']:>+9.4f}"
            f"   [{low:+.4f}, {high:+.4f}]   {row['p']:.4f}"
        )
    signatures = dict.fromkeys(s for sides in table["companions"].values() for s in sides.values())
    for signature in (table["signature"], *signatures):
        lines += [f"  {signature}", *_own(signature)]
    return "\n".join([*lines, *_lacking(table["companions"], files="A.csv B.csv")])
