"""``pege tokenizer``."""

from __future__ import annotations

import itertools
from pathlib import Path

from pege.dialog import Dialog
from pege.errors import InputError
from pege.io import read_rows


def tokenizer(*, data: tuple[Path, ...], output: Path, n_pieces: int = 30_000) -> None:
    """Train PLATO-2's vocabulary: BPE with byte fallback, languages mixed; the same rows give the same bytes.

    Args:
        data: files of rows.
        output: a new folder that `AutoTokenizer.from_pretrained` loads.
        n_pieces: of the vocabulary; the mask token is one more.
    """
    if not data:
        raise InputError("no rows", fix="name files with --data (docs/rows.md)")
    if output.exists():
        raise InputError("is there already", where=output, fix="name a new --output")
    from pege.models.plato2.tokenizer import train_tokenizer

    dialogs = itertools.chain.from_iterable(read_rows(path, Dialog) for path in data)
    found = train_tokenizer((text for dialog in dialogs for text in dialog.texts), n_pieces=n_pieces)
    found.save_pretrained(output)
    print(f"{output}: {len(found)} tokens")
