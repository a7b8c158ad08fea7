"""What work costs, in counts that no machine changes: a rise is a regression, whatever the clock says.

Each number is worked out in the comment beside it. H = 32, L = 2 layers, V = 400 tokens at most, 4 heads of 8 with 2 for
keys, an inner width of 64: the tiny model of `tests/conftest.py`.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections import Counter

import pytest
import torch
from tests.training.test_training import LORA, make_trainer
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from pege import products
from pege.agent.generate import LocalAgent
from pege.dialog import Context, make_dialog
from pege.io import write_rows
from pege.lexicon import load_lexicon
from pege.loss import pege_loss
from pege.models.causal import load_model
from pege.training import LossSettings
from pege.training.samples import make_samples

H, L = 32, 2
#: multiplications and additions of one token in a layer: q and o (H x H), k and v (H x H / 2), three of H x 2 H
LAYER = 2 * (2 * H * H + 2 * H * (H // 2) + 3 * H * 2 * H)
#: those of its LoRA, r = 4: q and v, forward, and the gradients of inputs and of both factors
ADAPTERS = 3 * 2 * 4 * ((H + H) + (H + H // 2))


class Sizes(TorchDispatchMode):
    """Notes the bytes of the largest tensor that any operation makes, and counts operations."""

    def __init__(self):
        super().__init__()
        self.largest, self.calls = 0, Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.calls[func.overloadpacket.__name__] += 1
        for t in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(t, torch.Tensor):
                self.largest = max(self.largest, t.numel() * t.element_size())
        return out


class Copies(TorchDispatchMode):
    """Notes how many numbers the largest copy of a tensor has."""

    def __init__(self):
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket.__name__ in ("clone", "contiguous", "reshape"):
            is_view = out.untyped_storage().data_ptr() == args[0].untyped_storage().data_ptr()
            self.largest = max(self.largest, 0 if is_view else out.numel())
        return out


class Products(TorchDispatchMode):
    """Adds up multiplications and additions of matrix products, those by [1, O] aside, by their dtype."""

    def __init__(self):
        super().__init__()
        self.flops = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in ("mm", "addmm", "addmm_", "_linear_pointwise"):
            a, b = (args[0], args[1].T) if name == "_linear_pointwise" else args[-2:]
            if 4 not in (*a.shape, *b.shape):
                self.flops[a.dtype] += 2 * a.shape[0] * a.shape[1] * b.shape[1]
        return func(*args, **(kwargs or {}))


@pytest.fixture
def setting(tiny_model_dir, lexicon_file, dialogs):
    model, tokenizer = load_model(tiny_model_dir, dtype="float32")
    lexicon = load_lexicon(lexicon_file)
    return model, tokenizer, lexicon, list(make_samples(dialogs, tokenizer, lexicon, max_length=200))


def peak_bytes(work):
    """What torch holds at most beyond what it held before, by its own account of each allocation."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        work()
    events = [e for e in found.profiler.kineto_results.events() if e.name() == "[memory]"]
    return max(itertools.accumulate(e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())))


def linear_flops(counter):
    counts = counter.get_flop_counts()["Global"]
    return sum(n for op, n in counts.items() if op.__name__ in ("mm", "addmm", "_linear_pointwise"))


@pytest.mark.parametrize("is_trained", [False, True])
def test_the_loss_never_makes_a_tensor_of_all_tokens_by_the_vocabulary(is_trained):
    n, v = 2000, 40_000
    hidden, weight = torch.randn(n, H, requires_grad=True), torch.randn(v, H, requires_grad=is_trained)
    with Sizes() as sizes:
        pege_loss(
            hidden, weight, torch.randint(0, v, (n,)), token_vad=torch.rand(v, 3), user_vad=torch.rand(3),
            p_positive=0.1, p_negative=0.7, n_utterances=5,
        ).loss.backward()  # fmt: skip
    assert sizes.largest <= 256 * v * 4  # a chunk of 256 tokens; the gradient of the head is smaller


