"""The page of a study: tables, claims and verdicts, what fools the scores, pictures, dialogs (docs/reproduce.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pege.io import write_json, write_text
from pege.metrics.interval import mean_interval, paired_p_value
from pege.reproduce.claims import Finding, judge_claims, signature
from pege.reproduce.config import Study
from pege.reproduce.pictures import write_pictures
from pege.reproduce.plan import Step
from pege.reproduce.results import RowResult, Values, read_results
from pege.reproduce.run import done_steps

N_SAMPLES = 5
MAX_CHARS = 200  # of a shown utterance
_SCORES = {
    "peg": "PEG", "e": "E", "pege": "PEGE", "unseen_lexicon.pege": "PEGE, unseen lexicon",
    "classifier.p_positive_end": "P(positive) at the end", "repetition.rep_4": "rep-4",
    "repetition.repeated": "repeats itself", "repetition.echo": "echoes the user", "safety.offensive": "offensive",
    "safety.dismissive": "dismissive", "safety.toxic_positivity": "toxic positivity",
    "empathy.empathy_first": "success with empathy first", "relevance.fits": "relevance",
}  # fmt: skip
_LOWER_IS_BETTER = ("repetition.", "safety.")


def write_report(study: Study, steps: Sequence[Step], *, output: Path, command: str) -> Path:
    """Write ``NAME.md``, ``NAME.json`` and the pictures into a study's folder; of what is done so far.

    Args:
        study: what was run.
        steps: its plan; the claims of all bases in it are corrected together.
        output: its folder.
        command: that redoes it.

    Returns:
        The page.
    """
    done = done_steps(steps, output)
    results = read_results(study, steps, done=done, output=output)
    findings = find(study, results)
    write_json(output / f"{study.name}.json", as_json(study, results, findings))
    lines = [f"# {study.title}", "", f"`{command}`", "", *_about(steps, results)]
    if findings:
        lines += ["## Claims", "", *claims_table(findings), ""]
    for base, rows in results.items():
        if rows:
            lines += [f"## {base}", "", *_base_lines(study, output, base, rows)]
    lines += ["## What was made", "", *_hashes(done)]
    page = output / f"{study.name}.md"
    write_text(page, "\n".join(lines) + "\n")
    return page


def find(study: Study, results: dict[str, list[RowResult]]) -> list[Finding]:
    """Judge the claims of all bases on which both rows are there, corrected together."""
    wanted = {}
    for number, claim in study.claims.items():
        for base, rows in results.items():
            by_name = {r.name: r.values for r in rows}
            sides = [by_name.get(name, {}).get(claim.score) for name in (claim.better, claim.worse)]
            if sides[0] is not None and sides[1] is not None:
                wanted[number, base] = (claim, sides[0], sides[1])
    return judge_claims(wanted)


def claims_table(findings: Sequence[Finding]) -> Iterator[str]:
    """Each claim with its verdict."""
    yield "| | claim | base | score | difference, 95 % interval | by seed | counts from | p | p, Holm | verdict |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for f in findings:
        low, high = f.interval
        cells = (
            f.number, f"{f.claim.says} ({f.claim.source})", f.base, _title(f.claim.score),
            f"{f.difference:+.3f} [{low:+.3f}, {high:+.3f}]", ", ".join(f"{d:+.3f}" for d in f.by_seed),
            f"{f.claim.effect:g}", f"{f.p:.4f}", f"{f.p_holm:.4f}", f"**{f.verdict}**",
        )  # fmt: skip
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield f"`{signature(len(findings))}`"


def _about(steps: Sequence[Step], results: dict[str, list[RowResult]]) -> Iterator[str]:
    n_done = sum(len(r.seeds) for rows in results.values() for r in rows)
    n_all = sum(s.kind == "score" for s in steps)
    yield f"{n_done} of {n_all} runs are scored. Rows marked with * go beyond the paper and are not the paper's."
    yield ""


def _base_lines(study: Study, output: Path, base: str, rows: Sequence[RowResult]) -> Iterator[str]:
    yield from interactive_table(study, rows)
    yield ""
    if any(r.static for r in rows):
        yield from static_table(study, rows)
        yield ""
    if any(study.rows[r.name].agent for r in rows):
        yield "### Is the score gameable?"
        yield ""
        yield from gameable(study, rows)
        yield ""
    yield "### How the other judges agree with PEGE-Score"
    yield ""
    yield from agreement(rows)
    yield ""
    for picture, about in write_pictures(study, output, base, rows):
        yield f"![{about}]({picture.relative_to(output)})"
        yield ""
    yield f"### {N_SAMPLES} dialogs a row, drawn by seed, not by us"
    yield ""
    yield from samples(study, rows)


def interactive_table(study: Study, rows: Sequence[RowResult]) -> Iterator[str]:
    """Self-chat scores: the mean over seeds, the interval over starters of the mean over seeds."""
    names, shares = _scores_of(rows), [n for n, of in _SHARES.items() if any(of(r) is not None for r in rows)]
    yield f"| row | seeds | {' | '.join(map(_title, names))} | {' | '.join((*shares, 'Distinct-2'))} |"
    yield "|---" * (len(names) + len(shares) + 3) + "|"
    for r in rows:
        cells = [_mean(r.values[n].mean(axis=0)) if n in r.values else "" for n in names]
        cells += ["" if (share := _SHARES[n](r)) is None else f"{share:.1%}" for n in shares]
        distinct = np.mean([t["distinct"]["distinct_2"] for t in r.tables])
        yield f"| {_label(study, r.name)} | {len(r.seeds)} | {' | '.join(cells)} | {distinct:.3f} |"
    yield ""
    for s in _signatures(rows):
        yield f"`{s}`"
        yield ""


def _scores_of(rows: Sequence[RowResult]) -> list[str]:
    """Scores that a row has: the known ones in their order, then those of a language model as judge."""
    there = dict.fromkeys(n for r in rows for n in r.values)
    return [*(n for n in _SCORES if n in there), *(n for n in there if n.startswith("lm."))]


def _title(score: str) -> str:
    return _SCORES.get(score, score)


def _share_positive(row: RowResult) -> float | None:
    ends = [t["companions"]["classifier"]["share"] for t in row.tables if "classifier" in t["companions"]]
    return float(np.mean(ends)) if ends else None


def _share_empathic(row: RowResult) -> float | None:
    """Of all successes, over seeds and dialogs, those that show empathy first (81.37 % in the paper's sec. 5.3)."""
    if "empathy.success" not in row.values or not (n := row.values["empathy.success"].sum()):
        return None
    return float(row.values["empathy.empathy_first"].sum() / n)


_SHARES = {"ends with unseen P(positive) > 0.9": _share_positive, "empathy first, of successes": _share_empathic}


def static_table(study: Study, rows: Sequence[RowResult]) -> Iterator[str]:
    """Responses to held-out contexts, of the first seed."""
    yield "| row | perplexity | BLEU-1 | BLEU-2 | Distinct-1 | Distinct-2 |"
    yield "|---|---|---|---|---|---|"
    for r in (r for r in rows if r.static):
        bleu, distinct = r.static["bleu"], r.static["distinct"]
        cells = [f"{bleu[f'bleu_{n}']:.2f}" for n in (1, 2)] + [f"{distinct[f'distinct_{n}']:.3f}" for n in (1, 2)]
        perplexity = "" if r.perplexity is None else f"{r.perplexity:.2f}"
        yield f"| {_label(study, r.name)} | {perplexity} | {' | '.join(cells)} |"
    first = next(r.static for r in rows if r.static)
    yield ""
    yield f"{first['bleu']['n_responses']:,} responses of {first['n_dialogs']:,} held-out dialogs, the first seed."


def gameable(study: Study, rows: Sequence[RowResult]) -> Iterator[str]:
    """For each agent without a model: its PEGE-Score beside PEGE's, and which companions catch it."""
    by_name = {r.name: r for r in rows}
    real = by_name.get("PEGE")
    if real is None:
        yield "The row PEGE is not there yet."
        return
    yield "| agent | PEGE-Score less PEGE's | p | caught by |"
    yield "|---|---|---|---|"
    for r in (r for r in rows if study.rows[r.name].agent):
        x, y = (side.values["pege"].mean(axis=0) for side in (r, real))
        caught = [_title(n) for n in _scores_of(rows) if n not in ("peg", "e", "pege") and _is_worse(r, real, n)]
        yield f"| {r.name} | {_mean(x - y)} | {paired_p_value(x, y):.4f} | {', '.join(caught) or 'nothing here'} |"
    yield ""
    yield "Caught: significantly worse than PEGE on that score (paired permutation, p < 0.05, uncorrected)."


def _is_worse(row: RowResult, real: RowResult, name: str) -> bool:
    if name not in row.values or name not in real.values:
        return False
    x, y = row.values[name].mean(axis=0), real.values[name].mean(axis=0)
    sign = -1 if name.startswith(_LOWER_IS_BETTER) else 1
    return bool(sign * (x - y).mean() < 0 and paired_p_value(x, y) < 0.05)


def agreement(rows: Sequence[RowResult]) -> Iterator[str]:
    """Spearman's correlation of each score with PEGE-Score: over all dialogs, and over the rows' means."""
    names = [n for n in _scores_of(rows) if n not in ("peg", "e", "pege") and all(n in r.values for r in rows)]
    yield "| score | over dialogs | within a row | over the rows' means |"
    yield "|---|---|---|---|"
    for n in names:
        x, y = ([r.values[name].ravel() for r in rows] for name in ("pege", n))
        inside = [c for a, b in zip(x, y, strict=True) if (c := _spearman(a, b)) is not None]
        found = (
            _spearman(np.concatenate(x), np.concatenate(y)),
            float(np.mean(inside)) if inside else None,
            _spearman(*(np.array([values.mean() for values in side]) for side in (x, y))),
        )
        yield f"| {_title(n)} | {' | '.join('' if c is None else f'{c:+.2f}' for c in found)} |"


def _spearman(x: Values, y: Values) -> float | None:
    """Spearman's rank correlation; None where a side is constant."""
    from scipy.stats import spearmanr

    return float(spearmanr(x, y).statistic) if np.ptp(x) and np.ptp(y) else None


def samples(study: Study, rows: Sequence[RowResult]) -> Iterator[str]:
    """The same starters in all rows, the first seed of each."""
    n_starters = rows[0].values["pege"].shape[1]
    chosen = sorted(np.random.default_rng(0).permutation(n_starters)[:N_SAMPLES].tolist())
    for r in rows:
        dialogs = sorted(r.dialogs(r.seeds[0]), key=lambda d: d.id)
        yield f"<details><summary>{_label(study, r.name)}</summary>"
        yield ""
        for k in chosen:
            yield f"`{dialogs[k].id}`"
            yield ""
            yield from (f"- {('user', 'agent')[j % 2]}: {_cut(t)}" for j, t in enumerate(dialogs[k].texts))
            yield ""
        yield "</details>"
        yield ""


def as_json(study: Study, results: dict[str, list[RowResult]], findings: Sequence[Finding]) -> dict[str, object]:
    """Give all numbers of the page."""
    return {
        "study": study.name,
        "rows": {
            base: {
                r.name: {
                    "seeds": list(r.seeds),
                    "means": {n: float(v.mean()) for n, v in r.values.items()},
                    "perplexity": r.perplexity,
                    "static": r.static,
                }
                for r in rows
            }
            for base, rows in results.items()
        },
        "claims": [
            {
                "number": f.number, "base": f.base, "says": f.claim.says, "score": f.claim.score,
                "difference": f.difference, "interval": list(f.interval), "by_seed": list(f.by_seed), "p": f.p,
                "p_holm": f.p_holm, "effect": f.claim.effect, "n_starters": f.n_starters, "verdict": f.verdict,
            }
            for f in findings
        ],
    }  # fmt: skip


def _hashes(done: Mapping[str, dict[str, Any]]) -> Iterator[str]:
    yield "| step | file | sha256 | seconds |"
    yield "|---|---|---|---|"
    for name, record in sorted(done.items()):
        for file, digest in record["sha256"].items():
            yield f"| {name} | {file} | `{digest[:16]}` | {record['seconds']:,.0f} |"


def _signatures(rows: Sequence[RowResult]) -> list[str]:
    table = rows[0].tables[0]
    return [table["signature"], *(c["signature"] for c in table["companions"].values())]


def _label(study: Study, row: str) -> str:
    return f"{row} *" if study.rows[row].is_ours else row


def _mean(values: Values) -> str:
    """The mean of a value a starter, (N,), with its interval."""
    low, high = mean_interval(values)
    return f"{values.mean():+.3f} [{low:+.3f}, {high:+.3f}]"


def _cut(text: str) -> str:
    plain = " ".join(text.split()).replace("<", "&lt;")
    return plain if len(plain) <= MAX_CHARS else plain[:MAX_CHARS] + "..."
