"""Rows on disk: JSONL (plain, .gz, .zst) and Parquet for any row model, atomic writes, quarantine, run folders."""

from __future__ import annotations

import contextlib
import gzip
import importlib.metadata
import io
import json
import os
import platform
import re
import sys
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, TypeVar, cast

import yaml
from pydantic import BaseModel, ValidationError

from pege.errors import InputError

Row = TypeVar("Row", bound=BaseModel)
RowLine = tuple[int, Any]  # line (or row) number from 1; the parsed object, or an InputError

_NO_UTF8 = re.compile(r"[\udc80-\udcff]")  # what surrogateescape makes of bytes that are none
_HALF_PAIR = re.compile(r"[\ud800-\udfff]")
ROW_SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")


def text_lines(source: IO[bytes], *, max_bytes: int = 64_000) -> Iterator[str]:
    """Give lines of any length and any bytes; what is no UTF-8 becomes U+FFFD, what is over the limit is skipped."""
    while raw := source.readline(max_bytes):
        rest = raw
        while rest and not rest.endswith(b"\n"):
            rest = source.readline(max_bytes)
        yield raw.decode("utf-8", errors="replace").rstrip("\r\n")


# ---- writing: a temporary name in the same folder, then a rename


@contextlib.contextmanager
def write_atomic(path: Path | str) -> Iterator[Path]:
    """Give a temporary path beside ``path``; rename it to ``path`` when the block ends well, else remove it.

    Raises:
        InputError: the folder cannot be written, or the disk is full.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as e:
        if e.filename is not None and Path(str(e.filename)) not in (path, *path.parents, temporary):
            raise
        raise InputError(
            e.strerror or str(e), where=path, fix="nothing was written; free space or name another path"
        ) from e
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, where they are not there yet.

    Raises:
        InputError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise InputError(f"the folder cannot be made ({e.strerror})", where=folder, fix="name another") from e


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: Path | str, text: str) -> None:
    """Write a text file whole or not at all (UTF-8)."""
    with write_atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: object) -> None:
    """Write one JSON object, indented, whole or not at all."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def write_rows(path: Path | str, rows: Iterable[BaseModel | Mapping[str, Any]]) -> int:
    """Write rows as JSONL (plain, .gz, .zst) or Parquet, by the name's suffix, whole or not at all.

    Returns:
        The number of rows.
    """
    path = Path(path)
    kind = _row_suffix(path)
    n_rows = 0
    with write_atomic(path) as temporary:
        if kind == ".parquet":
            import pyarrow as pa
            import pyarrow.parquet as pq

            objects = [as_object(r) for r in rows]
            n_rows = len(objects)
            pq.write_table(pa.Table.from_pylist(objects), temporary, compression="zstd")
        else:
            with _open_text(temporary, kind, "w") as out:
                for row in rows:
                    out.write(json.dumps(as_object(row), ensure_ascii=False) + "\n")
                    n_rows += 1
    return n_rows


def as_object(row: BaseModel | Mapping[str, Any]) -> dict[str, Any]:
    """Give a row as a plain dict for JSON; optional fields that are None are left out."""
    return row.model_dump(exclude_none=True, mode="json") if isinstance(row, BaseModel) else dict(row)


# ---- reading


def read_rows(path: Path | str, model: type[Row], *, quarantine: Quarantine | None = None) -> Iterator[Row]:
    """Read and check the rows of one file, or of all files of a folder in the order of their names.

    Args:
        path: JSONL (plain, .gz, .zst) or Parquet, or a folder of such.
        model: the pydantic model of a row. A model with an empty ``id`` gets one from file and line.
        quarantine: where bad rows go; without it the first bad row is an error.

    Raises:
        InputError: no such file; a truncated archive; a bad row where there is no quarantine.
    """
    path = Path(path)
    if path.is_dir():
        for part in _parts(path):
            yield from read_rows(part, model, quarantine=quarantine)
        return
    if not path.exists():
        raise InputError("no such file or folder", where=path)
    stem = path.name.removesuffix(_row_suffix(path))
    for line, value in read_lines(path):
        problem = str(value.what) if isinstance(value, InputError) else None
        if problem is None:
            try:
                row = model.model_validate(value)
            except ValidationError as e:
                problem = why_invalid(e)
            else:
                if getattr(row, "id", None) == "":
                    row = row.model_copy(update={"id": f"{stem}-{line:06d}"})
                yield row
                continue
        if quarantine is None:
            raise InputError(problem, where=f"{path}:{line}", fix="see docs/rows.md")
        quarantine.add(path.name, line, problem, None if isinstance(value, InputError) else value)


def _parts(folder: Path) -> list[Path]:
    parts = sorted(p for p in folder.iterdir() if p.name.endswith(ROW_SUFFIXES) and not p.name.startswith("."))
    if not parts:
        raise InputError("holds no rows", where=folder, fix=f"files are named {' or '.join(ROW_SUFFIXES)}")
    return parts


def read_lines(path: Path | str) -> Iterator[RowLine]:
    """Read ``(line number, object)`` of a JSONL or Parquet file; an InputError stands for a bad line.

    Raises:
        InputError: no such file, an unknown suffix, an archive that is cut or is none.
    """
    path = Path(path)
    kind = _row_suffix(path)
    if not path.is_file():
        raise InputError("no such file", where=path)
    if kind == ".parquet":
        yield from _read_parquet(path)
        return
    line = 0
    try:
        with _open_text(path, kind, "r") as source:
            for line, text in enumerate(source, start=1):
                if text.strip():
                    yield line, _parse(text)
    except (EOFError, OSError, zlib.error) as e:
        raise InputError(
            f"the archive is cut or broken after line {line} ({e})", where=path, fix="fetch it again"
        ) from e


