"""Where the time goes, and how far from the machine's limits: the loss, training, self-chat, scoring.

    python benchmarks/shares.py [loss train selfchat score] [--output FILE]

Each work of `make bench` is run once more, smaller, under a profiler: torch's for models, Python's own for scoring. An
operation counts by its own time. Operations of models are put in kinds by their names; what no operation takes is the
rest, Python above all. Multiplications and additions are counted (`FlopCounterMode`), and set against the rate of a
large matrix product in the same process; for self-chat, also the bytes of weights, keys and values that its steps read
at least, against the rate of a large copy.
"""

from __future__ import annotations

import cProfile
import itertools
import pstats
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import score
import torch
import train
from cyclopts import App, Parameter
from rows import processor, show
from timing import time_steps
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils.flop_counter import FlopCounterMode

import loss
import selfchat
from pege.agent.flight import Flight
from pege.agent.rows import RowsCache
from pege.emotion import load_emotion_classifier, with_emotions
from pege.lexicon import load_lexicon
from pege.loss import tiles
from pege.metrics.pege import utterance_vads
from pege.models.causal import load_model
from pege.products import product
from pege.selfchat import load_starters
from pege.training import PegeTrainer

Part = Literal["loss", "train", "selfchat", "score"]
ONEDNN = "mkldnn::_linear_pointwise"  # of pege.products
KINDS = {  # of operations, by their names
    "products": ("mm", "addmm", "addmm_", "linear", "addmv_", "mv", "addr_", "bmm", "baddbmm", ONEDNN),
    "attention": (
        "_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention_for_cpu_backward",
    ),
    "copies, conversions, sums of tensors": (
        "copy_", "add_", "add", "sub", "fill_", "zero_", "index_add_", "cat", "_foreach_add_", "masked_scatter",
    ),
    "exponentials and what is done to them": ("exp_", "exp", "mul_", "sub_", "amax", "sum", "index_fill_"),
    "between the products: norms, gates, rotations": (
        "mul", "silu", "silu_backward", "pow", "rsqrt", "mean", "neg", "div", "dropout", "native_dropout",
    ),
    "picking rows and columns": ("index_select", "index", "gather", "nonzero", "_index_put_impl_", "embedding"),
    "ordering by mass, drawing a token": ("sort", "topk", "cumsum", "le", "searchsorted", "_softmax", "masked_fill_"),
    "the optimizer": ("_fused_adamw_", "_foreach_addcdiv_", "_foreach_addcmul_", "_foreach_lerp_", "_foreach_mul_",
                      "_foreach_sqrt", "_foreach_norm"),
}  # fmt: skip
OUR_LOSS, READING, SAYING = NAMED = ("our loss", "reading what is new", "a token of each row")
_PEAK_SIZE, _N_PEAK = 3072, 7


def peak_flops(dtype: torch.dtype, by: Callable[..., Any] = product) -> float:
    """Multiplications and additions a second of a large matrix product, the best of some."""
    a, b, out = (torch.randn(_PEAK_SIZE, _PEAK_SIZE).to(dtype) for _ in range(3))
    return 2 * _PEAK_SIZE**3 / best_of(_N_PEAK, lambda: by(a, b, out=out))


def peak_bytes() -> float:
    """Bytes read and written a second by a large copy, the best of some."""
    a = torch.empty(64 * 2**20)
    b = torch.empty_like(a)
    return 2 * a.nbytes / best_of(_N_PEAK, lambda: b.copy_(a))


def best_of(n: int, step: Callable[[], Any]) -> float:
    """Seconds of the fastest of n runs of a step."""

    def seconds() -> float:
        start = time.perf_counter()
        step()
        return time.perf_counter() - start

    return min(seconds() for _ in range(n))


def profiled(step: Callable[[], Any]) -> tuple[Counter[str], Counter[str]]:
    """Run a step; give the seconds of each kind of operation, which add up to all that it took, and flops of each."""
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True, with_flops=True) as found:
        total = best_of(1, step)
    seconds: Counter[str] = Counter()
    flops: Counter[str] = Counter()
    for event in found.events():
        kind = _kind(event)
        seconds[kind] += event.self_cpu_time_total / 1e6
        flops[kind] += _flops_of(event)
    seconds["the rest"] += total - seconds.total()
    return seconds, flops


def profiled_steps(play: Callable[[], Any], owner: type, name: str, every: int) -> tuple[Counter[str], Counter[str]]:
    """Play, with one in so many calls of a method profiled, for the profiler takes long over many operations."""
    plain, calls = getattr(owner, name), itertools.count(1)
    seconds: Counter[str] = Counter()
    flops: Counter[str] = Counter()

    def step(self: Any) -> Any:
        if next(calls) % every:
            return plain(self)
        given = []
        for sums, found in zip((seconds, flops), profiled(lambda: given.append(plain(self))), strict=True):
            sums.update(found)
        return given[0]

    setattr(owner, name, step)
    try:
        play()
    finally:
        setattr(owner, name, plain)
    return seconds, flops


