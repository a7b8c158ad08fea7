"""``pege export``: a run as plain safetensors or GGUF, for vLLM, llama.cpp and other engines."""

from __future__ import annotations

from pathlib import Path


def export(run: str, /, *, output: Path, gguf: bool = False) -> None:
    """Write a run, adapters merged, as safetensors with tokenizer and chat template (docs/server.md).

    Args:
        run: a run, `base`, or a model of the hub.
        output: the folder to make; with --gguf the file.
        gguf: write one GGUF file for llama.cpp instead; of runs on the embedded base model only.
    """
    from pege.models.export import export_model
    from pege.models.gguf_file import export_gguf

    print(export_gguf(run, output) if gguf else export_model(run, output))
