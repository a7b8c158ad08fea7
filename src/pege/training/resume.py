"""A training that was stopped goes on from its last checkpoint."""

from __future__ import annotations

import json
import logging
import shutil
import zipfile
from pathlib import Path

from transformers import Trainer
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import get_last_checkpoint

from pege.errors import InputError

log = logging.getLogger(__name__)


def train_on(trainer: Trainer, folder: Path) -> None:
    """Train from the last whole checkpoint in a folder, or from the start.

    Raises:
        InputError: a checkpoint that is cut.
    """
    from safetensors import SafetensorError

    for half in (c for c in folder.glob("checkpoint-*") if not (c / TRAINER_STATE_NAME).is_file()):
        log.warning("%s was not finished; it is removed", half)  # its state is written last
        shutil.rmtree(half)
    checkpoint = get_last_checkpoint(str(folder))
    if checkpoint:
        log.info("going on from %s", checkpoint)
        for path in sorted(Path(checkpoint).glob("*.pt*")):  # optimizer, scheduler, random state: torch writes archives
            if not zipfile.is_zipfile(path):
                raise InputError("is cut or broken", where=path, fix=f"delete {checkpoint}, then start again")
    try:
        trainer.train(resume_from_checkpoint=checkpoint)
    except (SafetensorError, EOFError, json.JSONDecodeError, FileNotFoundError) as e:
        if checkpoint is None:
            raise
        raise InputError(f"the checkpoint is cut or broken ({e})", where=checkpoint, fix="delete that folder") from e
