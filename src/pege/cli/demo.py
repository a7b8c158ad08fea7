"""``pege demo``: the main path on real conversations, small."""

from __future__ import annotations

import importlib.resources
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

log = logging.getLogger(__name__)


def demo(*, output: Path = Path("runs/demo")) -> None:
    """Walk the main path on real conversations: corpus, base-chat, NLL, PEGE, self-chat, report.

    7 to 20 minutes on two cores. Stopped at any moment, the same command goes on where it was.

    Args:
        output: folder of all that it makes.
    """
    warnings.filterwarnings("ignore", category=FutureWarning)
    source = importlib.resources.files("pege") / "assets" / "demo" / "demo.yaml"
    sizes: dict[str, Any] = yaml.safe_load(source.read_text(encoding="utf-8"))
    page = output / "report.html"
    steps: list[tuple[str, Callable[[], None]]] = [
        ("corpus: dialogs that end well, from real conversations", lambda: _corpus(output / "corpus", sizes["corpus"])),
        ("corpus: raw dialogs", lambda: _corpus(output / "corpus-raw", sizes["raw"])),
        ("training: base-chat, both sides of raw dialogs", lambda: _train("base_chat", output, sizes)),
        ("training: plain NLL", lambda: _train("nll", output, sizes)),
        ("training: PEGE", lambda: _train("pege", output, sizes)),
        ("selfchat: NLL with the plain user", lambda: _selfchat("nll", output, sizes)),
        ("selfchat: PEGE with the plain user", lambda: _selfchat("pege", output, sizes)),
        ("metrics and report", lambda: _report(output, page)),
    ]
    for k, (title, step) in enumerate(steps, start=1):
        log.info("\n[%d/%d] %s", k, len(steps), title)
        step()
    _summary(output, page)


def _corpus(folder: Path, settings: dict[str, Any]) -> None:
    from pege.corpus import CorpusConfig, build_corpus

    if not (folder / "report.json").is_file():
        build_corpus(CorpusConfig(input=("chitchat",), **settings), folder)


def _train(name: str, output: Path, sizes: dict[str, Any]) -> None:
    from pege.models.causal import fast_dtype
    from pege.training import TrainConfig, run_training

    own = dict(sizes[name])
    dtype = fast_dtype()
    corpus = output / ("corpus-raw" if name == "base_chat" else "corpus")
    config = TrainConfig.model_validate(
        {
            "model": "base" if name == "base_chat" else str(output / "base_chat"),
            "data": [str(corpus / "train")],
            "validation": [str(corpus / "validation")],
            "dtype": dtype,
            "loss": {"alpha": own.pop("alpha"), "beta": own.pop("beta")},
            "lora": sizes["lora"],
            "training": sizes["training"] | {"learning_rate": own.pop("learning_rate"), "bf16": dtype == "bfloat16"},
            **own,
        }
    )
    run_training(config, output / name)


def _selfchat(name: str, output: Path, sizes: dict[str, Any]) -> None:
    from pege.cli.selfchat import selfchat

    selfchat(
        agent=str(output / name), user=str(output / "base_chat"), output=output / name / "selfchat.jsonl",
        starters="en", **sizes["selfchat"],
    )  # fmt: skip


def _report(output: Path, page: Path) -> None:
    from pege.cli.report import report

    report(f"NLL={output / 'nll'}", f"PEGE={output / 'pege'}", output=page, classifier="default")


def _summary(output: Path, page: Path) -> None:
    """Print what was measured and what to do next."""
    from pege.cli.score import compare

    print("\nPEGE (A) against plain NLL (B), same starters, same user:")
    compare(output / "pege" / "selfchat.jsonl", output / "nll" / "selfchat.jsonl", classifier="default")
    print(
        "\nSo few dialogs and steps need not show a winner; where p is 0.05 or more, they do not."
        f"\n\nOpen      {page}"
        f"\nTalk      pege chat {output / 'pege'}"
        "\nYour own  pege corpus build --input YOUR.jsonl --output runs/corpus"
        "\n          pege train --config configs/pege-causal.yaml --output_dir runs/pege"
    )