def _flops_of(event: Any) -> int:
    if event.name == ONEDNN:
        (m, k), (n, _) = event.input_shapes[:2]
        return int(2 * m * k * n)
    return event.flops or 0


def _kind(event: Any) -> str:
    name = event.name.removeprefix("aten::")
    kind = next((k for k, names in KINDS.items() if name in names), "the rest")
    above = event
    while above is not None and above.name not in NAMED:
        above = above.cpu_parent
    if above is not None and above.name == OUR_LOSS:
        return f"{OUR_LOSS}: {'products' if kind == 'products' else 'the rest'}"
    if above is not None:
        return f"{above.name}: {kind}"
    if kind == "products":
        thin = any(len(s) == 2 and min(s) == 4 for s in event.input_shapes or ())
        low = "c10::BFloat16" in (event.input_dtypes or ())
        kind += " with [1, O]" if thin else " in bfloat16" if low else " in float32"
    return kind


def lines_of(work: str, seconds: Counter[str]) -> list[str]:
    """Rows of the table; what takes less than a hundredth is left out."""
    total = seconds.total()
    return [f"| {work} | {k} | {100 * s / total:.0f} |" for k, s in seconds.most_common() if s >= 0.01 * total]


def counted_flops(step: Callable[[], Any]) -> int:
    """Multiplications and additions of a step."""
    with FlopCounterMode(display=False) as counter:
        step()
    return int(counter.get_total_flops())


def against(what: str, done: float, seconds: float, peak: float, unit: str) -> str:
    """Say how far from a limit something is."""
    return (
        f"{what}: {done / seconds / 1e9:.0f} {unit} over all {seconds:.1f} s, "
        f"{done / seconds / peak:.0%} of {peak / 1e9:.0f}."
    )


def share_of_columns(inputs: dict[str, torch.Tensor], but: float) -> float:
    """Share of the vocabulary that makes up all but so much of the softmax which is not the labels', mean over chunks.

    The softmax is averaged over a chunk of tokens, as the loss does where it takes the fewest.
    """
    shares = []
    weight = inputs["weight"].detach()
    for hidden, labels in zip(
        inputs["hidden"].detach().split(tiles.FILTERED_TOKENS),
        inputs["labels"].split(tiles.FILTERED_TOKENS),
        strict=True,
    ):
        softmax = (hidden @ weight.T).float().softmax(1)
        softmax[torch.arange(len(labels)), labels] = 0.0
        masses = softmax.mean(0).sort().values.double().cumsum(0)
        shares.append(float((masses > but * masses[-1]).double().mean()))
    return sum(shares) / len(shares)


