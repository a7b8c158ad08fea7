"""The judge of relevance: its likelihoods against plain logits, and whether it sees what belongs together."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from pege.cli import main
from pege.dialog import make_dialog
from pege.errors import InputError
from pege.io import write_rows
from pege.models.prompt import encode_dialog
from pege.training import relevance
from pege.training.relevance import relevance_judge

ONE = ["I lost my dog.", "I am so sorry about your dog.", "He was old.", "He had a long life with you."]
TWO = ["We won the game!", "What a great game!", "I scored twice.", "You must be so proud."]
CHINESE = [
    ["最近工作压力很大，我总是睡不着。", "你可以试着在睡前放松一下自己，比如听音乐、做深呼吸。"],
    ["谢谢你的建议，我会努力的。", "不客气，相信自己，你一定能够做到的，加油！"],
    ["我和妈妈经常吵架，我不知道怎么办。", "你可以试着和妈妈好好沟通，告诉她你的感受。"],
    ["我很害怕和别人交流，没有朋友。", "你可以先从身边的人开始，试着参加一些社交活动，结交新朋友。"],
]


def test_a_gain_is_the_difference_of_two_plain_likelihoods(tiny_model_dir):
    model, tokenizer = (c.from_pretrained(tiny_model_dir) for c in (AutoModelForCausalLM, AutoTokenizer))
    model.eval()

    def nll(texts):
        encoded = encode_dialog(tokenizer, make_dialog(texts).messages, None, max_length=512)
        start, stop = encoded.spans[-1]
        with torch.inference_mode():
            logits = model(torch.tensor([encoded.ids])).logits[0, start - 1 : stop - 1]
        return float(torch.nn.functional.cross_entropy(logits, torch.tensor(encoded.ids[start:stop])))

    first = nll([TWO[0], ONE[1]]) - nll(ONE[:2])
    second = nll([*ONE[:2], TWO[2], ONE[3]]) - nll(ONE)
    found = relevance_judge(str(tiny_model_dir)).measure([make_dialog(ONE), make_dialog(TWO)], "en")
    assert found["gain"][0] == pytest.approx((first + second) / 2, abs=1e-5)
    assert found["fits"][0] == ((first > 0) + (second > 0)) / 2


def test_a_model_whose_layers_do_not_see_all_before_is_judged_in_padded_batches(tiny_model_dir, monkeypatch):
    talks = [make_dialog(ONE), make_dialog(TWO), make_dialog([*ONE, "Yes.", "I am glad."]), make_dialog([*TWO, *ONE])]
    talks.append(make_dialog([*TWO, "No.", "Why not?", *TWO[:2]]))
    shared = relevance_judge(str(tiny_model_dir)).measure(talks, "en")
    monkeypatch.setattr(relevance, "takes_trees", lambda _: False)
    monkeypatch.setattr(relevance, "run_tree", None)
    padded = relevance_judge(str(tiny_model_dir)).measure(talks, "en")
    assert shared["gain"] == pytest.approx(padded["gain"], abs=1e-5)


def test_another_type_of_numbers_is_part_of_the_signature(tiny_model_dir):
    talks = [make_dialog(ONE), make_dialog(TWO)]
    exact, coarse = relevance_judge(str(tiny_model_dir)), relevance_judge(f"{tiny_model_dir}#bfloat16")
    assert f"model:{tiny_model_dir}#bfloat16|" in coarse.signature("en")
    assert "#" not in exact.signature("en")
    found, rounded = exact.measure(talks, "en")["gain"], coarse.measure(talks, "en")["gain"]
    assert np.all(found != rounded)
    assert rounded == pytest.approx(found, abs=0.05)
    with pytest.raises(InputError, match="did you mean 'bfloat16'"):
        relevance_judge(f"{tiny_model_dir}#bfloat")


def test_the_plato_that_ships_sees_which_response_belongs_to_which_user():
    judge = relevance_judge("base-plato")
    own = judge.measure([make_dialog(d) for d in CHINESE], "zh")
    moved = [make_dialog([d[0], CHINESE[k - 1][1]]) for k, d in enumerate(CHINESE)]
    assert own["gain"].mean() > 0.05 > judge.measure(moved, "zh")["gain"].mean()
    assert own["fits"].mean() >= 0.75


def test_what_no_other_dialog_says_cannot_be_judged(tiny_model_dir):
    with pytest.raises(InputError, match="no other dialog has another utterance 1"):
        relevance_judge(str(tiny_model_dir)).measure([make_dialog(ONE)], "en")


def test_pege_score_has_it_beside_the_others(tiny_model_dir, tmp_path, capsys):
    write_rows(tmp_path / "talk.jsonl", [make_dialog(ONE, id="1"), make_dialog(TWO, id="2")])
    main(["score", str(tmp_path / "talk.jsonl"), "--judges", "repetition", f"relevance:{tiny_model_dir}", "--json"])
    found = json.loads(capsys.readouterr().out)["companions"]["relevance"]
    assert set(found) >= {"fits", "gain", "signature"}
    assert 0 <= found["fits"] <= 1
    assert np.isfinite(found["gain"])
