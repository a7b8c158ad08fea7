"""``pege convert plato``."""

from __future__ import annotations

from pathlib import Path

from cyclopts import App, Parameter

app = App(name="convert", help="Published weights to ours: PLATO-2 of PaddleNLP and Knover.")
app.default_parameter = Parameter(negative=(), consume_multiple=True)


@app.command
def plato(folder: Path, /, *, output: Path) -> None:
    """Convert PLATO-2's weights, without paddle and without running what a file asks for.

    Args:
        folder: model_state.pdparams and model_config.json, as PaddleNLP saves; or Knover's.
        output: a new folder for model.safetensors and config.json.
    """
    from pege.models.plato2.convert import convert_plato

    print(convert_plato(folder, output))
