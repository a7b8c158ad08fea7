"""Run the steps of a study: side by side where there is room, on from where it was killed, here or on Ray."""

from __future__ import annotations

import concurrent.futures
import contextlib
import fcntl
import graphlib
import hashlib
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from pege.cluster import n_gpus, ray_cluster
from pege.errors import InputError
from pege.io import make_folder, read_json, write_atomic, write_json, write_text
from pege.reproduce.plan import KINDS_WITH_MODEL, Step

log = logging.getLogger(__name__)

#: what a kind of step makes that its hashes are of, where it is not its output alone
_MADE = {
    "corpus": ("train/*", "validation/*"),
    "train": ("*.safetensors",),
    "prefer": ("pairs.jsonl", "*.safetensors"),
    "score": ("score.json", "scores.jsonl"),
}

Submit = Callable[[Step, Path], concurrent.futures.Future[float]]


class StepError(Exception):
    """A command ended with an error; the message is its last line."""


def run_steps(
    steps: Sequence[Step],
    output: Path,
    *,
    n_jobs: int = 1,
    runner: Literal["local", "ray"] = "local",
    address: str | None = None,
) -> None:
    """Run what is not done yet.

    A step is done when its record in ``steps/`` has the key of its command, its config and the steps it needs. Killed
    at any moment, the next start waits for commands that still run, then goes on; each command resumes by itself.

    Args:
        steps: each after those it needs.
        output: the study's folder, on a disk that all machines see.
        n_jobs: steps side by side; the processors are shared among them.
        runner: this machine, or a Ray cluster.
        address: of the cluster; one on this machine unless named.

    Raises:
        InputError: steps failed; those that do not need them were run all the same.
    """
    make_folder(output)
    keys, done = step_keys(steps), done_steps(steps, output)
    open_steps = [s for s in steps if s.name not in done]
    failed: dict[str, str] = {}
    with _lock(output), _submitter(runner, address, n_jobs) as submit:
        _run_graph(open_steps, output, keys, submit, failed)
    if failed:
        first, why = next(iter(failed.items()))
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        where = output / "logs" / f"{_file(first)}.log"
        raise InputError(f"step {first} failed{more}: {why}", where=where, fix="mend it, then start the study again")


def step_keys(steps: Sequence[Step]) -> dict[str, str]:
    """Give each step's key: a hash of its command, its config, and the keys of what it needs."""
    keys: dict[str, str] = {}
    for step in steps:
        parts = [*step.arguments, step.config_text(), *(keys[n] for n in step.needs)]
        keys[step.name] = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    return keys


def done_steps(steps: Sequence[Step], output: Path) -> dict[str, dict[str, Any]]:
    """Give the record of each step that is done, by name: its output is there, and the record has its key."""
    keys = step_keys(steps)
    there = [s for s in steps if _record(s.name, output).is_file() and s.output.exists()]
    records = {s.name: read_json(_record(s.name, output)) for s in there}
    return {name: record for name, record in records.items() if record["key"] == keys[name]}


def seconds_taken(output: Path) -> dict[str, list[float]]:
    """Give the seconds of all steps done so far, by ``KIND/BASE/ROW``: what an estimate is made from."""
    found: dict[str, list[float]] = {}
    for path in sorted((output / "steps").glob("*.json")):
        record = read_json(path)
        found.setdefault(record["name"].rsplit("/", 1)[0], []).append(record["seconds"])
    return found


