"""Two processes train as one does, each with the whole model (DDP) or with its share of the weights (FSDP)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from pege.errors import InputError
from pege.io import write_rows
from pege.training import TrainConfig, run_training

TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
LORA = {"lora": {"r": 4, "target_modules": ["q_proj", "v_proj"]}}
#: each linear layer by itself, the head too, whose weights are given back as soon as it was called
APART = {"transformer_layer_cls_to_wrap": ["LlamaDecoderLayer", "Linear"]}


@pytest.fixture
def settings(tiny_model_dir, lexicon_file, dialogs, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_rows(tmp_path / "train.jsonl", dialogs)
    return {
        "model": str(tiny_model_dir), "data": [str(tmp_path / "train.jsonl")], "lexicon": str(lexicon_file), "dtype": "float32",
        "training": {"max_steps": 3, "logging_steps": 1, "learning_rate": 0.001, "train_sampling_strategy": "sequential",
                     "gradient_accumulation_steps": 2, "disable_tqdm": True, "save_strategy": "no"},
    }  # fmt: skip


def untied(model, folder):
    """The same model with an output matrix of its own."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    found = AutoModelForCausalLM.from_pretrained(model)
    found.config.tie_word_embeddings = False
    found.lm_head.weight = torch.nn.Parameter(found.lm_head.weight.detach() + 0.01)
    found.save_pretrained(folder)
    AutoTokenizer.from_pretrained(model).save_pretrained(folder)
    return str(folder)


def outcome(folder):
    """The logged losses, and the weights."""
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    (weights,) = folder.glob("*model.safetensors")
    return [(r["loss"], r["nll"], r["peg"], r["ner"]) for r in rows if "nll" in r], load_file(weights)


@pytest.mark.slow
def test_two_processes_give_the_losses_and_weights_of_one(settings, tmp_path):
    (tmp_path / "apart.json").write_text(json.dumps(APART))
    kinds = {"all": ({}, {}), "lora": (LORA, {}), "untied": (
        {"model": untied(settings["model"], tmp_path / "model")}, {"fsdp_config": str(tmp_path / "apart.json")},
    )}  # fmt: skip
    configs = []
    for way in ("ddp", "fsdp"):  # in this order: FSDP leaves marks in the environment
        for kind, (more, of_fsdp) in kinds.items():
            training = {**settings["training"], "per_device_train_batch_size": 1}
            training |= {"fsdp": True, **of_fsdp} if way == "fsdp" else {}
            configs.append(tmp_path / f"{way}-{kind}.yaml")
            configs[-1].write_text(yaml.safe_dump({**settings, **more, "training": training}))
    command = [*TWO, str(Path(__file__).with_name("sharing.py")), *map(str, configs)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "training.fsdp: weights are shared out among GPUs only" in done.stderr, done.stderr[:4000]
    for kind, (more, _) in kinds.items():
        training = {**settings["training"], "per_device_train_batch_size": 2}
        config = TrainConfig.model_validate({**settings, **more, "training": training})
        losses, weights = outcome(run_training(config, tmp_path / kind))
        assert len(losses) == 3
        for way in ("ddp", "fsdp"):
            theirs, found = outcome(tmp_path / f"{way}-{kind}")
            for one, two in zip(losses, theirs, strict=True):
                assert two == pytest.approx(one, rel=1e-6), (way, kind)
            for key, value in weights.items():  # FSDP writes tied weights twice
                torch.testing.assert_close(found[key], value, rtol=0, atol=1e-6, msg=f"{way}, {kind}: {key}")


def test_sharing_weights_out_is_refused_in_one_process(settings, tmp_path):
    settings["training"] |= {"fsdp": True}
    with pytest.raises(InputError, match="torchrun"):
        run_training(TrainConfig.model_validate(settings), tmp_path / "run")
    assert not (tmp_path / "run").exists()
