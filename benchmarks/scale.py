"""Hours and cost of training the paper's set-up, and a 7B model, on H100s: counted, then divided by rates.

    python benchmarks/scale.py --share SHARE --rate GFLOPS [--utterances 8] [--tokens 20] [--mfu 0.4] [--price 2.5]

Nothing is timed here: SHARE of a large product's rate that our trainer reaches, and its own rate in Gflop/s, are what
`benchmarks/shares.py train` prints. The published share of an H100's rate is that of Llama 3's training, 38 to 43 %
(The Llama 3 Herd of Models, 2024, table 4). Multiplications are counted by formula: each token is multiplied with each
weight once forward (2 N), once back to its inputs (2 N), and once for the gradient of the weights (2 N) unless they are
frozen (LoRA); attention adds 4 L S^2 H forward and twice that back, half of it where a causal mask lets each token see
only what came before. The page `docs/scale.md` is filled between its marks.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cyclopts import App, Parameter
from rows import fill_page

PEAK = 989e12  # bf16 dense multiplications and additions a second of one H100 SXM, NVIDIA's data sheet
PAGE = Path(__file__).parents[1] / "docs" / "scale.md"
MARKS = "<!-- filled by benchmarks/scale.py -->", "<!-- end of what scale.py fills -->"


@dataclass(frozen=True)
class SetUp:
    """A model and a way to train it.

    Attributes:
        name: of the row.
        n_weights: without the input embeddings.
        n_layers: L.
        n_hidden: H.
        is_frozen: whether only LoRA learns.
        each_response: whether a sample is a response, its context read again, or a dialog. PLATO-2 reads a context both
            ways, so nothing of the attention is saved there.
    """

    name: str
    n_weights: float
    n_layers: int
    n_hidden: int
    is_frozen: bool
    each_response: bool


SET_UPS = (
    SetUp("PLATO-2 1.6B, all weights, a sample a response (the paper's)", 1.6e9, 32, 2048, False, True),
    SetUp("SmolLM2-135M, LoRA, a sample a dialog", 1.35e8, 30, 576, True, False),
    SetUp("causal LM of 1.6B, all weights, a sample a dialog", 1.6e9, 32, 2048, False, False),
    SetUp("causal LM of 7B, LoRA, a sample a dialog", 6.7e9, 32, 4096, True, False),
    SetUp("causal LM of 7B, all weights, a sample a dialog", 6.7e9, 32, 4096, False, False),
)


def samples_of(n_utterances: int, n_tokens: int, *, each_response: bool) -> list[int]:
    """Lengths of the samples of one dialog of utterances of equal length, in tokens."""
    if each_response:
        return [k * n_tokens for k in range(2, n_utterances + 1, 2)]
    return [n_utterances * n_tokens]


def flops_of(set_up: SetUp, lengths: list[int]) -> float:
    """Multiplications and additions of one dialog, forward and backward."""
    passes = 2 if set_up.is_frozen else 3
    linear = sum(2 * set_up.n_weights * passes * s for s in lengths)
    seen = 1.0 if set_up.each_response else 0.5
    attention = sum(3 * 4 * set_up.n_layers * set_up.n_hidden * s * s * seen for s in lengths)
    return linear + attention


def text_of(
    n_dialogs: int, utterances: int, tokens: int, *, mfu: float, share: float, rate: float, price: float
) -> str:
    """The table and what it assumes; rate: multiplications and additions a second."""
    lines = [
        f"{n_dialogs:,} dialogs of {utterances} utterances of {tokens} tokens, one epoch; hours of one H100, which",
        f"does {PEAK / 1e12:.0f} TFLOPS (bf16, dense) and costs {price:g} USD an hour. {mfu:.0%} of that is what",
        f"others reach; {share:.0%} is how near our trainer comes to the rate of a large product on the machine of our",
        f"benchmarks, and {rate / 1e9:,.0f} Gflop/s its rate there.",
        "",
        f"| set-up | tokens read a dialog | PFLOP a 1,000 dialogs | hours at {mfu:.0%} | USD | hours at {share:.0%} "
        "| USD | days on the benchmarks' machine |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for set_up in SET_UPS:
        lengths = samples_of(utterances, tokens, each_response=set_up.each_response)
        flops = flops_of(set_up, lengths)
        cells = [f"{sum(lengths):,}", f"{flops * 1e3 / 1e15:,.2f}"]
        for used in (mfu, share):
            hours = n_dialogs * flops / (PEAK * used) / 3600
            cells += [f"{hours:,.1f}", f"{hours * price:,.0f}"]
        cells.append(f"{n_dialogs * flops / rate / 86400:,.0f}")
        lines.append(f"| {set_up.name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


app = App(help="Hours and cost on H100s, counted.", default_parameter=Parameter(negative=()))


@app.default
def main(
    *,
    share: float,
    rate: float,
    dialogs: int = 820_000,
    utterances: int = 8,
    tokens: int = 20,
    mfu: float = 0.4,
    price: float = 2.5,
    fill: bool = False,
) -> None:
    """Print the table; with --fill write it into docs/scale.md."""
    text = text_of(dialogs, utterances, tokens, mfu=mfu, share=share, rate=rate * 1e9, price=price)
    print(text)
    if fill:
        fill_page(PAGE, MARKS, text)


if __name__ == "__main__":
    app()