@pytest.mark.parametrize("is_trained", [False, True])
def test_the_loss_holds_the_exponentials_of_a_chunk_and_two_tiles(is_trained):
    n, v = 1024, 30_000
    hidden, weight = torch.randn(n, H, requires_grad=True), torch.randn(v, H, requires_grad=is_trained)
    peak = peak_bytes(
        lambda: pege_loss(
            hidden, weight, torch.randint(0, v, (n,)), token_vad=torch.rand(v, 3), user_vad=torch.rand(3),
            p_positive=0.1, p_negative=0.7, n_utterances=5,
        ).loss.backward()
    )  # fmt: skip
    # the chunk: 32 MB where columns are left out, else 256 tokens; two tiles of 1024 columns, for what stays of one and
    # for its factors; [1, O] twice; the states gathered; the gradients, twice where they are handed on
    chunk = 256 * v if is_trained else 8_000_000
    gradients = 2 * (n * H + is_trained * v * H)
    assert peak <= 4 * (chunk + 2 * 256 * 1024 + 2 * 4 * v + n * H + gradients) + 2**20


@pytest.mark.parametrize("has_idle_units", [False, True])
@pytest.mark.parametrize("is_trained", [False, True])
def test_the_loss_multiplies_in_float32_only_the_columns_that_matter(is_trained, has_idle_units, monkeypatch):
    monkeypatch.setattr(products, "has_idle_units", lambda: has_idle_units)
    # each 20th column has nearly all of the softmax, among them 64 labels: others lie 15 below. Of each of 8 tiles,
    # whose 51 or 52 stay, 64 do: shapes of products are few
    t, h, v, n_heavy, n, n_labels = 768, 64, 8192, 410, 8 * 64, 64
    g = torch.Generator().manual_seed(0)
    hidden = torch.cat([torch.randn(t, h - 1, generator=g) / h**0.5, torch.full((t, 1), 7.5)], 1).requires_grad_()
    weight = torch.cat([torch.randn(v, h - 1, generator=g), torch.full((v, 1), -1.0)], 1)
    weight[::20, -1] = 1
    weight.requires_grad_(is_trained)

    def columns(**exactness):
        with Products() as counted:
            pege_loss(
                hidden, weight, torch.arange(t) % n_labels * 20, token_vad=torch.rand(v, 3, generator=g),
                user_vad=torch.rand(3, generator=g), p_positive=0.1, p_negative=0.7, n_utterances=5, **exactness,
            ).loss.backward()  # fmt: skip
        return {dtype: flops / (2 * t * h) for dtype, flops in counted.flops.items()}

    backward = 1 + is_trained  # gradients of the hidden states, and of the matrix
    single, half = torch.float32, torch.bfloat16
    # forward, and the logits of the labels by themselves
    assert columns(filter_eps=0.0) == {single: v + n_labels + v * backward}
    assert columns(filter_eps=1e-3, low_eps=0.0) == {single: v + n_labels + n * backward}
    low = columns(filter_eps=1e-6, low_eps=1e-3)
    n_again = 7 * 64 if has_idle_units else n_heavy  # filled up there
    assert low[single] == n_labels + n_again * (1 + backward)
    assert v < low[half] <= v + v * backward


def test_a_step_with_lora_multiplies_each_token_once_forward_and_once_backward(setting, tmp_path):
    n, head = tokens_and_head(setting)
    body = n * L * LAYER
    # forward, and the gradient of the inputs but not of frozen weights; below the first adapter none: the first
    # layer's projections of its own inputs
    assert body + head / 2 < lora_flops(setting, tmp_path) <= 2 * body + head + n * L * ADAPTERS


def test_nothing_goes_back_below_the_lowest_adapter(setting, tmp_path):
    n, head = tokens_and_head(setting)
    # as above, but backward through the upper layer alone, and one layer's LoRA
    most = n * (L + 1) * LAYER + head + n * ADAPTERS
    assert lora_flops(setting, tmp_path, layers_to_transform=[L - 1]) <= most


def tokens_and_head(setting):
    """Tokens of all samples; the head's logits and their gradient of learned ones, no (V, H) one, the (V, 4) table twice."""
    labels = [label for s in setting[3] for label in s["labels"]]
    n_learned = sum(label != -100 for label in labels)
    return len(labels), n_learned * setting[0].lm_head.weight.shape[0] * 2 * (2 * H + 2 * 4)


