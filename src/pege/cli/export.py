"""``pege export``: a run as one plain folder of safetensors, for vLLM and other engines."""

from __future__ import annotations

from pathlib import Path


def export(run: str, /, *, output: Path) -> None:
    """Write a run, adapters merged, as safetensors with tokenizer and chat template (docs/server.md).

    Args:
        run: a run, `base`, or a model of the hub.
        output: the folder to make.
    """
    from pege.models.export import export_model

    print(export_model(run, output))
