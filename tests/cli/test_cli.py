"""The command line: contracts, one clear line for bad input, exit code 2."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys

import pytest

from pege.cli import main
from pege.dialog import make_dialog
from pege.io import write_rows


def run(arguments, capsys):
    """Run a command in this process: exit code, standard output, standard error."""
    code = 0
    try:
        main(arguments)
    except SystemExit as e:
        code = int(e.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def chats(tmp_path, dialogs):
    write_rows(tmp_path / "chats.jsonl", dialogs)
    return tmp_path / "chats.jsonl"


def test_score_prints_one_object_and_writes_each_dialog(chats, lexicon_file, tmp_path, capsys):
    per_dialog = tmp_path / "out.jsonl"
    code, out, _ = run(
        [
            "score",
            str(chats),
            "--lexicon",
            str(lexicon_file),
            "--language",
            "en",
            "--per-dialog",
            str(per_dialog),
            "--json",
        ],
        capsys,
    )
    assert code == 0
    table = json.loads(out)
    assert table["n_dialogs"] == 4
    assert table["signature"].startswith("pege|lex:small-")
    assert set(table["ci"]) == {"peg", "e", "pege"}
    rows = [json.loads(line) for line in per_dialog.read_text().splitlines()]
    assert [sorted(r) for r in rows] == [["e", "id", "peg", "pege"]] * 4
    assert table["pege"] == pytest.approx(sum(r["pege"] for r in rows) / 4)


def test_score_in_words_names_what_is_missing(chats, capsys):
    code, out, _ = run(["score", str(chats), "--n-resamples", "99"], capsys)
    assert code == 0
    assert "PEGE-Score" in out
    assert "--unseen-lexicon" in out
    assert "human ratings: none" in out


def test_compare_prints_differences_and_p_values(chats, lexicon_file, capsys):
    code, out, _ = run(["compare", str(chats), str(chats), "--lexicon", str(lexicon_file), "--json"], capsys)
    assert code == 0
    assert json.loads(out)["scores"]["pege"]["p"] == 1.0


def test_safety_and_emotion_give_a_line_for_a_line(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"I want to die\nhello \xff\n")))
    code, out, _ = run(["safety", "check", "--json"], capsys)
    assert code == 0
    assert [json.loads(line)["crisis"] for line in out.splitlines()] == [True, False]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"I am happy!\n\nso sad\n")))
    code, out, _ = run(["emotion", "predict", "--json"], capsys)
    rows = [json.loads(line) for line in out.splitlines()]
    assert len(rows) == 3
    assert all(
        sum(r.values()) == pytest.approx(1, abs=1e-4) and list(r) == ["negative", "neutral", "positive"] for r in rows
    )


def test_lexicon_show_compare_and_coverage(chats, lexicon_file, capsys):
    code, out, _ = run(["lexicon", "show", "happy", "zzz", "--json"], capsys)
    assert code == 0
    found = json.loads(out)["words"]
    assert found["zzz"] is None
    assert found["happy"]["mark"] == "rated"
    assert run(["lexicon", "compare", "pege-en", str(lexicon_file)], capsys)[0] == 0
    code, out, _ = run(["lexicon", "coverage", str(chats), "--lexicon", str(lexicon_file), "--json"], capsys)
    assert 0 < json.loads(out)["text"]["covered"] < 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["scroe", "x"], 'Did you mean "score"'),
        (["score", "x.jsonl", "--per-dialgo", "y"], "Did you mean --per-dialog"),
        (["score", "no.jsonl"], "no.jsonl: no such file"),
        (["score", "corpus/validation"], "corpus/validation: no such file or folder"),
        (["score", "CHATS", "--lexicon", "no.tsv"], "no.tsv: no such lexicon"),
        (["score", "CHATS", "--language", "fr"], "fr"),
        (["train", "--config", "no.yaml", "--output_dir", "r"], "no.yaml: no such file"),
        (["train", "--config", "TYPO", "--output_dir", "r"], "Did you mean --loss.alpha"),
        (
            ["train", "--config", "VALUE", "--output_dir", "r"],
            "value.yaml: loss.alpha: 'many' should be a valid number",
        ),
        (
            ["train", "--config", "VALUE", "--output_dir", "r", "--loss.alpha", "-3"],
            "pege: --loss.alpha: '-3' should be greater than or equal to 0",
        ),
        (
            ["train", "--output_dir", "r", "--data", "x", "--training.max-steps", "many"],
            "--training.max_steps: 'many' is not a whole number",
        ),
        (["train", "--output_dir", "r", "--data", "x", "--seed", "-1"], "--seed: '-1' should be greater"),
        (["corpus", "build", "--config", "RULE", "--output", "r"], "rule.yaml: cleaning: cleaning.0: unknown rule"),
        (["train", "--config", "BROKEN", "--output_dir", "r"], "is not YAML"),
        (
            ["train", "--output_dir", "r", "--data", "x", "--training.learning_rat", "1"],
            "Did you mean --training.learning-rate",
        ),
        (["selfchat", "--agent", "./no-run", "--output", "x.jsonl"], "no such model"),
        (["selfchat", "--agent", "base", "--output", "x.jsonl", "--turns", "0"], "--turns"),
        (["selfchat", "--agent", "base", "--output", "x.jsonl", "--n-starters", "-3"], "--n-starters"),
        (["selfchat", "--agent", "base", "--output", "x.jsonl", "--batch-size", "0"], "--batch-size"),
        (["selfchat", "--agent", "base", "--output", "x.jsonl", "--max-new-tokens", "0"], "max_new_tokens: 0 is not"),
        (["selfchat", "--agent", "base", "--output", "x.jsonl", "--seed", "-1"], "--seed"),
        (
            ["selfchat", "--agent", "base", "--output", "x.jsonl", "--temperature", "0"],
            "temperature: 0.0 is not above 0",
        ),
        (
            ["train", "--config", "VALUE", "--loss.alpha", "3", "--output_dir", "r", "--generation.temperature", "-1"],
            "temperature: -1 is not above 0",
        ),
        (["selfchat", "--agent", "base", "--output", "x.jsonl", "--dtype", "float99"], "--dtype"),
        (["selfchat", "--agent", "base", "--output", "."], ".: is no .jsonl file"),
        (["respond", "--agent", "base", "--data", "no.jsonl", "--output", "x.jsonl"], "no.jsonl"),
        (["selfchat", "--agent", "base", "--output", "x.jsonl.gz"], "is no .jsonl file"),
        (["report", "./no-run", "--output", "x.html"], "no self-chat"),
        (["corpus", "build", "--input", "no*.jsonl", "--output", "c"], "no such file"),
        (["corpus", "stats", "."], "holds no corpus"),
    ],
)
def test_bad_input_is_one_clear_line_and_exit_code_2(arguments, message, chats, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "typo.yaml").write_text("data: [x]\nloss: {alhpa: 3}\n")
    (tmp_path / "value.yaml").write_text("data: [x]\nloss: {alpha: many}\n")
    (tmp_path / "rule.yaml").write_text("input: [x]\ncleaning: [{rule: mojibak}]\n")
    (tmp_path / "broken.yaml").write_text("data: [x\n")
    places = {
        "CHATS": str(chats),
        "TYPO": "typo.yaml",
        "BROKEN": "broken.yaml",
        "VALUE": "value.yaml",
        "RULE": "rule.yaml",
    }
    code, out, err = run([places.get(a, a) for a in arguments], capsys)
    assert code == 2
    assert message.replace('"', "'") in err.replace('"', "'")
    assert out == ""
    assert len(err.strip().splitlines()[-1]) < 600
    assert not list(tmp_path.glob("x*"))
    assert not (tmp_path / "r").exists()
    assert "pydantic" not in err


def test_only_our_own_log_is_told_below_a_warning():
    code = """if True:
        import logging
        from pege.cli import main
        try: main(['--version'])
        except SystemExit: pass
        logging.getLogger('daft').info('traced')
        logging.getLogger('pege.corpus').info('told')"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stderr == "told\n"