def lora_flops(setting, tmp_path, **lora):
    """Multiplications and additions of a step where only LoRA learns."""
    from peft import LoraConfig, get_peft_model

    model, tokenizer, lexicon, samples = setting
    wrapped = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **LORA, **lora))
    trainer = make_trainer((wrapped, tokenizer, lexicon, samples), tmp_path, LossSettings())
    wrapped.train()
    batch = trainer.data_collator(samples)
    with FlopCounterMode(display=False) as counter:
        trainer.compute_loss(wrapped, batch).backward()
    return linear_flops(counter)


def test_padding_costs_nothing_in_a_step(setting, tmp_path):
    trainer = make_trainer(setting, tmp_path, LossSettings())
    samples = setting[3]
    found = {}
    for trainer.packs in (True, False):
        with FlopCounterMode(display=False) as counter:
            trainer.compute_loss(trainer.model, trainer.data_collator(samples)).backward()
        found[trainer.packs] = linear_flops(counter)
    n_tokens = sum(len(s["input_ids"]) for s in samples)
    n_padding = len(samples) * max(len(s["input_ids"]) for s in samples) - n_tokens
    assert n_padding > 0
    # each token of padding costs a forward, and the gradients of inputs and weights; and each row more the logits of
    # its last token, which the model computes itself and nobody reads
    n_logits = 2 * (len(samples) - 1) * trainer.model.lm_head.weight.numel()
    assert found[False] - found[True] == 3 * n_padding * L * LAYER + n_logits


def test_a_turn_of_a_self_chat_multiplies_only_what_is_new(tiny_model_dir):
    model, tokenizer = load_model(tiny_model_dir, dtype="float32")
    words = {"do_sample": False, "max_new_tokens": 3, "suppress_tokens": [0, 1, 2, 3, 4]}  # never ends early
    agent = LocalAgent("a", model, tokenizer, generation=words, keep_cache=True)
    flight = agent.flight()
    first = Context(utterances=make_dialog(["I lost my dog and I am so sad. " * 6]).messages)
    flight.add(0, first, seed=())
    (said,) = [x for _ in range(4) for x in flight.step()]
    more = make_dialog([first.utterances[0].content, said[1] or "x", "Hi"]).messages
    second = Context(utterances=more)
    (old,), (new,) = agent.prompts([first])[0], agent.prompts([second])[0]
    flight.add(0, second, seed=())
    with FlopCounterMode(display=False) as counter, Copies() as copies:
        while len(flight):
            flight.step()
    n_new = len(new) - len(old)  # what was said, Hi, their headers
    n_read = linear_flops(counter) / (L * LAYER)
    assert n_read < n_new + 3 + 3 * model.lm_head.weight.numel() * 2 / (L * LAYER)
    assert n_new < len(old) / 2
    assert copies.largest < len(new) * H  # keys, half as wide, are not repeated for the heads that share them


@pytest.mark.parametrize(
    ("arguments", "n_at_most", "never"),
    [
        # cyclopts, rich, yaml and the standard library: 300 when this was written
        (["--help"], 400, {"torch", "transformers", "numpy", "pyarrow", "pydantic", "matplotlib", "jieba", "scipy"}),
        # and numpy, pyarrow, pydantic, 780: no model, no plots, no scipy.stats, no other language
        (
            ["score", "FILE", "--n-resamples", "99"],
            1400,
            {"torch", "transformers", "matplotlib", "jieba", "scipy.stats", "sacrebleu"},
        ),
    ],
)
def test_a_command_imports_what_it_needs_and_no_more(arguments, n_at_most, never, dialogs, tmp_path):
    write_rows(tmp_path / "chats.jsonl", dialogs)
    arguments = [str(tmp_path / "chats.jsonl") if a == "FILE" else a for a in arguments]
    code = (
        "import sys, json; from pege.cli import main\n"
        f"main({arguments!r})\n"
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = json.loads(done.stderr.splitlines()[-1])
    assert not never & set(modules)
    assert len(modules) <= n_at_most
