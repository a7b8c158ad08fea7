"""The build as a plan on Daft: on one machine, or the same code on a Ray cluster (docs/corpus.md).

    input -> 1 intake -> 2 clean -> 3 templates -> 4 filter -> 5 duplicates -> train, validation, dropped, report.json

Steps 1, 2 and 4 work on one shard at a time, wherever a worker is free; step 3 looks at all shards at once, for
responses that occur too often, step 5 for near-duplicates among what was kept. A shard that is done is never done
again: a build that was stopped goes on, and ends with the same bytes. This is the only module that imports daft.
"""

from __future__ import annotations

import functools
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

os.environ.setdefault("DAFT_ANALYTICS_ENABLED", "0")  # nothing is sent anywhere
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("DAFT_PROGRESS_BAR", "0")

import daft
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from tqdm import tqdm

from pege.cluster import reaching
from pege.corpus.clean_step import clean_shard
from pege.corpus.config import CorpusConfig
from pege.corpus.duplicates import Linked
from pege.corpus.filter_step import Classifier, Models, check_models, filter_shard, load_models
from pege.corpus.hashing import Hashing
from pege.corpus.intake import take_in
from pege.corpus.output import Steps, check_kept, write_corpus
from pege.corpus.shards import Step, read_table, shard_of, write_table
from pege.corpus.sources import SOURCES_FILE, Source, check_same, find_sources, read_source, write_sources
from pege.errors import InputError
from pege.io import is_begun, read_json, start_run, write_json

log = logging.getLogger(__name__)
_PASS_ROWS = 4_000_000  # hashes that a query of steps 3 and 5 holds at once
Runner = Literal["local", "ray"]


def build_corpus(
    config: CorpusConfig,
    output: Path | str,
    *,
    runner: Runner = "local",
    address: str | None = None,
    workers: int | None = None,
    keep_dropped: bool = False,
    classifier: Classifier | None = None,
) -> dict[str, Any]:
    """Build a corpus folder (docs/corpus.md); stopped at any moment, the same call goes on.

    In the report ``input = kept + dropped + quarantined``, counted in sessions: a conversation that was cut counts as
    its sessions, or as one where none was found (``no-session``).

    Args:
        config: what the rows depend on.
        output: the folder: ``train/*.parquet``, ``validation/*.parquet``, ``dropped/*.parquet``, ``report.json``.
        runner: ``local``, or ``ray``, whose workers must see the folder under the same path.
        address: of the Ray cluster; one on this machine unless named.
        workers: processes; one a core unless named; with 1 it is this one. The rows do not depend on it.
        keep_dropped: whether the dropped ones keep their texts.
        classifier: of emotion, in place of the config's; then one process does it all.

    Returns:
        The report.

    Raises:
        InputError: nothing to read, nothing kept, a folder of another config.
    """
    folder = Path(output)
    wanted = config.model_dump(mode="json") | {"keep_dropped": keep_dropped}
    if workers is not None and workers < 1:
        raise InputError(f"{workers} workers", where="--workers", fix="1 or more")
    is_there = is_begun(folder, wanted, kind="corpus", flag="--output")
    if is_there and (folder / "report.json").is_file():
        log.info("%s is done; name another --output to build again", folder)
        if (sources := _sources_still_there(config)) is not None:
            check_same(sources, folder)
        _clear(folder / "work")  # of a start that was stopped at the very end
        return dict(read_json(folder / "report.json"))
    sources = find_sources(config.input, layout=config.layout, listing=_remote_files)
    check_models(config)
    _use_runner(runner, address)
    if is_there:
        check_same(sources, folder)
    start_run(folder, wanted, packages=("daft", "pyarrow", "torch"))
    write_sources(sources, folder)
    plan = _Plan(folder / "work", config, sources, classifier, 1 if classifier else workers or os.cpu_count() or 1)
    plan.run_all()
    steps = Steps(plan.taken, plan.cleaned, plan.filtered, plan.duplicates)
    try:
        check_kept(steps, where=", ".join(config.input))
    except InputError:
        _remove(folder)  # else the command with another input would be refused
        raise
    report = write_corpus(folder, config, steps, keep_dropped=keep_dropped)
    _clear(folder / "work")
    return report


def _sources_still_there(config: CorpusConfig) -> list[Source] | None:
    """Inputs of a build that is done; None where they are gone by now, which is no fault."""
    try:
        return find_sources(config.input, layout=config.layout, listing=_remote_files)
    except InputError:
        return None


def _remove(folder: Path) -> None:
    """Remove a build that came to nothing; of the folder only what the build wrote."""
    _clear(folder / "work")
    for name in ("config.yaml", "versions.json", SOURCES_FILE):
        (folder / name).unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()


def _use_runner(runner: Runner, address: str | None) -> None:
    if runner == "local":
        if daft.get_or_infer_runner_type() != "native":
            daft.set_runner_native()
        return
    with reaching(address):
        daft.set_runner_ray(address, noop_if_initialized=True)


