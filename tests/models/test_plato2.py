"""PLATO-2 against PaddleNLP's own values (tests/reference/plato2.py), its cache, its converter."""

from __future__ import annotations

import json
import pickle
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from pege.errors import InputError
from pege.models.paddle_files import read_pdparams
from pege.models.plato2 import SIZES, Plato2Config, Plato2ForConditionalGeneration
from pege.models.plato2.convert import _KNOVER, _KNOVER_STATIC, _PADDLENLP, _TRANSPOSED, convert_plato, their_name

REFERENCE = Path(__file__).parents[1] / "reference" / "plato2"
NAMES = ("pre", "post", "role")


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """Folder of each converted reference model."""
    root = tmp_path_factory.mktemp("plato")
    return {n: convert_plato(REFERENCE / n, root / n) for n in NAMES}


def inputs_of(values, case, name):
    found = {
        "input_ids": torch.from_numpy(values[f"{case}.ids"]),
        "token_type_ids": torch.from_numpy(values[f"{case}.types"]),
        "position_ids": torch.from_numpy(values[f"{case}.positions"]),
        "attention_mask": torch.from_numpy(values[f"{case}.seen"]).long(),
    }
    return found | ({"role_ids": torch.from_numpy(values[f"{case}.roles"])} if name == "role" else {})


@pytest.mark.parametrize("case", range(4))
@pytest.mark.parametrize("name", NAMES)
def test_logits_are_paddlenlps(converted, name, case):
    values = np.load(REFERENCE / name / "values.npz")
    model = Plato2ForConditionalGeneration.from_pretrained(converted[name]).eval()
    inputs = inputs_of(values, case, name)
    n_pad = int((values[f"{case}.seen"][0, 0] == 0).argmin())
    with torch.inference_mode():
        logits = model(**inputs).logits
        np.testing.assert_allclose(logits[:, n_pad:], values[f"{case}.logits"][:, n_pad:], atol=1e-4)
        # which keys are padding is enough: the rest follows from the types
        derived = model(**{**inputs, "attention_mask": inputs["attention_mask"][:, -1]}).logits
        np.testing.assert_allclose(derived[:, n_pad:], logits[:, n_pad:], atol=1e-5)


@pytest.mark.parametrize("case", range(4))
@pytest.mark.parametrize("name", NAMES)
def test_step_by_step_with_the_cache(converted, name, case):
    values = np.load(REFERENCE / name / "values.npz")
    model = Plato2ForConditionalGeneration.from_pretrained(converted[name]).eval()
    inputs = inputs_of(values, case, name)
    n_context = int((values[f"{case}.types"][0] == 0).sum())
    n = inputs["input_ids"].shape[1]
    cache, steps = None, []
    with torch.inference_mode():
        for stop in [n_context, *range(n_context + 1, n + 1)]:
            start = 0 if cache is None else stop - 1
            now = {k: v[:, start:stop] for k, v in inputs.items() if k != "attention_mask"}
            mask = inputs["attention_mask"][:, start:stop, :stop]
            out = model(**now, attention_mask=mask, cache=cache, use_cache=True)
            cache = out.cache
            steps.append(out.logits)
    n_pad = int((values[f"{case}.seen"][0, 0] == 0).argmin())
    np.testing.assert_allclose(torch.cat(steps, 1)[:, n_pad:], values[f"{case}.steps"][:, n_pad:], atol=1e-4)


def small(**more):
    torch.manual_seed(0)
    return Plato2ForConditionalGeneration(Plato2Config.of_size("tiny", vocab_size=60, mask_token_id=59, **more)).eval()


