"""Raw dialogs in the layouts that people have, to checked rows (docs/rows.md)."""

from __future__ import annotations

import glob
import hashlib
import json
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeGuard

from pydantic import ValidationError

from pege.corpus.convokit import find_utterances, read_convokit
from pege.corpus.rows import RawRow, alternate
from pege.corpus.threads import read_threads
from pege.dialog import Dialog
from pege.errors import InputError, did_you_mean
from pege.io import ROW_SUFFIXES, is_unicode, read_lines, why_invalid

__all__ = ["READERS", "RawRow", "alternate", "check_row", "guess_layout", "read_raw"]
_PLAIN_ID = re.compile(r"[\w.:/-]{1,100}")
_ROLES = dict.fromkeys(("user", "human", "seeker", "usr"), "user") | dict.fromkeys(
    ("assistant", "gpt", "bot", "supporter", "sys"), "assistant"
)


def read_raw(inputs: Iterable[str], *, layout: str | None = None) -> Iterator[RawRow]:
    """Read raw rows from paths, globs, ``hf:NAME[:SPLIT]`` or ``chitchat``.

    Args:
        inputs: where they are.
        layout: one of `READERS`; guessed from the name unless given.

    Raises:
        InputError: nothing there, an unknown layout.
    """
    for source in inputs:
        if layout is not None and layout not in READERS:
            raise InputError(f"unknown layout {layout!r}", fix=did_you_mean(layout, READERS))
        if source == "chitchat":
            yield from _read_chitchat()
            continue
        if source.startswith("hf:"):
            yield from _read_hub(source.removeprefix("hf:"))
            continue
        paths = sorted(glob.glob(source, recursive=True)) or ([source] if Path(source).is_file() else [])  # noqa: PTH207
        if not paths:
            raise InputError("no such file", where=source)
        for path in map(Path, paths):
            yield from READERS[layout or guess_layout(path)](path)


def check_row(raw: Any, file: str, line: int) -> Dialog | InputError:
    """Give a raw row as a dialog, or why it is none. An empty id becomes ``FILE-LINE``."""
    if isinstance(raw, InputError):
        return raw
    try:
        dialog = Dialog.model_validate(raw)
    except ValidationError as e:
        return InputError(why_invalid(e))
    if not is_unicode(json.dumps(dialog.model_extra, ensure_ascii=False, default=str)):
        return InputError("holds half a surrogate pair, which is no character")
    return dialog.model_copy(update={"id": plain_id(dialog.id) if dialog.id else made_id(file, line)})


def made_id(file: str, line: int) -> str:
    """Give the id of a row that has none: its file's name without the suffix of rows, and its line."""
    name = Path(file).name
    suffix = next((s for s in (*ROW_SUFFIXES, Path(name).suffix) if s and name.endswith(s)), "")
    return f"{plain_id(name.removesuffix(suffix))}-{line:06d}"


def plain_id(dialog_id: str) -> str:
    """Give an id that may stand in a corpus: of letters, digits and ``_.:-/``, else a hash of it.

    An address or a telephone number is then no id; ``#`` and ``~`` are left to sessions and to ids that occur twice.
    """
    return dialog_id if _PLAIN_ID.fullmatch(dialog_id) else f"id-{hashlib.sha256(dialog_id.encode()).hexdigest()[:16]}"


def guess_layout(path: Path) -> str:
    """Guess a layout from a file's name.

    Raises:
        InputError: it tells nothing.
    """
    if find_utterances(path) is not None:
        return "convokit"
    if path.name.endswith(ROW_SUFFIXES):
        return "messages"
    for suffix, layout in ((".csv", "empathetic-dialogues"), (".txt", "dailydialog")):
        if path.suffix == suffix:
            return layout
    raise InputError("the layout is not plain from the name", where=path, fix=f"--layout {' | '.join(READERS)}")