def test_a_bug_behind_a_config_keeps_its_traceback(monkeypatch):
    def fail(*_):
        raise ValueError("a bug")

    monkeypatch.setattr("pege.cli.train.run_training", fail)
    with pytest.raises(ValueError, match="a bug"):
        main(["train", "--output_dir", "r", "--data", "x"])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("cut.jsonl", '{"id": "1", "messages": [{"role": "user", "con'),
        ("roles.jsonl", '{"id": "1", "messages": [{"role": "assistant", "content": "hi"}]}'),
        (
            "empty.jsonl",
            '{"id": "1", "messages": [{"role": "user", "content": ""}, {"role": "assistant", "content": "x"}]}',
        ),
        ("huge.jsonl", json.dumps({"id": "1", "messages": [{"role": "user", "content": "x" * 1_000_000}]})),
        ("silent.jsonl", '{"id": "1", "messages": [{"role": "user", "content": "hi"}]}'),
    ],
)
def test_bad_rows_are_one_line_for_score(name, content, tmp_path, capsys):
    (tmp_path / name).write_text(content + "\n")
    code, out, err = run(["score", str(tmp_path / name), "--json"], capsys)
    assert (code, out) == (2, "")
    assert len(err.strip().splitlines()) == 1


def test_a_full_disk_is_one_line(chats, capsys):
    code, _, err = run(["score", str(chats), "--n-resamples", "9", "--per-dialog", "/dev/full/x.jsonl"], capsys)
    assert code == 2
    assert "/dev/full/x.jsonl" in err