def test_generation_is_what_full_passes_give_and_never_says_unk_bos_or_mask():
    model = small(role_type_size=3)
    ids = torch.randint(3, 59, (2, 7))
    types, roles = torch.tensor([[0] * 6 + [1]] * 2), torch.tensor([[1, 1, 1, 2, 2, 2, 0]] * 2)
    mask = torch.ones_like(ids)
    mask[1, :2] = 0  # padded on the left
    with torch.inference_mode():
        written = model.generate(
            ids, attention_mask=mask, token_type_ids=types, role_ids=roles, max_new_tokens=6, do_sample=False
        )
        for k in range(7, written.shape[1]):
            n = k - 7
            out = model(
                written[:, :k],
                token_type_ids=torch.cat((types, torch.ones(2, n, dtype=torch.long)), 1),
                role_ids=torch.cat((roles, torch.zeros(2, n, dtype=torch.long)), 1),
                attention_mask=torch.cat((mask, torch.ones(2, n, dtype=torch.long)), 1),
            )
            logits = out.logits[:, -1]
            logits[:, [0, 1, 59]] = -torch.inf
            going = (written[:, 7:k] != 2).all(1)
            assert torch.equal(logits.argmax(-1)[going], written[going, k])


def test_saved_and_loaded_by_the_auto_class_it_is_the_same_and_tied(tmp_path):
    model = small()
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    ids = torch.randint(3, 59, (1, 5))
    assert torch.equal(model(ids).logits, again(ids).logits)
    assert again.lm_head.decoder.weight is again.model.embeddings.word_embeddings.weight
    assert (tmp_path / "model.safetensors").is_file()


def test_gradient_checkpointing_gives_the_same_gradients():
    grads = []
    for checkpointing in (False, True):
        model = small(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        ids = torch.arange(3, 12)[None]
        model(ids, token_type_ids=torch.tensor([[0] * 4 + [1] * 5]), labels=ids).loss.backward()
        grads.append([p.grad.clone() for p in model.parameters()])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)


def test_published_sizes_have_their_published_parameters():
    with torch.device("meta"):
        count = {s: Plato2ForConditionalGeneration(Plato2Config.of_size(s)).num_parameters() for s in ("24L", "32L")}
    assert SIZES["24L"]["hidden_size"] == 1024
    assert 300e6 < count["24L"] < 320e6
    assert 1.55e9 < count["32L"] < 1.65e9


@pytest.mark.parametrize("layout", [_PADDLENLP, _KNOVER, _KNOVER_STATIC])
def test_every_layout_gives_the_same_model(layout, tmp_path):
    model = small()
    arrays = {
        their_name(n, layout): (p.T if _TRANSPOSED.search(n) else p).detach().numpy().copy()
        for n, p in model.named_parameters()
    }
    source = tmp_path / "in"
    source.mkdir()
    config = model.config.to_dict()
    (source / "config.json").write_text(model.config.to_json_string())
    if layout is _KNOVER_STATIC:
        for name, array in arrays.items():
            (source / name).write_bytes(variable_bytes(array))
    else:
        (source / "model_state.pdparams").write_bytes(pickle.dumps(arrays, protocol=2))
    again = Plato2ForConditionalGeneration.from_pretrained(convert_plato(source, tmp_path / "out")).eval()
    assert again.config.hidden_size == config["hidden_size"]
    ids = torch.randint(3, 59, (1, 5))
    assert torch.equal(model(ids).logits, again(ids).logits)


def variable_bytes(array):
    """A variable as Paddle 1 writes it (LoDTensor)."""
    description = b"\x08\x05" + b"".join(b"\x10" + varint(n) for n in array.shape)
    return struct.pack("<IQIi", 0, 0, 0, len(description)) + description + array.astype("<f4").tobytes()


def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