def _remote_files(pattern: str) -> list[str]:
    """List what a remote address or glob names, as Daft reads it: s3://, gs://, hf://, https://."""
    try:
        return sorted(daft.from_glob_path(pattern).to_pydict()["path"])
    except (FileNotFoundError, OSError, daft.exceptions.DaftCoreException) as e:
        raise InputError(f"cannot be listed ({e})", where=pattern, fix="check address and credentials") from e


class _Plan:
    """The four steps and where their shards lie."""

    def __init__(
        self, work: Path, config: CorpusConfig, sources: list[Source], classifier: Classifier | None, workers: int
    ) -> None:
        self.config, self.sources, self.classifier, self.workers = config, sources, classifier, workers
        self.taken, self.cleaned = Step(work / "1-intake"), Step(work / "2-clean")
        self.templates, self.filtered, self.duplicates = (
            work / "3-templates",
            Step(work / "4-filter"),
            work / "5-duplicates",
        )

    @functools.cached_property
    def models(self) -> Models:
        """Loaded in the process that asks, and no sooner: a plan travels to the workers."""
        return load_models(self.config, emotion=self.classifier)

    def run_all(self) -> None:
        """Run what is not done yet."""
        whole = self.taken.folder / "whole"
        if not whole.is_file():  # an input's shards are known only once it was read to its end
            self._work("intake", [s.name for s in self.sources])
            write_json(whole, [s.name for s in self.sources])
        shards = self.taken.shards()
        self._work("clean", [s for s in shards if not self.cleaned.is_done(s)])
        if not (self.templates / "done").is_file():
            self._find_templates(shards)
        self._work("filter", [s for s in shards if not self.filtered.is_done(s)])
        if not (self.duplicates / "done").is_file():
            self._find_duplicates(shards)

    def _work(self, step: str, names: list[str]) -> None:
        """Run a step's shards side by side, with a bar that knows the time left.

        Raises:
            KeyboardInterrupt: not all of them were done: daft ends its stream on a signal without a word.
        """
        if not names:
            return
        n_done = 0
        with tqdm(total=len(names), desc=step, unit="shard") as bar:
            n_rows = 0
            for n in self._side_by_side(step, names):
                n_rows += n
                n_done += 1
                bar.set_postfix(dialogs=n_rows)
                bar.update()
        if n_done != len(names):
            raise KeyboardInterrupt

    def _side_by_side(self, step: str, names: list[str]) -> Iterator[int]:
        """Do shards wherever a worker is free; give the conversations of each as it is done."""
        n_workers = min(self.workers, len(names))
        if n_workers == 1:
            yield from (self.do(step, name) for name in names)
            return
        worker_class = daft.cls(_Worker, use_process=True, max_concurrency=n_workers)
        worker = worker_class(step, self, max(1, (os.cpu_count() or 1) // n_workers))
        frame = daft.from_pydict({"name": names})
        frame = frame.into_partitions(len(names)) if _is_ray() else frame.into_batches(1)
        rows = frame.select(worker(frame["name"]).alias("rows")).iter_rows(results_buffer_size=None)
        yield from (row["rows"] for row in rows)

    def _find_templates(self, shards: list[str]) -> None:
        """Step 3: responses that occur in too many dialogs."""
        files = [str(self.cleaned.path(s, "responses")) for s in shards]
        files = [f for f in files if read_table(Path(f), []).num_rows]
        frequent = _frequent(files, self.config.max_response_count, self.templates / "passes")
        write_table(pa.table({"hash": pa.array(frequent)}), self.templates / "frequent.parquet")
        write_json(self.templates / "done", {"frequent_responses": len(frequent)})

    def _find_duplicates(self, shards: list[str]) -> None:
        """Step 5: near-duplicates among the kept sessions of all shards."""
        columns = [f"band_{k}" for k in range(self.config.duplicate_bands)]
        files = [str(self.filtered.path(s, "bands")) for s in shards]
        full = [f for f in files if read_table(Path(f), []).num_rows]
        linked = Linked()
        for column in tqdm(columns, desc="near-duplicates", unit="band") if full else ():
            for first, other in _same_hash(full, column, self.duplicates / "passes"):
                linked.join(first, other)
        others = linked.others()
        ids = self._ids(shards, set(others.values()))
        by_shard: dict[str, list[str]] = {s: [] for s in shards}
        for key in others:
            by_shard[shard_of(key)].append(key)
        for shard, keys in by_shard.items():
            of = pa.array([ids[others[k]] for k in keys], pa.string())
            write_table(pa.table({"key": pa.array(keys, pa.string()), "of": of}), self.duplicates / f"{shard}.parquet")
        write_json(self.duplicates / "done", {"near_duplicates": len(others)})

    def _ids(self, shards: list[str], keys: set[str]) -> dict[str, str]:
        """Ids of some dialogs by their keys."""
        wanted = pa.array(sorted(keys), pa.string())
        found: dict[str, str] = {}
        for shard in shards if len(wanted) else ():
            table = read_table(self.filtered.path(shard, "kept"), ["key", "id"])
            chosen = table.filter(pc.is_in(table.column("key"), wanted)).to_pydict()
            found |= dict(zip(chosen["key"], chosen["id"], strict=True))
        return found

    def do(self, step: str, name: str) -> int:
        """Do one shard of a step; give its number of conversations."""
        if step == "intake":
            source = next(s for s in self.sources if s.name == name)
            rows = read_source(source, opening=_open_remote)
            how: dict[str, Any] = {"shard_rows": self.config.shard_rows, "limit": self.config.limit}
            names = take_in(rows, self.taken, name, fields=self.config.fields, **how)
            return sum(int(c["conversations"]) for c in self.taken.counts(names))
        if step == "clean":
            table = read_table(self.taken.path(name, "conversations"))
            tables, counts = clean_shard(table, self.config, HASHING)
            self.cleaned.write(name, tables, counts)
            return len(table)
        table = read_table(self.cleaned.path(name, "conversations"))
        frequent = read_table(self.templates / "frequent.parquet").column("hash").to_numpy()
        tables, counts = filter_shard(table, frequent, self.config, self.models, HASHING)
        self.filtered.write(name, tables, counts)
        return len(table)


class _Worker:
    """A process that does shards of a step."""

    def __init__(self, step: str, plan: _Plan, n_threads: int) -> None:
        self.step, self.plan = step, plan
        pa.set_cpu_count(n_threads)
        if step == "filter":
            import torch

            torch.set_num_threads(n_threads)

    @daft.method.batch(return_dtype=daft.DataType.int64(), batch_size=1)  # type: ignore[untyped-decorator]
    def __call__(self, names: daft.Series) -> list[int]:
        return [self.plan.do(self.step, name) for name in names.to_pylist()]


def _is_ray() -> bool:
    return bool(daft.get_or_infer_runner_type() == "ray")


def _open_remote(path: str) -> Any:
    """Open a remote file for reading bytes."""
    return daft.open_file(path, "rb")


# ---- hashes and queries


def _hash_texts(texts: pa.Array) -> NDArray[np.uint64]:
    found: NDArray[np.uint64] = daft.Series.from_arrow(texts).hash().to_arrow().to_numpy(zero_copy_only=False)
    return found


def _minhash(texts: pa.Array, n_hashes: int, ngram: int, seed: int) -> NDArray[np.uint32]:
    found = daft.Series.from_arrow(texts).minhash(n_hashes, ngram, seed + 1, "xxhash3_64").to_arrow()
    flat: NDArray[np.uint32] = found.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(texts), n_hashes)


HASHING = Hashing(_hash_texts, _minhash)


def _same_hash(files: list[str], column: str, work: Path) -> Iterator[tuple[str, str]]:
    """Give (first key, other key) of dialogs with the same hash, pass by pass over the range of hashes."""
    frame = daft.read_parquet(files).select(daft.col("key"), daft.col(column).alias("hash"))
    for part in _passes(frame, work):
        groups = part.groupby("hash").agg(
            daft.col("key").min().alias("first"), daft.col("key").count().alias("n_dialogs")
        )
        groups = groups.where(daft.col("n_dialogs") > 1).select("hash", "first")
        pairs = part.join(groups, on="hash").where(daft.col("key") != daft.col("first")).select("first", "key")
        found = pairs.sort("key").to_pydict()
        yield from zip(found["first"], found["key"], strict=True)


def _frequent(files: list[str], max_count: int, work: Path) -> NDArray[np.uint64]:
    """Hashes that more than so many dialogs have, in order."""
    found: list[NDArray[np.uint64]] = [np.zeros(0, dtype=np.uint64)]
    for part in _passes(daft.read_parquet(files), work) if files else ():
        counts = part.distinct().groupby("hash").agg(daft.col("dialog").count().alias("n_dialogs"))
        often = counts.where(daft.col("n_dialogs") > max_count).select("hash").to_arrow()
        found.append(often.column("hash").to_numpy().astype(np.uint64))
    return np.sort(np.concatenate(found))


def _passes(frame: daft.DataFrame, work: Path) -> Iterator[daft.DataFrame]:
    """Give parts of a frame by their hashes, each small enough to be grouped in memory.

    Where there are several, they are written to ``work`` first, so that all of it is read twice and not once a part.
    """
    n_passes = -(-frame.count_rows() // _PASS_ROWS)
    if n_passes == 1:
        yield frame
        return
    _clear(work)  # of a start that was stopped
    frame.with_column("part", daft.col("hash") % n_passes).write_parquet(str(work), partition_cols=["part"])
    for folder in sorted(work.glob("part=*")):
        yield daft.read_parquet(f"{folder}/*.parquet")
    _clear(work)


def _clear(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