def _from_roles(utterances: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    """Give messages of (role, text): as `alternate`, but what the assistant says before the user is left out."""
    pairs = [(role, text) for role, text in utterances if text.strip()]
    while pairs and pairs[0][0] == "assistant":
        pairs.pop(0)
    return alternate(pairs)


# ---- the layouts


def _read_messages(path: Path) -> Iterator[RawRow]:
    """Rows of ours and of OpenAI/TRL (``messages``), and ShareGPT's (``conversations``)."""
    for line, row in read_lines(path):
        yield path.name, line, row if isinstance(row, InputError) else _plain_row(row)


def _plain_row(row: dict[str, Any]) -> Any:
    if "messages" not in row and _are_objects(row.get("conversations")):
        row = {k: v for k, v in row.items() if k != "conversations"} | {
            "messages": [{"role": m.get("from"), "content": m.get("value")} for m in row["conversations"]]
        }
    messages = row.get("messages")
    if not _are_objects(messages):
        return InputError("holds no messages")
    kept = [{**m, "role": _ROLES.get(str(m.get("role")), m.get("role"))} for m in messages if m.get("role") != "system"]
    while len(kept) > 1 and kept[0]["role"] == "assistant" and len(kept) < len(messages):
        kept.pop(0)  # a greeting under a system message; elsewhere a row that starts with the agent is refused
    return {**row, "messages": kept}


def _are_objects(value: Any) -> TypeGuard[list[dict[str, Any]]]:
    return isinstance(value, list) and all(isinstance(v, dict) for v in value)


def _read_empathetic(path: Path) -> Iterator[RawRow]:
    """EmpatheticDialogues' CSV, unquoted: conv_id, utterance_idx, context, prompt, speaker_idx, utterance, ..."""
    by_id: dict[str, list[dict[str, str]]] = {}
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        names = file.readline().strip().split(",")
        if not {"conv_id", "speaker_idx", "utterance", "context"} <= set(names):
            raise InputError(
                "is no CSV of EmpatheticDialogues", where=path, fix="it has conv_id, speaker_idx, utterance"
            )
        for line in file:
            if line.strip():
                row = dict(zip(names, line.rstrip("\n").split(","), strict=False))  # some have one more
                by_id.setdefault(row.get("conv_id", ""), []).append(row)
    for item, (conv_id, rows) in enumerate(by_id.items(), start=1):
        if any(len(r) < len(names) for r in rows):
            yield path.name, item, InputError("a line with too few fields; the file may be cut off there")
            continue
        yield path.name, item, {
            "id": conv_id.replace(":", "-"),
            "lang": "en",
            "source": "empathetic-dialogues",
            "messages": alternate((r["speaker_idx"], r["utterance"].replace("_comma_", ",")) for r in rows),
            "situation_emotion": rows[0]["context"],
        }  # fmt: skip


def _read_esconv(path: Path) -> Iterator[RawRow]:
    """ESConv's JSON: a list of {dialog: [{speaker, content}], emotion_type, ...}."""
    for item, row in enumerate(_json_list(path), start=1):
        if not isinstance(row, dict) or not _are_objects(row.get("dialog")):
            yield path.name, item, InputError("holds no dialog")
            continue
        pairs = [(_ROLES.get(str(u.get("speaker")), ""), u.get("content")) for u in row["dialog"]]
        if not all(role and isinstance(text, str) for role, text in pairs):
            yield path.name, item, InputError("an utterance without text, or neither of seeker nor supporter")
            continue
        extra = {"situation_emotion": row["emotion_type"]} if "emotion_type" in row else {}
        yield path.name, item, {"lang": "en", "source": "esconv", "messages": _from_roles(pairs), **extra}


def _read_lccc(path: Path) -> Iterator[RawRow]:
    """LCCC's JSON: a list of lists of utterances, the words parted by spaces."""
    for item, row in enumerate(_json_list(path), start=1):
        if not isinstance(row, list) or not all(isinstance(u, str) for u in row):
            yield path.name, item, InputError("is no list of utterances")
            continue
        yield path.name, item, _in_turn(["".join(u.split()) for u in row], lang="zh", source="lccc")


def _read_dailydialog(path: Path) -> Iterator[RawRow]:
    """DailyDialog's text: a dialog a line, utterances ended by ``__eou__``."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        for line, text in enumerate(file, start=1):
            if text.strip():
                texts = text.strip().removesuffix("__eou__").split("__eou__")
                yield path.name, line, _in_turn(texts, source="dailydialog")


def _in_turn(texts: list[str], **fields: Any) -> Any:
    """Give a row of two who speak in turn; who said what after an utterance without text nobody knows."""
    if not all(t.strip() for t in texts):
        return InputError("an utterance without text")
    return {**fields, "messages": alternate((str(k % 2), t) for k, t in enumerate(texts))}


def _read_chitchat() -> Iterator[RawRow]:
    """Real two-person talk from the package ``chitchat_dataset``."""
    try:
        import chitchat_dataset
    except ImportError as e:
        raise InputError("chitchat_dataset is not installed", fix="pip install chitchat_dataset==0.9.0") from e
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the package leaves its file open
        conversations = chitchat_dataset.Dataset()
    for item, (key, row) in enumerate(conversations.items(), start=1):
        pairs = ((str(m["sender"]), str(m["text"])) for group in row["messages"] for m in group)
        if messages := alternate(pairs):
            yield "chitchat", item, {"id": f"chitchat-{key}", "lang": "en", "source": "chitchat", "messages": messages}


def _read_hub(name: str) -> Iterator[RawRow]:
    """A dataset of the Hugging Face hub with ``messages`` or ``conversations``: NAME or NAME:SPLIT."""
    from datasets import load_dataset

    repo, _, split = name.partition(":")
    try:
        rows = load_dataset(repo, split=split or "train", streaming=True)
        for item, row in enumerate(rows, start=1):
            yield f"hf:{name}", item, _plain_row({k: v for k, v in row.items() if v is not None})
    except (OSError, ValueError) as e:
        raise InputError(f"cannot be read ({e})", where=f"hf:{name}", fix="check name, split and network") from e


def _json_list(path: Path) -> list[Any]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as e:  # broken, no UTF-8, thousands of digits, nested without end
        raise InputError(f"is not JSON ({str(e)[:200]})", where=path, fix="the file may be cut off") from e
    if not isinstance(rows, list):
        raise InputError("is no JSON list", where=path)
    return rows


#: layout -> reader of one file
READERS: dict[str, Callable[[Path], Iterator[RawRow]]] = {
    "messages": _read_messages,
    "empathetic-dialogues": _read_empathetic,
    "esconv": _read_esconv,
    "lccc": _read_lccc,
    "dailydialog": _read_dailydialog,
    "threads": read_threads,
    "convokit": read_convokit,
}
