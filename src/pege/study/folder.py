"""The folder of a study: its resolved design, its items, where they come from, and its secret."""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pege.dialog import Dialog
from pege.errors import InputError
from pege.io import make_folder, read_json, read_rows, versions, write_json, write_rows, write_text
from pege.study.design import Design, as_yaml, read_design
from pege.study.items import Item, make_items

DESIGN, ITEMS, ABOUT, SECRET = "design.yaml", "items.jsonl", "provenance.json", "secret"
PACKAGES = ("sqlalchemy", "fastapi", "krippendorff", "scipy")


@dataclass(frozen=True)
class Study:
    """A study as its folder holds it.

    Attributes:
        folder: where it lies.
        design: resolved.
        items: all of them.
        key: names it in a database, at random.
        secret: signs links and sessions.
        about: provenance: files with their digests, versions, seed.
    """

    folder: Path
    design: Design
    items: Sequence[Item]
    key: str
    secret: str
    about: dict[str, Any]


def create_study(design_file: Path, folder: Path) -> Study:
    """Make the folder of a study. Where it is there already with the same design and dialogs, it is left alone.

    Raises:
        InputError: a bad design or self-chat file; a folder with another study.
    """
    design = read_design(design_file)
    dialogs = {name: list(read_rows(file, Dialog)) for name, file in design.systems.items()}
    items = make_items(design, dialogs)
    systems = {name: _source(file, len(dialogs[name])) for name, file in design.systems.items()}
    text = as_yaml(design)
    if (folder / ABOUT).is_file():
        there = read_json(folder / ABOUT)
        same = there["systems"] == systems and (folder / DESIGN).read_text(encoding="utf-8") == text
        if not same:
            raise InputError("holds another study", where=folder, fix="name another --output, or delete it")
        return load_study(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError("is there and is no study", where=folder, fix="name another --output")
    make_folder(folder)
    write_text(folder / DESIGN, text)
    write_rows(folder / ITEMS, items)
    _write_secret(folder / SECRET)
    about = {
        "key": secrets.token_hex(16),
        "created_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seed": design.seed,
        "design_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "items_sha256": _sha256(folder / ITEMS),
        "systems": systems,
        "versions": versions(PACKAGES),
    }
    write_json(folder / ABOUT, about)  # the last: a folder without it was not made whole
    return load_study(folder)


def load_study(folder: Path, *, secret: str | None = None) -> Study:
    """Read the folder of a study.

    Args:
        folder: that `create_study` made.
        secret: in place of the folder's own.

    Raises:
        InputError: no study, or its items were changed.
    """
    if not (folder / ABOUT).is_file():
        raise InputError("holds no study", where=folder, fix="make one: pege study create STUDY.yaml")
    about = read_json(folder / ABOUT)
    if _sha256(folder / ITEMS) != about["items_sha256"]:
        raise InputError("was changed after the study was made", where=folder / ITEMS, fix="make a new study")
    return Study(
        folder=folder,
        design=read_design(folder / DESIGN),
        items=tuple(read_rows(folder / ITEMS, Item)),
        key=about["key"],
        secret=_check_secret(secret or _read_secret(folder / SECRET)),
        about=about,
    )


def _source(file: Path, n_dialogs: int) -> dict[str, Any]:
    run = file.with_name(file.name + ".run.json")
    found = {"file": str(file), "sha256": _sha256(file), "n_dialogs": n_dialogs}
    return found | ({"run": read_json(run)} if run.is_file() else {})


def _sha256(file: Path) -> str:
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _write_secret(path: Path) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as out:
        out.write(secrets.token_urlsafe(48) + "\n")


def _read_secret(path: Path) -> str:
    try:
        if path.stat().st_mode & 0o077:
            raise InputError("others can read the secret of the study", where=path, fix=f"chmod 600 {path}")
        return path.read_text(encoding="utf-8").strip()
    except OSError as e:
        raise InputError(f"cannot be read ({e.strerror})", where=path, fix="set PEGE_STUDY_SECRET") from e


def _check_secret(secret: str) -> str:
    if len(secret) < 32:
        raise InputError("the secret is too short", where="PEGE_STUDY_SECRET", fix="take 32 random characters or more")
    return secret
