"""The real dialogs that benchmarks read: of ``PEGE_DATA/dialogs``, or of the package ``chitchat_dataset``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pege.corpus.readers import check_row, read_raw
from pege.dialog import Dialog

DIALOGS = Path(os.environ.get("PEGE_DATA", "../shared/data")) / "dialogs"


def read_dialogs(inputs: list[str]) -> Iterator[tuple[str, Dialog]]:
    """Read the dialogs of files, or of ``chitchat``, that are whole, with the file each is from."""
    for file, line, raw in read_raw(inputs):
        dialog = check_row(raw, file, line)
        if isinstance(dialog, Dialog):
            yield file, dialog