def test_help_reads_like_a_table_of_contents_and_loads_nothing_heavy():
    code = "import sys; from pege.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\nassert not {'torch', 'numpy', 'pydantic'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    order = [done.stdout.index(f" {name} ") for name in ("corpus", "train", "selfchat", "score", "report")]
    assert order == sorted(order)


def test_chat_answers_resets_shows_the_mood_and_guards(tiny_model_dir, capsys, monkeypatch):
    lines = iter(["I am sad", "/vad", "/reset", "/what", "I want to kill myself", "hello", "/quit"])
    monkeypatch.setattr("builtins.input", lambda prompt="": next(lines))
    code, out, _ = run(["chat", str(tiny_model_dir), "--seed", "1"], capsys)
    assert code == 0
    assert "no therapy" in out
    assert "valence" in out
    assert "(a new dialog)" in out
    assert out.count("988.ca") == 0
    assert out.count("Find A Helpline") == 2  # the crisis, and what follows it


def test_chat_refuses_a_setting_out_of_range_and_raises_what_fails(tiny_model_dir, capsys, monkeypatch):
    code, _, err = run(["chat", str(tiny_model_dir), "--temperature", "-1"], capsys)
    assert code == 2
    assert "generation.temperature: -1.0 is not above 0" in err

    def broken(*a, **k):
        raise RuntimeError("no memory")

    lines = iter(["I am sad", "/quit"])
    monkeypatch.setattr("builtins.input", lambda prompt="": next(lines))
    monkeypatch.setattr("pege.agent.generate.LocalAgent._sample", broken)
    with pytest.raises(RuntimeError, match="no memory"):
        run(["chat", str(tiny_model_dir)], capsys)


def test_a_self_chat_of_another_seed_is_refused_before_a_model_is_loaded(tiny_model_dir, tmp_path, capsys, monkeypatch):
    model, output = str(tiny_model_dir), str(tmp_path / "x.jsonl")
    command = ["selfchat", "--agent", model, "--user", model, "--turns", "1", "--n-starters", "3", "--output", output,
               "--max-new-tokens", "2", "--dtype", "float32"]  # fmt: skip
    assert run(command, capsys)[0] == 0
    monkeypatch.setattr("pege.agent.load_agent", None)
    code, out, _ = run(command, capsys)
    assert (code, out.strip()) == (0, output)
    code, _, err = run([*command, "--seed", "1"], capsys)
    assert code == 2
    assert "was made with another seed" in err


def test_a_checkpoint_cut_in_half_is_one_line(tiny_model_dir, tmp_path, capsys):
    folder = tmp_path / "cut"
    shutil.copytree(tiny_model_dir, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    code, _, err = run(
        ["selfchat", "--agent", str(folder), "--user", str(folder), "--output", str(tmp_path / "x.jsonl")], capsys
    )
    assert code == 2
    assert "cut or broken" in err


def test_a_disk_that_fills_up_while_training_is_one_line_and_goes_on_later(
    tiny_model_dir, tmp_path, capsys, monkeypatch
):
    from safetensors import SafetensorError
    from transformers import Trainer

    rows = tmp_path / "rows.jsonl"
    write_rows(rows, [make_dialog(["I am sad", "why is that", "I lost my cat"], id=str(k)) for k in range(4)])
    command = [
        "train", "--model", str(tiny_model_dir), "--data", str(rows), "--output_dir", str(tmp_path / "run"),
        "--training.per_device_train_batch_size", "1", "--training.save_steps", "2", "--training.logging_steps", "1",
    ]  # fmt: skip
    save = Trainer._save_optimizer_and_scheduler

    def fill_up(trainer, folder):
        if trainer.state.global_step == 4:
            raise SafetensorError("I/O error: No space left on device (os error 28)")
        save(trainer, folder)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_save_optimizer_and_scheduler", fill_up)
        code, _, err = run(command, capsys)
    assert code == 2
    assert "pege: the disk is full" in err
    assert not (tmp_path / "run" / "done").exists()
    code, _, err = run(command, capsys)
    assert code == 0
    assert (tmp_path / "run" / "done").exists()
