"""`pege corpus build` beside its peers: dialogs a second, peak memory, time by stage, and the cost of 1.2 billion.

    python benchmarks/corpus.py [--sizes 10000 100000 1000000] [--ray] [--output docs/results/bench-corpus.md]

Needs ``pip install -c constraints.txt -e '.[corpus,demo,ray,bench]'``. Rows: the builder; a plain loop in one process;
datatrove with the rules a document at a time, as its own filters are written; datatrove with the builder's functions
over batches of documents. All read the same files, run the same rules and ask the same models in batches; that they
keep the same dialogs for the same reasons is checked, not hoped. Near-duplicates are left out there, since each
library has hashes of its own; the last row is the builder with them. The rows take turns; each run is a process of its
own, its memory that of its whole tree, shared pages counted once. A run that is done (`FOLDER/*.json`) is not repeated.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import psutil
from cyclopts import App, Parameter
from rows import fill_page, processor

from pege.corpus import CorpusConfig
from pege.io import read_json, read_yaml, write_json, write_text

HERE = Path(__file__).resolve().parent
CONFIG = HERE.parent / "configs" / "corpus.yaml"
PAGE = HERE.parent / "docs" / "scale.md"
MARKS = "<!-- filled by benchmarks/corpus.py -->", "<!-- end of what is filled -->"
ROWS_OF_A_FILE = 5_000
N_SESSIONS = 1_200_000_000  # of the paper's source, sec. 3
PEERS = {
    "pege": "pege corpus build",
    "plain": "plain loop, one process",
    "datatrove": "datatrove, a document at a time",
    "datatrove-columns": "datatrove, our functions over batches",
    "pege-duplicates": "pege corpus build, near-duplicates too",
}
RAY = {"ray-1": "Ray, one worker", "ray-2": "Ray, two workers"}
ONCE = {"plain", "datatrove-columns", "pege-duplicates", *RAY}  # but for the smallest size: not what the goals are about
PARALLEL, SERIAL = ("intake", "clean", "filter"), ("templates", "duplicates", "output")


# ---- one run in a process of its own


def command_of(peer: str, source: Path, target: Path, workers: int) -> list[str]:
    """What runs a peer over a folder of input."""
    if peer.startswith(("pege", "ray")):
        command = [sys.executable, "-m", "pege", "corpus", "build", "--config", str(CONFIG)]
        command += ["--input", str(source / "*.jsonl.gz"), "--output", str(target)]
        command += ["--workers", peer.partition("-")[2] if peer in RAY else str(workers)]
        command += [] if peer == "pege-duplicates" else ["--duplicate_bands", "0"]
        return [*command, "--runner", "ray"] if peer in RAY else command
    return [sys.executable, __file__, "--role", peer, "--source", str(source), "--target", str(target),
            "--workers", str(workers)]  # fmt: skip


def measure(command: list[str], log: Path) -> dict[str, float]:
    """Seconds, and peak MB of the process and all its children together."""
    peak = 0
    with log.open("wb") as stderr:
        start = time.perf_counter()
        # Ray's workers are nicer than other processes by default, and then wait for whatever else runs
        environment = os.environ | {"RAY_worker_niceness": "0"}
        process = subprocess.Popen(command, stdout=stderr, stderr=subprocess.STDOUT, env=environment)
        while process.poll() is None:
            peak = max(peak, memory_of(process.pid))
            time.sleep(0.2)
        seconds = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}, see {log}")
    return {"seconds": seconds, "peak_mb": peak / 1e6}


def memory_of(pid: int) -> int:
    """Bytes of a process tree; a page that several processes share counts once, where the system tells."""
    total = 0
    try:
        for process in [root := psutil.Process(pid), *root.children(recursive=True)]:
            used = process.memory_full_info()
            total += getattr(used, "pss", used.rss)
    except psutil.NoSuchProcess:  # ended just now
        pass
    return total


def run_peer(peer: str, source: Path, folder: Path, name: str, workers: int) -> dict[str, Any]:
    """Measure one run, and say what it kept and why it dropped the rest."""
    from corpus_peers import kept_of

    target = folder / f"{name}.out"
    shutil.rmtree(target, ignore_errors=True)
    found: dict[str, Any] = measure(command_of(peer, source, target, workers), folder / f"{name}.log")
    kept = kept_of(target)
    found |= {"kept": len(kept), "dropped": read_json(target / "report.json")["dropped"]}
    found["digest"] = hashlib.sha256(json.dumps(sorted(kept.items())).encode()).hexdigest()
    write_json(folder / f"{name}.json", found)
    shutil.rmtree(target)
    return found


def run_role(role: str, source: Path, target: Path, workers: int) -> None:
    """What `command_of` starts: a peer, or the builder with a clock at each stage."""
    config = CorpusConfig(**(read_yaml(CONFIG) | {"input": (str(source / "*.jsonl.gz"),)}))
    if role == "stages":
        write_json(target, time_stages(config, target.with_suffix(".out")))
        return
    import corpus_peers

    if role == "plain":
        corpus_peers.run_plain(config, sorted(source.glob("*.jsonl.gz")), target)
        return
    kind: corpus_peers.Rules = "columns" if role == "datatrove-columns" else "plain"
    corpus_peers.run_datatrove(config, source, target, workers=workers, kind=kind)


# ---- the builder by stage


def time_stages(config: CorpusConfig, target: Path) -> dict[str, Any]:
    """Wall and CPU seconds of each stage, filter and rule: the builder in one process, its functions clocked."""
    from dataclasses import replace

    from pege.corpus import build, cleaning, filter_step

    wall: Counter[str] = Counter()
    cpu: Counter[str] = Counter()

    def clocked(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            before = time.perf_counter(), time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                wall[name] += time.perf_counter() - before[0]
                cpu[name] += time.process_time() - before[1]

        return run

    def load(*args: Any, **kwargs: Any) -> Any:
        models = filter_step.load_models(*args, **kwargs)
        for ask in (models.emotion, models.offensive):
            ask().predict(["warm"])
        models.recogniser().find(["Warm, 你好"])
        return models

    build.take_in = clocked("intake", build.take_in)
    build.clean_shard = clocked("clean", build.clean_shard)
    build.filter_shard = clocked("filter", build.filter_shard)
    build.write_corpus = clocked("output", build.write_corpus)
    for name in ("templates", "duplicates"):
        setattr(build._Plan, f"_find_{name}", clocked(name, getattr(build._Plan, f"_find_{name}")))
    build.load_models = clocked("loading models", load)
    for name, drop in list(filter_step.FILTERS_BY_NAME.items()):
        filter_step.FILTERS_BY_NAME[name] = clocked(f"filter: {name}", drop)
    for name, rule in list(cleaning.RULES.items()):
        cleaning.RULES[name] = replace(rule, apply=clocked(f"clean: {name}", rule.apply))
    shutil.rmtree(target, ignore_errors=True)
    report = clocked("all", build.build_corpus)(config, target, workers=1)
    n_bytes = sum(p.stat().st_size for p in target.rglob("*.parquet"))
    shutil.rmtree(target)
    return {"n_dialogs": report["input"], "wall": wall, "cpu": cpu, "output_bytes": n_bytes}


# ---- all runs


def input_of(folder: Path, size: int) -> Path:
    """Files of so many dialogs, written once."""
    from corpus_input import write_input

    source = folder / f"input-{size}"
    if not (source / "done").is_file():
        write_input(source, size, n_files=max(2, size // ROWS_OF_A_FILE))
        write_text(source / "done", "")
    return source


def runs_of(sizes: list[int], repeats: int, peer_limit: int, ray: bool) -> Iterator[tuple[int, str, int]]:
    """Size, peer and number of each run, the peers taking turns; beyond `peer_limit` the builder alone, once."""
    for size in sizes:
        peers = [*PEERS, *(RAY if ray else ())] if size <= peer_limit else [p for p in PEERS if p.startswith("pege")]
        for k in range(repeats if size <= peer_limit else 1):
            yield from ((size, peer, k) for peer in peers if k == 0 or size == min(sizes) or peer not in ONCE)


def check_same(results: dict[tuple[int, str], list[dict[str, Any]]]) -> None:
    """Stop unless all kept the same dialogs, with the same utterances, and dropped the rest for the same reasons."""
    for size in sorted({size for size, _ in results}):
        ours = results[size, "pege"][0]
        for peer in (*PEERS, *RAY):
            for theirs in results.get((size, peer), ()) if peer != "pege-duplicates" else ():
                if theirs["dropped"] != ours["dropped"]:
                    difference = dict(set(theirs["dropped"].items()) ^ set(ours["dropped"].items()))
                    raise SystemExit(f"{size} dialogs: {peer} drops otherwise than pege: {difference}")
                if theirs["digest"] != ours["digest"]:
                    raise SystemExit(f"{size} dialogs: {peer} keeps other dialogs or utterances than pege")


# ---- tables and page


def machine() -> str:
    """The line above the tables."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("pege", "daft", "datatrove", "torch"))
    return f"{processor()}, {os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB; {versions}"