class Bomb:
    """What would run if it were unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def broken(tmp_path, change):
    folder = tmp_path / "in"
    shutil.copytree(REFERENCE / "pre", folder)
    change(folder)
    return folder


def replace_arrays(change):
    def apply(folder):
        arrays = read_pdparams(folder / "model_state.pdparams")
        change(arrays)
        (folder / "model_state.pdparams").write_bytes(pickle.dumps(arrays, protocol=4))

    return apply


Q = "unified_transformer.encoder.layers.0.self_attn.q_proj.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (replace_arrays(lambda a: a.pop(Q)), "q_proj.weight' is missing"),
        (replace_arrays(lambda a: a.update({Q: a[Q][:, :3]})), "q_proj.weight' has the shape"),
        (replace_arrays(lambda a: a.update({Q: a[Q] * np.nan})), "not finite"),
        (replace_arrays(lambda a: a.update(other=a[Q])), "'other'"),
        (replace_arrays(lambda a: a.update(words=np.array(["x"], dtype=object))), "not of numbers"),
        (lambda f: (f / "model_state.pdparams").write_bytes((f / "model_state.pdparams").read_bytes()[:-99]), "cut"),
        (lambda f: (f / "model_state.pdparams").write_bytes(b"PK\x03\x04" + b"x" * 40), "beside arrays|broken|cut"),
        (lambda f: (f / "model_state.pdparams").unlink(), "no weights"),
        (lambda f: (f / "model_config.json").write_text('{"hidden_size": 16, "vocab_size": "many"}'), "config"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_left(change, message, tmp_path):
    with pytest.raises(InputError, match=message) as caught:
        convert_plato(broken(tmp_path, change), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_code_in_a_file_of_weights_never_runs(tmp_path):
    mark = tmp_path / "mark"
    folder = broken(tmp_path, replace_arrays(lambda a: a.update(bomb=Bomb(mark))))
    with pytest.raises(InputError, match=r"io\.open"):
        convert_plato(folder, tmp_path / "out")
    assert not mark.exists()


class Reduced:
    """What a file may ask to be called, with the state to follow."""

    def __init__(self, *parts):
        self.parts = parts

    def __reduce__(self):
        return self.parts


def endless():
    """A few hundred bytes whose text is longer than any memory."""
    found = ("x", "x")
    for _ in range(60):
        found = (found, found)
    return found


RECONSTRUCT = np.zeros(0).__reduce__()[0]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        # numpy's own reads beyond such a list
        (lambda: Reduced(RECONSTRUCT, (np.ndarray, (0,), b"b"), (1, (10**6,), np.dtype("O"), False, [1])), "numbers"),
        (lambda: np.array([Reduced(eval, ("1",))], dtype=object), "numbers|eval"),
        (lambda: Reduced(eval, ("1",)), "builtins.eval"),
        (lambda: Reduced(np.ndarray, ((2**40,), "u2", b"xx", 0, (0,))), "broken"),
        (lambda: Reduced(RECONSTRUCT, (np.ndarray, (2**40,), b"b")), "'x' is no array"),
        (lambda: Reduced(np.dtype, ("V2000000000",)), "numbers"),
        (endless, "'x' is no array"),
    ],
)
def test_arrays_that_no_file_holds_are_refused_at_once(value, message, tmp_path):
    path = tmp_path / "x.pdparams"
    path.write_bytes(pickle.dumps({"x": value()}, protocol=4))
    with pytest.raises(InputError, match=message):
        read_pdparams(path)


@pytest.mark.parametrize(
    "found",
    [
        dict.fromkeys(map(str, range(1000)), np.zeros(2**16, np.uint16)),  # one array, widened under each name
        {"x": np.zeros(2), "UnpackBigParamInfor@@": {"y": {"OriginShape": (2,), "slices": [endless()]}}},
    ],
)
def test_a_small_file_never_fills_the_memory(found, tmp_path):
    path = tmp_path / "x.pdparams"
    path.write_bytes(pickle.dumps(found, protocol=4))
    with pytest.raises(InputError, match=r"larger than the file|slices"):
        read_pdparams(path)


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("form", ["plain", "pairs", "reduced pairs", "fortran", "big-endian"])
def test_every_way_that_paddle_saves_arrays_gives_them_back(form, protocol, tmp_path):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    value = {
        "plain": array, "pairs": ("w_0", array), "reduced pairs": Reduced(tuple, (("w_0", array),)),
        "fortran": np.asfortranarray(array), "big-endian": array.astype(">f8"),
    }[form]  # fmt: skip
    path = tmp_path / "x.pdparams"
    path.write_bytes(pickle.dumps({"w": value, "StructuredToParameterName@@": {"w": "w_0"}}, protocol=protocol))
    np.testing.assert_array_equal(read_pdparams(path)["w"], array)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocab_size": 10**9}, "has the shape"),
        ({"hidden_size": 2 * 10**7}, "has the shape"),
        ({"num_hidden_layers": 10**7}, "num_hidden_layers"),
        ({"num_attention_heads": 0}, "num_attention_heads"),
        ({"hidden_act": "evil"}, "evil"),
        ({"hidden_dropout_prob": 7}, "dropout"),
        ({"layer_norm_eps": "x"}, "layer_norm_eps"),
        ({"normalize_before": "no"}, "normalize_before"),
        ({"vocab_size": -5}, "vocab_size"),
        ({"mask_token_id": "x"}, "mask_token_id"),
    ],
)
def test_a_config_of_another_network_is_one_line_and_takes_no_memory(change, message, tmp_path):
    def apply(folder):
        config = json.loads((folder / "model_config.json").read_text())
        (folder / "model_config.json").write_text(json.dumps(config | change))

    with pytest.raises(InputError, match=message) as caught:
        convert_plato(broken(tmp_path, apply), tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_the_nested_config_of_older_folders_is_the_flat_one(tmp_path):
    def apply(folder):
        config = json.loads((folder / "model_config.json").read_text())
        inner = {k: v for k, v in config.items() if k not in ("architectures", "model_type")}
        nested = {
            "init_args": [inner | {"init_class": "UnifiedTransformerModel"}], "init_class": "UnifiedTransformerLMHeadModel",
        }  # fmt: skip
        (folder / "model_config.json").write_text(json.dumps(nested))

    out = convert_plato(broken(tmp_path, apply), tmp_path / "out")
    again = Plato2Config.from_pretrained(out)
    assert (again.hidden_size, again.intermediate_size, again.mask_token_id) == (16, 24, 40)


@pytest.mark.parametrize("kind", [torch.long, torch.bool, torch.float32])
def test_a_mask_may_be_of_any_kind_and_a_row_that_sees_nothing_is_a_number(kind):
    model, ids = small(), torch.arange(3, 12).view(1, 9)
    seen = torch.tril(torch.ones(1, 9, 9, dtype=torch.long))
    seen[:, :2] = 0
    seen[:, :, :2] = 0
    with torch.inference_mode():
        whole = model(ids, attention_mask=seen.to(kind)).logits
        assert torch.isfinite(whole).all()
        assert torch.equal(whole, model(ids, attention_mask=seen).logits)
        positions = torch.arange(9)[None]
        first = model(
            ids[:, :5], position_ids=positions[:, :5], attention_mask=seen[:, :5, :5].to(kind), use_cache=True
        )
        rest = model(
            ids[:, 5:],
            position_ids=positions[:, 5:],
            attention_mask=seen.to(kind),
            past_key_values=first.past_key_values,
        )
    torch.testing.assert_close(rest.logits[:, :], whole[:, 5:])


@pytest.mark.parametrize(
    "text", [b"cos\nsystem\n(S'true'\ntR.", b"c_codecs\nencode\n(X\x01\x00\x00\x00xX\x03\x00\x00\x00zipt\x85R."]
)
def test_other_names_and_codecs_are_refused(text, tmp_path):
    (tmp_path / "x.pdparams").write_bytes(text)
    with pytest.raises(InputError):
        read_pdparams(tmp_path / "x.pdparams")


def test_the_loss_is_the_shifted_mean_and_copies_no_logits():
    model, ids = small(), torch.randint(3, 59, (2, 9))
    labels = ids.masked_fill(torch.rand(2, 9) < 0.4, -100)
    out = model(ids, labels=labels)
    log_probs = out.logits.log_softmax(-1)[:, :-1]
    picked = [-log_probs[b, s, labels[b, s + 1]] for b in range(2) for s in range(8) if labels[b, s + 1] != -100]
    torch.testing.assert_close(out.loss, torch.stack(picked).mean())
    node, names = out.loss.grad_fn, []
    while "Addmm" not in type(node).__name__:
        names.append(type(node).__name__)
        node = node.next_functions[0][0]
    assert not [n for n in names if "Slice" in n or "Clone" in n], names
