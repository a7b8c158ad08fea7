"""``pege trim``."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def trim(
    *,
    model: str,
    data: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = (),
    output: Path,
    restore: bool = False,
    json: bool = False,
) -> None:
    """Keep only the tokens of a vocabulary that a corpus uses: a smaller model that says the same.

    Args:
        model: base, a run, or a hub name; with --restore the folder of a trimmed one.
        data: files of rows: the corpus.
        output: the new folder.
        restore: put a trimmed model's rows back into the full vocabulary.
        json: print one JSON object.
    """
    from pege.errors import InputError
    from pege.models.trim import restore_model, trim_model

    if restore:
        restore_model(model, output)
        print(output)
        return
    if not data:
        raise InputError("names no corpus", where="--data", fix="name files of rows")
    from pege.dialog import Dialog
    from pege.io import read_rows

    texts = (t for path in data for d in read_rows(path, Dialog) for t in d.texts)
    found = trim_model(model, texts, output)
    text = "{n_before:,} tokens -> {n_after:,}; {n_parameters_before:,} parameters -> {n_parameters_after:,}"
    print(jsonlib.dumps(found) if json else text.format(**found))