def peer_table(results: dict[tuple[int, str], list[dict[str, Any]]]) -> Iterator[str]:
    """A row a size and peer."""
    yield "| dialogs | who | runs | seconds (min - max) | dialogs a second | datatrove's time / this | peak MB |"
    yield "|---|---|---|---|---|---|---|"
    for (size, peer), runs in sorted(results.items(), key=lambda r: (r[0][0], [*PEERS, *RAY].index(r[0][1]))):
        seconds = [r["seconds"] for r in runs]
        median = statistics.median(seconds)
        theirs = [r["seconds"] for r in results.get((size, "datatrove"), ())]
        ratio = f"{statistics.median(theirs) / median:.2f}" if theirs else ""
        memory = statistics.median(r["peak_mb"] for r in runs)
        spread = f"{median:.1f} ({min(seconds):.1f} - {max(seconds):.1f})"
        name = (PEERS | RAY)[peer]
        yield f"| {size:,} | {name} | {len(runs)} | {spread} | {size / median:.0f} | {ratio} | {memory:.0f} |"


def kept_line(size: int, ours: dict[str, Any]) -> str:
    """What all rows of a size agree on, the one with near-duplicates aside."""
    reasons = ", ".join(f"{reason} {n:,}" for reason, n in ours["dropped"].items())
    return f"{size:,} dialogs: all kept the same {ours['kept']:,}, near-duplicates aside; dropped: {reasons}.  "