def _run_graph(
    steps: Sequence[Step], output: Path, keys: dict[str, str], submit: Submit, failed: dict[str, str]
) -> None:
    by_name = {s.name: s for s in steps}
    graph = graphlib.TopologicalSorter({s.name: [n for n in s.needs if n in by_name] for s in steps})
    graph.prepare()
    running: dict[concurrent.futures.Future[float], Step] = {}
    with tqdm(total=len(steps), unit="step", desc="study") as bar:
        while graph.is_active():
            for name in graph.get_ready():
                step = by_name[name]
                if blocked := [n for n in step.needs if n in failed]:
                    failed[name] = f"needs {blocked[0]}"
                    graph.done(name)
                else:
                    running[submit(step, output)] = step
            if not running:
                continue
            done, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
            for future in done:
                step = running.pop(future)
                try:
                    seconds = future.result()
                except StepError as e:
                    failed[step.name] = str(getattr(e, "cause", e))  # Ray's own text is a whole traceback
                    log.warning("%s failed: %s", step.name, failed[step.name])
                else:
                    record = {"name": step.name, "key": keys[step.name], "seconds": round(seconds, 1)}
                    made = {"arguments": list(step.arguments), "sha256": artefacts(step)}
                    write_json(_record(step.name, output), record | made)
                graph.done(step.name)
                bar.update()
                bar.set_postfix_str(step.name)


def run_step(step: Step, output: Path, n_threads: int | None = None) -> float:
    """Run one command; give its seconds.

    Raises:
        StepError: it ended with an error.
    """
    start = time.monotonic()
    if step.config is not None:
        write_text(step.config[0], step.config_text())
    make_folder(step.output.parent)
    logs = output / "logs"
    make_folder(logs)
    environment = dict(os.environ)
    if n_threads is not None:
        environment |= {"OMP_NUM_THREADS": str(n_threads), "RAYON_NUM_THREADS": str(n_threads)}
    command = [sys.executable, "-m", "pege", *step.arguments]
    log_file = logs / f"{_file(step.name)}.log"
    printed = write_atomic(step.output) if step.takes_stdout else contextlib.nullcontext(Path(os.devnull))
    with log_file.open("ab") as errors, printed as path, path.open("wb") as sink:
        found = subprocess.run(command, stdout=sink, stderr=errors, env=environment, check=False, close_fds=False)  # noqa: S603 - our own commands
        if found.returncode:
            raise StepError(_last_line(log_file))
    if not step.output.exists():
        raise StepError(f"left no {step.output}")
    return time.monotonic() - start


@contextlib.contextmanager
def _submitter(runner: str, address: str | None, n_jobs: int) -> Iterator[Submit]:
    """Give what starts a step and promises its seconds."""
    if runner == "ray":
        with ray_cluster(address) as ray:
            yield _ray_submit(ray)
        return
    n_threads = max(1, (os.cpu_count() or 1) // n_jobs) if n_jobs > 1 else None
    with concurrent.futures.ThreadPoolExecutor(n_jobs) as pool:
        yield lambda step, output: pool.submit(run_step, step, output, n_threads)


def _run_in(folder: Path, step: Step, output: Path) -> float:
    os.chdir(folder)  # a study's paths are as they were given
    return run_step(step, output)


def _ray_submit(ray: Any) -> Submit:
    # a lost worker is tried again: commands go on from where they were; a command that fails is not
    plain = ray.remote(num_cpus=1, max_retries=2)(_run_in)
    with_gpu = plain.options(num_gpus=min(n_gpus(ray), 1))  # Ray hides GPUs from what asks for none

    def submit(step: Step, output: Path) -> concurrent.futures.Future[float]:
        remote = with_gpu if step.kind in KINDS_WITH_MODEL else plain
        future: concurrent.futures.Future[float] = remote.remote(Path.cwd(), step, output).future()
        return future

    return submit


@contextlib.contextmanager
def _lock(output: Path) -> Iterator[None]:
    """Hold the study's folder. Commands inherit the lock, so one that outlives a killed planner still holds it."""
    with (output / "lock").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.warning("%s is at work (a command of an earlier start, or another planner): waiting for it", output)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _record(name: str, output: Path) -> Path:
    return output / "steps" / f"{_file(name)}.json"


def _file(name: str) -> str:
    return name.replace("/", ".").replace(" ", "-")


def artefacts(step: Step) -> dict[str, str]:
    """Give the sha256 of what a step made, by the file's name: its output, or what stands for it."""
    folder = step.output.parent
    made = sorted(path for pattern in _MADE.get(step.kind, ()) for path in folder.glob(pattern))
    found = {}
    for path in made or [step.output]:
        with path.open("rb") as file:
            found[str(path.relative_to(folder))] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").replace("\r", "\n").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "no message")
