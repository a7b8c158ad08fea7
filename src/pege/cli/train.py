"""``pege train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.config import Yaml

from pege.errors import InputError
from pege.io import read_yaml
from pege.training import TrainConfig, run_training


def train(*flags: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)], config: Path | None = None) -> None:
    """Fine-tune a causal LM with the PEGE loss or with plain NLL."""
    inner = App(name="pege train", version_flags=(), default_parameter=Parameter(negative=(), consume_multiple=True))
    if config is not None:
        read_yaml(config)  # words a missing or broken file
        inner.config = Yaml(config, must_exist=True, use_commands_as_keys=False)

    @inner.default
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

    try:
        inner(flags, exit_on_error=False, print_error=False, result_action="return_value")
    except ValueError as e:
        if isinstance(e, InputError):
            raise
        raise InputError(str(e), where=config) from e
