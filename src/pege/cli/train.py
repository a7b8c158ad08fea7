"""``pege train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from pege.cli.configured import run_configured
from pege.training import TrainConfig, run_training


def train(*flags: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)], config: Path | None = None) -> None:
    """Fine-tune a causal LM with the PEGE loss or with plain NLL."""

    def run(*, output_dir: Path, settings: Annotated[TrainConfig, Parameter(name="*")]) -> None:
        """Fine-tune a causal LM with the PEGE loss or with plain NLL.

        `--config FILE.yaml` names a config; flags win over it. Beside the flags below there are `--training.NAME`
        (transformers.TrainingArguments), `--lora.NAME` (peft.LoraConfig) and `--generation.NAME`
        (transformers.GenerationConfig). A run that was stopped goes on when started again.

        Args:
            output_dir: the run folder.
            settings: the config.
        """
        run_training(settings, output_dir)
        print(output_dir)

    run_configured("pege train", run, flags, config)