def stage_table(stages: dict[str, Any]) -> Iterator[str]:
    """A row a stage, and within it a row a filter and a rule."""
    yield "| stage | seconds | CPU seconds | CPU ms a dialog |"
    yield "|---|---|---|---|"
    for stage in ("loading models", "intake", "clean", "templates", "filter", "duplicates", "output", "all"):
        parts = sorted((k for k in stages["wall"] if k.startswith(f"{stage}: ")), key=lambda k: -stages["wall"][k])
        for name in (stage, *parts):
            wall, cpu = stages["wall"].get(name, 0.0), stages["cpu"].get(name, 0.0)
            yield f"| {name} | {wall:.2f} | {cpu:.2f} | {cpu / stages['n_dialogs'] * 1e3:.3f} |"


def efficiency(results: dict[tuple[int, str], list[dict[str, Any]]], size: int) -> float:
    """How well a second Ray worker was used: time of one / (2 x time of two); 1 where it was not measured."""
    one, two = (results.get((size, peer)) for peer in RAY)
    if not one or not two:
        return 1.0
    return statistics.median(r["seconds"] for r in one) / 2 / statistics.median(r["seconds"] for r in two)


def cost_lines(
    stages: dict[str, Any], input_bytes: float, e: float, cores: tuple[int, ...], core_price: float
) -> Iterator[str]:
    """What N_SESSIONS would cost by the formulas of docs/scale.md."""
    n = stages["n_dialogs"]
    a, b = (sum(stages["cpu"].get(s, 0.0) for s in part) / n for part in (PARALLEL, SERIAL))
    hours, terabytes = N_SESSIONS / 3600, N_SESSIONS / n / 1e12
    yield f"Measured over {n:,} dialogs in one process: a = {a * 1e3:.3f} CPU ms a dialog in the steps that are shared"
    yield f"out ({', '.join(PARALLEL)}), b = {b * 1e3:.3f} ms in those that one process does ({', '.join(SERIAL)})."
    yield f"N = {N_SESSIONS:,}: N a = {a * hours:,.0f} core-hours, N b = {b * hours:,.0f} hours; input (gzip)"
    yield f"{input_bytes * terabytes:.2f} TB, output {stages['output_bytes'] * terabytes:.2f} TB."
    yield ""
    yield f"e = {e:.2f}, of two Ray workers over {n:,} dialogs."
    yield ""
    yield f"| P | hours, N a / (P e) + N b | USD at {core_price} a core-hour | N b shared out too: hours | USD |"
    yield "|---|---|---|---|---|"
    for p in cores:
        as_is, shared_out = (a / p / e + b) * hours, (a + b) / p / e * hours
        usd, least_usd = as_is * p * core_price, shared_out * p * core_price
        yield f"| {p:,} | {as_is:,.1f} | {usd:,.0f} | {shared_out:,.1f} | {least_usd:,.0f} |"


