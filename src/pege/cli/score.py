"""``pege score`` and ``pege compare``."""

from __future__ import annotations

import json as jsonlib
import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from pege.dialog import Dialog
from pege.io import read_rows, write_rows
from pege.lexicon import load_lexicon
from pege.metrics import Options, compare_table, is_scorable, score_table
from pege.metrics.ratings import read_ratings

log = logging.getLogger(__name__)
Range = tuple[float, float]


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
    per_dialog: Path | None = None,
    seed: int = 0,
    n_resamples: int = 9_999,
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
        per_dialog: write the scores of each dialog there, JSONL.
        seed: of the bootstrap.
        n_resamples: of the bootstrap.
        json: print one JSON object.
    """
    dialogs = list(read_rows(file, Dialog))
    options = _options(lexicon, lexicon_range, language, oov, agg, unseen_lexicon, classifier, seed, n_resamples)
    if ratings:
        options = replace(options, ratings=read_ratings(ratings))
    if references:
        options = replace(options, references=list(read_rows(references, Dialog)))
    table, scores = score_table(dialogs, options)
    silent = [d.id for d in dialogs if not is_scorable(d)]
    if silent:
        log.warning("%s: %d dialogs not scored (no-response), e.g. %s", file, len(silent), silent[0])
    if per_dialog:
        write_rows(per_dialog, (asdict(s) for s in scores))
        if silent:
            rows = ({"id": i, "reason": "no-response"} for i in silent)
            write_rows(per_dialog.with_name(f"{per_dialog.name.split('.')[0]}.quarantine.jsonl"), rows)
    print(jsonlib.dumps(table, ensure_ascii=False) if json else _score_text(table))


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
    seed: int = 0,
    n_resamples: int = 9_999,
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
        seed: of bootstrap and permutation.
        n_resamples: of both.
        json: print one JSON object.
    """
    options = _options(lexicon, lexicon_range, language, oov, agg, unseen_lexicon, classifier, seed, n_resamples)
    table = compare_table(list(read_rows(a, Dialog)), list(read_rows(b, Dialog)), options)
    print(jsonlib.dumps(table, ensure_ascii=False) if json else _compare_text(table))


def _options(
    lexicon: str | None, lexicon_range: Range | None, language: str | None, oov: Any, agg: Any,
    unseen_lexicon: str | None, classifier: str | None, seed: int, n_resamples: int,
) -> Options:  # fmt: skip
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


def _score_text(table: dict[str, Any]) -> str:
    lines = [f"{table['n_dialogs']} dialogs"]
    lines += _scores_of(table)
    distinct = table["distinct"]
    lines.append(f"Distinct-1 {distinct['distinct_1']:.4f}  Distinct-2 {distinct['distinct_2']:.4f}")
    lines.append(f"  {distinct['signature']}")
    if bleu := table.get("bleu"):
        lines.append(f"BLEU-1 {bleu['bleu_1']:.2f}  BLEU-2 {bleu['bleu_2']:.2f}  ({bleu['n_responses']} responses)")
        lines += [f"  {bleu['signature_1']}", f"  {bleu['signature_2']}"]
    companions = table["companions"]
    if "unseen_lexicon" in companions:
        lines += ["with a lexicon that training never saw:", *_scores_of(companions["unseen_lexicon"])]
    else:
        lines.append("with a lexicon that training never saw: none (--unseen-lexicon FILE)")
    if "classifier" in companions:
        end = companions["classifier"]
        low, high = end["ci"]["p_positive_end"]
        lines.append(
            f"P(positive) of the user's last utterance {end['p_positive_end']:.3f} [{low:.3f}, {high:.3f}], "
            f"above 0.9 in {end['share']:.1%}  {end['signature']}"
        )
        if "classifier:pege-" in end["signature"]:
            lines.append("  (our classifier filters the corpora: no independent judge)")
    else:
        lines.append("by a classifier that training never saw: none (--classifier FOLDER)")
    if "ratings" in companions:
        rated = companions["ratings"]
        shown = (f"{s} {rated[s]:.3f} [{low:.3f}, {high:.3f}]" for s, (low, high) in rated["ci"].items())
        lines.append(f"human ratings ({rated['n_raters']} raters): {'  '.join(shown)}")
    else:
        lines.append("human ratings: none (--ratings FILE.csv)")
    return "\n".join(lines)


def _scores_of(table: dict[str, Any]) -> list[str]:
    titles = {"peg": "PEG-Score", "e": "E-Score", "pege": "PEGE-Score"}
    lines = []
    for name, title in titles.items():
        low, high = table["ci"][name]
        lines.append(f"{title:<11} {table[name]:+.4f} [{low:+.4f}, {high:+.4f}]")
    return [*lines, f"  {table['signature']}"]


def _compare_text(table: dict[str, Any]) -> str:
    lines = [f"{table['n_pairs']} pairs", f"{'':<30}{'A':>9}{'B':>9}{'A - B':>9}   95 % interval         p"]
    for name, row in table["scores"].items():
        low, high = row["ci"]
        lines.append(
            f"{name:<30}{row['a']:>+9.4f}{row['b']:>+9.4f}{row['difference']:>+9.4f}"
            f"   [{low:+.4f}, {high:+.4f}]   {row['p']:.4f}"
        )
    return "\n".join([*lines, f"  {table['signature']}"])
