"""Two processes train as one does."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
import yaml
from safetensors.torch import load_file

from pege.io import write_rows


@pytest.mark.slow
def test_two_processes_give_the_losses_and_weights_of_one(tiny_model_dir, lexicon_file, dialogs, tmp_path, monkeypatch):
    write_rows(tmp_path / "train.jsonl", dialogs)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    config = {
        "model": str(tiny_model_dir), "data": [str(tmp_path / "train.jsonl")], "lexicon": str(lexicon_file), "dtype": "float32",
        "training": {"max_steps": 4, "logging_steps": 1, "learning_rate": 0.01, "train_sampling_strategy": "sequential",
                     "disable_tqdm": True, "save_strategy": "no"},
    }  # fmt: skip
    logs, weights = [], []
    for name, launcher, size in (
        ("one", [sys.executable, "-m"], 2),
        ("two", [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"], 1),
    ):
        config["training"]["per_device_train_batch_size"] = size
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(config))
        command = [
            *launcher,
            "pege",
            "train",
            "--config",
            str(tmp_path / f"{name}.yaml"),
            "--output_dir",
            str(tmp_path / name),
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        rows = [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        logs.append([(r["loss"], r["nll"], r["peg"], r["ner"]) for r in rows if "nll" in r])
        weights.append(load_file(tmp_path / name / "model.safetensors"))
    assert len(logs[0]) == 4
    for one, two in zip(*logs, strict=True):
        assert one == pytest.approx(two, rel=1e-5)
    for key, value in weights[0].items():
        assert torch.allclose(value, weights[1][key], atol=1e-5), key
