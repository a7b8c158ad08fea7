"""``pege corpus build | stats | inspect | card | audit``."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from pege.cli.configured import run_configured
from pege.corpus import CorpusConfig, corpus_rows, corpus_stats

app = App(name="corpus", help="Raw dialogs to a corpus: build, count, inspect, describe, audit.")
app.default_parameter = Parameter(negative=(), consume_multiple=True)


@app.command(help_flags=())  # its own parser prints the help
def build(*flags: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)], config: Path | None = None) -> None:
    """Build a corpus: read, clean, filter, split. Stopped, it goes on when started again."""

    def run(
        *,
        output: Path,
        settings: Annotated[CorpusConfig, Parameter(name="*")],
        runner: Literal["local", "ray"] = "local",
        address: str | None = None,
        workers: int | None = None,
        keep_dropped: bool = False,
    ) -> None:
        """Build a corpus: read, clean, filter, split. Stopped, it goes on when started again.

        `--config FILE.yaml` names a config; flags win over it. The rules of cleaning are set there (docs/cleaning.md).

        Args:
            output: folder of the corpus.
            settings: what the rows depend on.
            runner: this machine, or a Ray cluster.
            address: of the Ray cluster; one on this machine unless named.
            workers: processes; one a core unless named.
            keep_dropped: keep the texts of dropped dialogs beside their reasons.
        """
        from pege.corpus import build_corpus

        report = build_corpus(
            settings, output, runner=runner, address=address, workers=workers, keep_dropped=keep_dropped
        )
        print(jsonlib.dumps(report))

    run_configured("pege corpus build", run, flags, config)


@app.command
def stats(folder: Path, /, *, json: bool = False) -> None:
    """Count sessions and utterances by starting emotion (Table 2).

    Args:
        folder: a corpus folder.
        json: print one JSON object.
    """
    from pege.corpus.read import read_report

    report = read_report(folder)
    found = corpus_stats(corpus_rows(folder)) | report
    if json:
        print(jsonlib.dumps(found))
        return
    print(f"{'start':<10}{'sessions':>10}{'utterances':>12}{'a session':>11}")
    for start, n in found["sessions"].items():
        print(f"{start:<10}{n:>10}{found['utterances'][start]:>12}{found['utterances_a_session'][start]:>11.1f}")
    print(f"{'all':<10}{found['n_sessions']:>10}{found['n_utterances']:>12}")
    print(f"\nread {report['input']} = kept {report['kept']} + quarantined {report['quarantined']} + dropped:")
    for reason, n in report["dropped"].items():
        print(f"  {reason:<22}{n:>10}")


@app.command
def inspect(folder: Path, /, *, id: str, json: bool = False) -> None:
    """Say where one dialog went, and why.

    Args:
        folder: a corpus folder.
        id: of a dialog, a session, or a conversation that was cut into sessions.
        json: print one JSON object a line.
    """
    from pege.corpus.read import inspect_dialog

    for story in inspect_dialog(folder, id):
        print(jsonlib.dumps(story, ensure_ascii=False) if json else _told(story))


def _told(story: dict[str, Any]) -> str:
    lines = [f"{story.get('id', id)}: {story['went']}"]
    if story["went"] == "kept":
        lines[0] += f" ({story['side']})"
        lines += [f"  {m['role']:<10} {m['content']}" for m in story["messages"]]
    elif story["went"] == "dropped":
        place = f", utterance {story['utterance']}" if story["utterance"] else ""
        seen = f": {story['detail']}" if story["detail"] else ""
        lines[0] += f", {story['reason']}{place}{seen} ({story['file']}:{story['line']})"
        lines += [f"  {('user', 'assistant')[k % 2]:<10} {t}" for k, t in enumerate(story["texts"] or ())]
    else:
        lines = [f"{story['file']}:{story['line']}: quarantined, {story['reason']}"]
    return "\n".join(lines)


@app.command
def card(folder: Path, /, *, name: str, licence: str) -> None:
    """Write the dataset card and its plots into a corpus folder, in the hub's format.

    Args:
        folder: a corpus folder.
        name: of the dataset.
        licence: of the data, as the hub names it, e.g. cc-by-4.0.
    """
    from pege.corpus.card import write_card

    print(write_card(folder, name=name, licence=licence))


@app.command
def audit(
    folder: Path, /, *, n_dialogs: int = 500, seed: int = 0, recogniser: str = "default", json: bool = False
) -> None:
    """Search a sample of kept dialogs for personal data, more widely than the filter, before a release.

    Args:
        folder: a corpus folder.
        n_dialogs: of the sample.
        seed: of the sample.
        recogniser: who finds persons, institutions and addresses.
        json: print one JSON object.
    """
    from pege.corpus.audit import audit_corpus
    from pege.corpus.entities import load_recogniser

    found = audit_corpus(folder, load_recogniser(recogniser, keep_places=False), n_dialogs=n_dialogs, seed=seed)
    if json:
        print(jsonlib.dumps(found, ensure_ascii=False))
        return
    for leak in found["leaks"]:
        print(f"{leak['id']} {leak['place']}: {leak['reason']} {leak['found']}\n    {leak['text']}")
    print(
        f"\n{found['n_dialogs']} dialogs, {found['n_utterances']} utterances; suspected: {found['suspected'] or 'none'}"
    )