def _parse(text: str) -> Any:
    if _NO_UTF8.search(text):
        return InputError("is not UTF-8")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as e:  # a ValueError also where a number has thousands of digits
        return InputError(f"is not JSON ({str(e)[:200]}); the file may be cut off here")
    return value if isinstance(value, dict) else InputError(f"holds a {type(value).__name__}, not an object")


def is_unicode(text: str) -> bool:
    """Whether a text can be written: JSON may escape half a surrogate pair, which is no character."""
    return _HALF_PAIR.search(text) is None


def _read_parquet(path: Path) -> Iterator[RowLine]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path)
        line = 0
        for batch in table.iter_batches(batch_size=1024):
            for value in _batch_rows(batch):
                line += 1
                yield line, value
    except (pa.ArrowInvalid, OSError) as e:
        raise InputError(f"not a whole Parquet file ({e})", where=path, fix="fetch it again") from e


def _batch_rows(batch: Any) -> Iterator[Any]:
    """Rows of an Arrow batch; an InputError for one whose text is no UTF-8."""
    try:
        rows = batch.to_pylist()
    except UnicodeDecodeError:
        if batch.num_rows == 1:
            yield InputError("is not UTF-8")
        for k in range(batch.num_rows if batch.num_rows > 1 else 0):
            yield from _batch_rows(batch.slice(k, 1))
        return
    yield from map(_without_nulls, rows)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    return [_without_nulls(v) for v in value] if isinstance(value, list) else value


def _row_suffix(path: Path) -> str:
    for suffix in ROW_SUFFIXES:
        if path.name.endswith(suffix):
            return suffix
    raise InputError("unknown kind of file", where=path, fix=f"name it {' or '.join(ROW_SUFFIXES)}")


@contextlib.contextmanager
def _open_text(path: Path, kind: str, mode: str) -> Iterator[IO[str]]:
    with contextlib.ExitStack() as stack:
        raw: Any = stack.enter_context(path.open(mode + "b"))
        if kind == ".jsonl.gz":
            # no name and no time in the header: the same rows give the same bytes
            raw = stack.enter_context(gzip.GzipFile("", mode + "b", 6, raw, mtime=0))
        elif kind == ".jsonl.zst":
            import pyarrow as pa  # its reader notices a cut archive

            stream = pa.CompressedInputStream if mode == "r" else pa.CompressedOutputStream
            raw = stack.enter_context(stream(pa.PythonFile(raw, mode), "zstd"))
        errors = "surrogateescape" if mode == "r" else "strict"
        encoding = "utf-8-sig" if mode == "r" else "utf-8"  # some programs begin a file with a mark
        yield stack.enter_context(io.TextIOWrapper(raw, encoding=encoding, errors=errors, newline="\n"))


def why_invalid(error: ValidationError) -> str:
    """Word a pydantic error as one short line: where in the row, and what."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(p) for p in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "string_pattern_mismatch":
        message = "an utterance without text"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{place}: {message}{more}" if place else f"{message}{more}"


# ---- quarantine: rows that failed, kept with line and reason


@dataclass
class Quarantine:
    """Collects rows that failed a check and writes them beside the output. A context manager.

    Attributes:
        path: the JSONL file, written when the block ends (only where a row failed).
        n_rows: how many failed.
    """

    path: Path
    n_rows: int = 0
    _rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, file: str, line: int, reason: str, row: object) -> None:
        """Put one row aside, with its file, line number and reason."""
        self.n_rows += 1
        self._rows.append({"file": file, "line": line, "reason": reason, "row": row})

    def __enter__(self) -> Quarantine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._rows:
            write_rows(self.path, self._rows)


# ---- run folders: config, versions, seed, metrics


def start_run(folder: Path | str, config: Mapping[str, Any], *, packages: Sequence[str] = ()) -> Path:
    """Make a run folder with ``config.yaml`` (the resolved config, its seed within) and ``versions.json``.

    Raises:
        InputError: the folder cannot be made.
    """
    folder = Path(folder)
    write_text(folder / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))
    write_json(folder / "versions.json", versions(packages))
    return folder


def is_begun(folder: Path, config: Mapping[str, Any], *, kind: str, flag: str) -> bool:
    """Whether a folder was begun with this config.

    Args:
        folder: of a run or a corpus.
        config: the resolved config, as for `start_run`.
        kind: what the folder is, for the message.
        flag: that names another folder, for the message.

    Raises:
        InputError: it was begun with another.
    """
    if not (folder / "config.yaml").is_file():
        return False
    there, here = read_yaml(folder / "config.yaml"), yaml.safe_load(yaml.safe_dump(dict(config)))
    different = [k for k in sorted(there.keys() | here.keys()) if there.get(k) != here.get(k)]
    if different:
        raise InputError(
            f"is a {kind} with another {', '.join(different)}", where=folder, fix=f"name another {flag}, or delete it"
        )
    return True


def versions(packages: Sequence[str] = ()) -> dict[str, str]:
    """Versions of Python, the platform, pege, and the packages named that are installed."""
    found = {"python": sys.version.split()[0], "platform": platform.platform()}
    for name in ("pege", "numpy", *packages):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def read_yaml(path: Path | str) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        InputError: no such file, not YAML, or not a mapping.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("no such file", where=path)
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise InputError(f"is not YAML ({e})", where=path) from e
    if not isinstance(value, dict):
        raise InputError("is not a YAML mapping", where=path)
    return cast("dict[str, Any]", value)


def read_json(path: Path | str) -> Any:
    """Read one JSON value.

    Raises:
        InputError: no such file, or not JSON.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("no such file", where=path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as e:
        raise InputError(f"is not JSON ({e})", where=path) from e
