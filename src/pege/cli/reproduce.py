"""``pege reproduce``."""

from __future__ import annotations

import os
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

if TYPE_CHECKING:
    from pege.reproduce import Step, Study

Count = Annotated[int, Parameter(validator=Number(gte=1))]


def reproduce(
    study: str,
    /,
    *,
    output: Path = Path("runs/reproduce"),
    data: Path | None = None,
    base: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = (),
    dry_run: bool = False,
    claims: bool = False,
    jobs: Count = 1,
    runner: Literal["local", "ray"] = "local",
    address: str | None = None,
) -> None:
    """Run a study: train every row, self-chat, score, test, report. Stopped, the same command goes on.

    Args:
        study: table3, table5, another that ships, or a YAML file.
        output: folder of the study; studies with the same rows may share it, and their runs.
        data: where the inputs of its corpora lie; the environment's PEGE_DATA unless named.
        base: run only these bases' rows; all unless named.
        dry_run: print the steps, what is done and how long the rest takes, and run nothing.
        claims: print the claims as Markdown, and run nothing.
        jobs: steps side by side.
        runner: this machine, or a Ray cluster with a disk that all see.
        address: of the Ray cluster; one on this machine unless named.
    """
    from pege.errors import InputError
    from pege.reproduce import check_inputs, load_study, plan_study, run_steps, write_report

    found = load_study(study)
    if claims:
        print("\n".join(_claims_page(found)))
        return
    place = data or Path(os.environ.get("PEGE_DATA", "."))
    if not place.is_dir():
        raise InputError("no such folder", where=place, fix="name the data with --data or PEGE_DATA")
    steps = plan_study(found, output, place, bases=base)
    if dry_run:
        print("\n".join(_plan_lines(steps, output)))
        return
    check_inputs(found, place, bases=base)
    command = " ".join(["pege reproduce", study, *(f"--base {b}" for b in base)])
    try:
        run_steps(steps, output, n_jobs=jobs, runner=runner, address=address)
    finally:
        if sys.exc_info()[0] is not KeyboardInterrupt and (output / "steps").is_dir():
            print(write_report(found, steps, output=output, command=command))


def _claims_page(study: Study) -> list[str]:
    lines = ["| | claim | from | score | better | worse | counts from |", "|---|---|---|---|---|---|---|"]
    for number, c in study.claims.items():
        cells = (number, c.says, c.source, f"`{c.score}`", c.better, c.worse, f"{c.effect:g}")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _plan_lines(steps: list[Step], output: Path) -> list[str]:
    from pege.reproduce.run import done_steps, seconds_taken

    there, taken = done_steps(steps, output), seconds_taken(output)
    lines, left = [], 0.0
    for step in steps:
        known = taken.get(step.name.rsplit("/", 1)[0])
        minutes = statistics.median(known) / 60 if known else step.minutes
        done = step.name in there
        left += 0 if done else minutes
        lines.append(f"{'done' if done else '    '} {minutes:7.1f} min  {step.name}")
    n_done = sum(line.startswith("done") for line in lines)
    return [*lines, f"{len(steps)} steps, {n_done} done; about {left / 60:.1f} hours left, one after another"]
