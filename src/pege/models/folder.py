"""A folder that appears whole or not at all."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole_folder(target: Path, *, mode: int = 0o755) -> Iterator[Path]:
    """Give a temporary folder beside ``target`` that becomes it at the end of the block; where the block fails, none.

    Args:
        target: the folder to make; its parents are made too.
        mode: its permissions.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield temporary
        temporary.chmod(mode)
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