def by_mass(inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Give the same inputs with the vocabulary in the order of its softmax, the most first."""
    weight = inputs["weight"].detach()
    mass = sum((h @ weight.T).float().softmax(1).sum(0) for h in inputs["hidden"].detach().split(tiles.FILTERED_TOKENS))
    order = torch.as_tensor(mass).argsort(descending=True)
    return {
        "hidden": inputs["hidden"].detach().clone().requires_grad_(),
        "weight": weight[order].requires_grad_(inputs["weight"].requires_grad),
        "labels": order.argsort()[inputs["labels"]],
        "token_vad": inputs["token_vad"][order],
    }


def loss_part() -> tuple[list[str], list[str]]:
    """A step of the fused loss in each shape."""
    lines = []
    peaks = {f"products in {t}": peak_flops(getattr(torch, t)) for t in ("bfloat16", "float32")}
    rates = peak_flops(torch.float32, torch.mm) / 1e9, peaks["products in float32"] / 1e9
    said = ["products in float32: {:.0f} Gflop/s by torch.mm, {:.0f} by pege.products.".format(*rates)]
    for shape in (*loss.SHAPES, loss.REAL):
        inputs = loss.inputs_of(shape)
        shares = (f"{share_of_columns(inputs, but):.0%} all but {but:g}" for but in (1e-3, 1e-5))
        said.append(f"loss {shape}, columns that make up the softmax which is not the labels': {', '.join(shares)}.")
        step = loss.make_steps(inputs)["PEGE fused"]
        ordered = loss.make_steps(by_mass(inputs))["PEGE fused"]
        plain, sorted_ = time_steps({"plain": step, "sorted": ordered}, _N_PEAK).values()
        ratio = statistics.median(sorted_) / statistics.median(plain)
        said.append(f"loss {shape}, the vocabulary in the order of its softmax: {ratio:.2f} times the time.")
        seconds, flops = profiled(step)
        lines += lines_of(f"loss {shape}", seconds)
        for kind, peak in peaks.items():
            if flops[kind]:
                said.append(against(f"loss {shape}, {kind}", flops[kind], seconds[kind], peak, "Gflop/s"))
    return lines, said


def train_part() -> tuple[list[str], list[str]]:
    """An epoch of our trainer, with its loss by itself; what making batches takes beside it."""
    plain, collate, batches = PegeTrainer._guided_loss, train.collate, 0.0

    def named(self: Any, *arguments: Any) -> Any:
        with record_function(OUR_LOSS):
            return plain(self, *arguments)

    def timed(rows: Any, **more: Any) -> Any:
        nonlocal batches
        start = time.perf_counter()
        batch = collate(rows, **more)
        batches += time.perf_counter() - start
        return batch

    PegeTrainer._guided_loss, train.collate = named, timed
    try:
        with tempfile.TemporaryDirectory() as folder:
            epoch = train.pege_epoch(train.some_dialogs(32), 8, folder, bf16=False)
            flops = counted_flops(epoch)
            seconds, _ = profiled(epoch)
            total = best_of(3, epoch)
            batches = 0.0
            beside = best_of(1, epoch)
    finally:
        PegeTrainer._guided_loss, train.collate = plain, collate
    work = "training, an epoch of 32 dialogs, float32"
    said = [
        against(work, flops, total, peak_flops(torch.float32), "Gflop/s"),
        f"{work}: making its batches takes {1e3 * batches:.0f} ms of {beside:.1f} s.",
    ]
    return lines_of(work, seconds), said


def selfchat_part() -> tuple[list[str], list[str]]:
    """Dialogs in flight; the model read once a step, the keys and values of each row with it."""
    model, tokenizer = load_model("base", dtype="float32")
    sides = selfchat.make_agents(model, tokenizer, keep_cache=True)
    starters = with_emotions(load_starters("en")[:100], load_emotion_classifier().emotions, anew=True)
    weights = sum(p.nbytes for p in model.parameters())
    read, plain = 0, RowsCache.read

    def counted(self: Any, tokens: Any, starts: Any, **more: Any) -> Any:
        nonlocal read
        config = model.config
        head_size = config.hidden_size // config.num_attention_heads
        a_token = 2 * config.num_hidden_layers * config.num_key_value_heads * head_size * 4
        read += weights + a_token * sum(starts)
        with record_function(READING if any(len(t) > 1 for t in tokens) else SAYING):
            return plain(self, tokens, starts, **more)

    def play() -> None:
        selfchat.in_flight(sides, starters, 10, 0)

    RowsCache.read = counted
    try:
        seconds, _ = profiled_steps(play, Flight, "step", 5)
        read = 0
        total = best_of(1, play)
    finally:
        RowsCache.read = plain
    flops = counted_flops(play)
    work = "self-chat, 100 dialogs of 20 utterances, float32"
    said = [
        against(work, flops, total, peak_flops(torch.float32), "Gflop/s"),
        against(f"{work}, weights, keys and values", read, total, peak_bytes(), "GB/s"),
    ]
    return lines_of(work, seconds), said


def score_part() -> tuple[list[str], list[str]]:
    """Functions by their own time."""
    lines = []
    for name, kind, texts in score.utterances_of_kinds(300_000):
        lang = kind.lang
        lexicon = load_lexicon(f"pege-{lang}")
        utterance_vads(texts[:5_000], lexicon, lang)
        recorder = cProfile.Profile()
        recorder.runcall(utterance_vads, texts, lexicon, lang)
        stats: dict[Any, Any] = pstats.Stats(recorder).stats
        seconds = Counter({f"`{function}`": own for (_, _, function), (_, _, own, _, _) in stats.items()})
        lines += lines_of(f"scoring, {name}", seconds)
    return lines, []


PARTS: dict[Part, Callable[[], tuple[list[str], list[str]]]] = {
    "loss": loss_part,
    "train": train_part,
    "selfchat": selfchat_part,
    "score": score_part,
}
app = App(help="Where the time goes.", default_parameter=Parameter(negative=()))


@app.default
def main(parts: Iterable[Part] = tuple(PARTS), /, *, output: Path | None = None) -> None:
    """Print the tables; write them to a file where one is named."""
    found = [PARTS[part]() for part in parts]
    head = f"{processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}."
    table = ["| work | operations | % of the time |", "|---|---|---|", *(line for lines, _ in found for line in lines)]
    said = [f"- {s}" for _, saids in found for s in saids]
    show("\n".join([head, "", *table, "", *said]) + "\n", output)


if __name__ == "__main__":
    app()
