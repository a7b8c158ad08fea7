"""The main path, end to end, on a tiny random model: raw dialogs to a page."""

from __future__ import annotations

import json

import yaml

from pege.cli import main


def test_raw_dialogs_become_a_report(tiny_model_dir, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    talk = [
        "I lost my dog and I am so sad.",
        "Oh no, what happened?",
        "He ran away.",
        "Dogs come home.",
        "Thank you so much, I feel much better now, you are wonderful!",
    ]
    rows = [{"messages": [{"role": ("user", "assistant")[k % 2], "content": t} for k, t in enumerate(talk)]}] * 12
    (tmp_path / "raw.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows) + "{cut\n")

    main(
        [
            "corpus",
            "build",
            "--input",
            "raw.jsonl",
            "--output",
            "corpus",
            "--start-threshold",
            "0.34",
            "--end-threshold",
            "0.5",
            "--validation-share",
            "0.3",
            "--duplicate-bands",
            "0",
        ]
    )
    report = json.loads(capsys.readouterr().out)
    assert report["input"] == 13 == report["kept"] + sum(report["dropped"].values()) + report["quarantined"]
    assert report["kept"] == 12

    config = {
        "model": str(tiny_model_dir), "data": ["corpus/train"], "validation": ["corpus/validation"],
        "dtype": "float32", "lora": {"r": 4, "target_modules": ["q_proj", "v_proj"]},
        "training": {"max_steps": 3, "per_device_train_batch_size": 4, "logging_steps": 1, "learning_rate": 0.001, "disable_tqdm": True},
    }  # fmt: skip
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    main(["train", "--config", "config.yaml", "--output_dir", "pege"])
    main(["train", "--config", "config.yaml", "--output_dir", "nll", "--loss.alpha", "0", "--loss.beta", "0"])
    for run in ("nll", "pege"):
        main(["selfchat", "--agent", run, "--user", str(tiny_model_dir), "--starters", "en", "--turns", "2", "--n-starters", "6", "--max-new-tokens", "6", "--dtype", "float32", "--output", f"{run}/selfchat.jsonl"])  # fmt: skip
    capsys.readouterr()
    main(["score", "pege/selfchat.jsonl", "--json", "--classifier", "default", "--n-resamples", "99"])
    table = json.loads(capsys.readouterr().out)
    assert table["n_dialogs"] == 6
    assert "classifier" in table["companions"]
    main(["report", "NLL=nll", "PEGE=pege", "--output", "page.html", "--n-resamples", "99"])
    page = (tmp_path / "page.html").read_text()
    assert "PEGE" in page
    assert "Terms of the loss" in page