app = App(help="The corpus builder beside its peers.", default_parameter=Parameter(negative=(), consume_multiple=True))
Hidden = Annotated[Path | None, Parameter(show=False)]


@app.default
def main(
    *,
    sizes: tuple[int, ...] = (10_000, 100_000, 1_000_000),
    repeats: int = 5,
    peer_limit: int = 100_000,
    workers: int = os.cpu_count() or 1,
    ray: bool = False,
    folder: Path = Path("runs/bench-corpus"),
    output: Path | None = None,
    core_price: float = 0.04,
    role: Annotated[str | None, Parameter(show=False)] = None,
    source: Hidden = None,
    target: Hidden = None,
) -> None:
    """Print the tables; write them, and fill docs/scale.md, where a file is named.

    Args:
        sizes: numbers of dialogs.
        repeats: runs of each, up to `peer_limit`; beyond it one.
        peer_limit: the peers and Ray run up to this size, and the stages are measured at it.
        workers: processes of the builder, and tasks of datatrove.
        ray: also two Ray workers against one.
        folder: of input, logs and finished runs.
        output: file for the tables.
        core_price: USD a core-hour on a cluster: an assumption.
        role: a peer, or ``stages``, to run in this process.
        source: folder of input, for a role.
        target: what a role writes.
    """
    if role and source and target:
        run_role(role, source, target, workers)
        return
    if missing := [name for name in ("datatrove", "orjson") if not find_spec(name)]:
        raise SystemExit(f"{' and '.join(missing)} not installed (pip install -c constraints.txt -e '.[bench]')")
    if ray and not find_spec("ray"):
        print("Ray is not installed (pip install 'pege[ray]'): left out", file=sys.stderr)
        ray = False
    folder = folder.resolve()
    results: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for size, peer, k in runs_of(sorted(sizes), repeats, peer_limit, ray):
        name = f"{size}-{peer}-{k}"
        done = folder / f"{name}.json"
        found = read_json(done) if done.is_file() else run_peer(peer, input_of(folder, size), folder, name, workers)
        results.setdefault((size, peer), []).append(found)
        print(f"{name}: {found['seconds']:.1f} s, {found['peak_mb']:.0f} MB, {found['kept']} kept", file=sys.stderr)
    check_same(results)
    size = max((s for s in sizes if s <= peer_limit), default=min(sizes))
    read = input_of(folder, size)
    stages_file = folder / f"{size}-stages.json"
    if not stages_file.is_file():
        measure(command_of("stages", read, stages_file, 1), stages_file.with_suffix(".log"))
    stages = read_json(stages_file)
    input_bytes = sum(p.stat().st_size for p in read.glob("*.jsonl.gz"))
    cost = list(cost_lines(stages, input_bytes, efficiency(results, size), (64, 256, 1024), core_price))
    head = [machine(), "", *peer_table(results), "", *(kept_line(s, results[s, "pege"][0]) for s in sorted(sizes)), ""]
    lines = [*head, f"By stage, {size:,} dialogs, one process:", "", *stage_table(stages)]
    text = "\n".join(lines) + "\n"
    print(text, "\n".join(cost), sep="\n")
    if output:
        write_text(output, text)
        fill_page(PAGE, MARKS, "\n".join(cost))


if __name__ == "__main__":
    app()
