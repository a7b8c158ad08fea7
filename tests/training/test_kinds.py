"""The paper's models by the same commands as a causal LM: train, resume, respond, score."""

from __future__ import annotations

import json
import math

import pytest
import torch

from pege.agent import load_agent
from pege.agent.guided import Guide
from pege.cli import main
from pege.dialog import Context, Utterance, make_dialog
from pege.errors import InputError
from pege.io import write_rows
from pege.lexicon import load_lexicon
from pege.models.causal import load_model
from pege.models.plato2.tokenizer import train_tokenizer
from pege.training import TrainConfig, run_training

MODELS = ["plato-tiny", "moel", "mime"]


@pytest.fixture(scope="module")
def tokenizer_dir(tmp_path_factory):
    from tests.conftest import TEXTS

    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(TEXTS * 3, n_pieces=360).save_pretrained(folder)
    return folder


@pytest.fixture
def config(tokenizer_dir, dialogs, lexicon_file, tmp_path):
    rows = tmp_path / "rows.jsonl"
    write_rows(rows, dialogs)

    def make(model, **more):
        training = {
            "max_steps": 6,
            "per_device_train_batch_size": 2,
            "learning_rate": 3e-3,
            "logging_steps": 1,
            "save_steps": 3,
        }
        return TrainConfig(
            model=model, tokenizer=str(tokenizer_dir), data=(str(rows),), validation=(str(rows),), lexicon=str(lexicon_file),
            max_length=96, **({"training": training} | more),
        )  # fmt: skip

    return make


@pytest.mark.parametrize("model", MODELS)
def test_a_model_trains_goes_on_after_a_stop_and_responds(model, config, tmp_path):
    whole = run_training(config(model), tmp_path / "whole")
    rows = [json.loads(line) for line in (whole / "log.jsonl").read_text().splitlines()]
    losses = [r["nll"] for r in rows if "nll" in r]
    assert losses[-1] < losses[0]
    assert math.isfinite(json.loads((whole / "metrics.json").read_text())["validation_perplexity"])

    again = tmp_path / "again"  # what a stop behind the third step leaves
    run_training(config(model), again)
    for file in ("done", "metrics.json", "model.safetensors"):
        (again / file).unlink()
    for file in (again / "checkpoint-6").glob("*"):
        file.unlink()
    run_training(config(model), again)
    (first, _), (second, _) = load_model(whole, dtype="float32"), load_model(again, dtype="float32")
    for (name, a), (_, b) in zip(first.named_parameters(), second.named_parameters(), strict=True):
        torch.testing.assert_close(a, b, msg=name)

    agent = load_agent(str(whole), generation={"max_new_tokens": 5}, dtype="float32")
    contexts = [
        Context(utterances=(Utterance(role="user", content=t),))
        for t in ("I lost my dog.", "We had a wonderful holiday.")
    ]
    said = agent.respond(contexts, seed=1)
    assert agent.respond(contexts, seed=1) == said
    lexicon = load_lexicon(config(model).lexicon)
    for strength, is_same in ((0.0, True), (100.0, False)):
        guide = Guide(lexicon, strength)
        guided = load_agent(str(whole), generation={"max_new_tokens": 5}, dtype="float32", guide=guide)
        assert (guided.respond(contexts, seed=1) == said) is is_same


def test_the_rest_of_a_dialog_is_learned_in_one_piece_each_utterance_with_an_end_of_its_own(tokenizer_dir, dialogs):
    from transformers import AutoTokenizer

    from pege.models.plato2 import Plato2Config
    from pege.training.responses import make_response_samples, plato2_encoder

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir)
    size = Plato2Config.of_size("tiny", vocab_size=len(tokenizer))
    encode = plato2_encoder(tokenizer, size, max_length=128)
    samples = list(make_response_samples(dialogs, encode, load_lexicon("pege-en"), sides="rest", emotion_input=False))
    assert len(samples) == len(dialogs)
    for sample, dialog in zip(samples, dialogs, strict=True):
        learned = [i for i in sample["sample"].labels if i >= 0]
        texts, utterance = [], []
        for i in learned:
            if i == tokenizer.eos_token_id:
                texts.append(tokenizer.decode(utterance))
                utterance = []
            else:
                utterance.append(i)
        assert [t.strip() for t in texts] == dialog.texts[1:]
        assert sample["n_utterances"] == 1


def test_the_rest_is_not_for_listeners(config, tmp_path):
    with pytest.raises(InputError, match="for PLATO-2 and causal LMs"):
        run_training(config("moel", sides="rest"), tmp_path / "run")


def test_self_chat_and_scores_take_a_run_of_any_kind(config, tmp_path, tiny_model_dir, capsys):
    run = run_training(config("moel"), tmp_path / "moel")
    out, answers, rows = (tmp_path / f"{n}.jsonl" for n in ("selfchat", "answers", "rows"))
    flags = ["--agent", run, "--max-new-tokens", 4]
    main(["selfchat", *map(str, [*flags, "--user", tiny_model_dir, "--turns", 2, "--n-starters", 3, "--output", out])])
    main(["score", str(out), "--json"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["n_dialogs"] == 3
    write_rows(rows, [make_dialog(["I lost my dog.", "Oh no.", "Yes.", "When?"], id=k).model_dump() for k in "ab"])
    main(["respond", *map(str, [*flags, "--data", rows, "--output", answers])])
    main(["score", str(answers), "--references", str(rows), "--json"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["bleu"]["n_responses"] == 4


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"tokenizer": None}, "tokenizer: moel needs one"),
        ({"lora": {"r": 2}}, "a model with first weights is trained whole"),
        ({"model": "base", "lora": {"r": 2}}, "base has its own"),
        ({"word_vectors": "nothing/at/all"}, "no such model"),
    ],
)
def test_what_does_not_go_together_is_one_line(more, words, config, tmp_path):
    with pytest.raises(InputError, match=words):
        run_training(TrainConfig(**{**config("moel").resolved(), **more}), tmp_path / "run")


def test_word_vectors_of_another_model_are_where_the_tokens_are_the_same(config, tmp_path):
    plato = run_training(config("plato-tiny"), tmp_path / "plato")
    run = run_training(
        config("mime", word_vectors=str(plato), training={"max_steps": 1, "learning_rate": 0.0}), tmp_path / "mime"
    )
    (base, theirs), (mime, ours) = load_model(plato, dtype="float32"), load_model(run, dtype="float32")
    a, b = (m.get_input_embeddings().weight.detach() for m in (base, mime))
    token = theirs.convert_tokens_to_ids("\u2581I")
    assert ours.convert_tokens_to_ids("\u2581I") == token
    torch.testing.assert_close(a[token] @ a[token], b[token] @ b[token])  # widened with zeros: products stay
