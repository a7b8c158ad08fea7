"""The PLATO-2-mini that ships: it loads by name, reads what it was trained on, and stays small."""

from __future__ import annotations

from pege.agent import load_agent
from pege.dialog import make_dialog
from pege.io import write_rows
from pege.models.causal import SHIPPED, load_model, resolve_model, run_settings
from pege.training.measure import measure_perplexity

FITTING = ["最近压力很大，总是睡不着。", "我能理解你的感受。你可以试着多和朋友聊聊，放松一下自己。"]


def test_base_plato_is_found_by_name_and_is_one_response_at_a_time():
    model, tokenizer = load_model("base-plato")
    assert resolve_model("base-plato") == str(SHIPPED["base-plato"])
    assert run_settings("base-plato")["emotion_input"] is False
    assert model.config.model_type == "plato2"
    assert model.get_input_embeddings().weight.shape[0] == len(tokenizer)
    assert sum(p.numel() for p in model.parameters()) == 17_055_617


def test_base_plato_has_learned_chinese_and_answers(tmp_path):
    scrambled = ["".join(sorted(FITTING[0])), "".join(sorted(FITTING[1]))]
    for name, texts in {"fitting": FITTING, "scrambled": scrambled}.items():
        write_rows(tmp_path / f"{name}.jsonl", [make_dialog(texts, id=name)])
    nll = {n: measure_perplexity("base-plato", [str(tmp_path / f"{n}.jsonl")])["nll"] for n in ("fitting", "scrambled")}
    assert nll["fitting"] < 5.0 < nll["scrambled"]
    (said,) = load_agent("base-plato").respond([next(make_dialog(FITTING).contexts())], seed=0)
    assert said.strip()


def test_what_ships_stays_below_40_mb():
    assert sum(f.stat().st_size for f in SHIPPED["base-plato"].iterdir()) < 40e6
