"""Self-chats a second: dialogs in flight beside `generate` a dialog, batched `generate`, and a llama.cpp server.

    python benchmarks/selfchat.py [--dialogs 100] [--turns 10] [--repeats 5] [--dtype float32]

The base model plays both sides, with the agents' own sampling; ours as `load_model` gives it, others as transformers,
and batched `generate` also with the linear layers of ours (`pege.products`), so that the rest shows.
All ways take turns in one run; rates are tokens said a second. One dialog after another is so slow that it plays fewer
of them (`--single`), the same for each repeat. The server is llama.cpp's own, in this process (xllamacpp), with a slot
a dialog and both sides' prompts cached; it is given our prompts as tokens, and the same weights, keys and values: those
of the base package, widened to the dtype.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

from cyclopts import App, Parameter
from llama import start, widened
from rows import Row, show, table
from train import plain_model

from pege.agent.generate import LocalAgent
from pege.agent.model import GENERATION
from pege.dialog import Context, Dialog, Utterance
from pege.emotion import load_emotion_classifier, with_emotions
from pege.models.causal import load_model
from pege.selfchat import load_starters
from pege.selfchat.in_flight import flights_of, play_in_flight
from pege.selfchat.play import play_in_turns

Talks = list[list[Utterance]]
WORK = "self-chat"


def make_agents(model: Any, tokenizer: Any, *, keep_cache: bool) -> list[LocalAgent]:
    """Both sides of the base model."""
    return [LocalAgent(r, model, tokenizer, role=r, keep_cache=keep_cache) for r in ("assistant", "user")]


def one_by_one(sides: Sequence[LocalAgent], starters: Sequence[Dialog], n_turns: int, seed: int) -> Talks:
    """Play each dialog by itself."""
    return [play_in_turns(*sides, [s], n_turns=n_turns, seed=(seed, k))[0] for k, s in enumerate(starters)]


def in_flight(sides: Sequence[LocalAgent], starters: Sequence[Dialog], n_turns: int, seed: int) -> Talks:
    """Play all dialogs in flight."""
    flights = flights_of(*sides)
    assert flights
    return play_in_flight(*flights, starters, n_turns=n_turns, seed=(seed,))


def n_tokens_said(talks: Talks, tokenizer: Any) -> int:
    """Count what both sides said, the starters aside, with an end each."""
    said = [u.content for talk in talks for u in talk[1:]]
    return sum(len(ids) + 1 for ids in tokenizer(said, add_special_tokens=False)["input_ids"])


class LlamaServer:
    """llama.cpp's server in this process, with a slot a dialog."""

    def __init__(self, file: Path, n_slots: int, n_context: int, dtype: str) -> None:
        self.server = start(file, n_slots, n_context, dtype=dtype)

    def play(self, sides: Sequence[LocalAgent], starters: Sequence[Dialog], n_turns: int, seed: int) -> Talks:
        """Play all dialogs, each in a thread: the server batches what comes together."""
        with ThreadPoolExecutor(len(starters)) as pool:
            return list(pool.map(lambda k: self._dialog(sides, starters[k], n_turns, seed + k), range(len(starters))))

    def _dialog(self, sides: Sequence[LocalAgent], starter: Dialog, n_turns: int, seed: int) -> list[Utterance]:
        talk = list(starter.messages)
        for k in range(1, 2 * n_turns):
            side = sides[(k + 1) % 2]
            (prompt,), _ = side.prompts([Context(utterances=tuple(talk), emotion=starter.emotion)])
            answer = self.server.handle_completions(
                {
                    "prompt": prompt, "n_predict": GENERATION["max_new_tokens"], "top_k": GENERATION["top_k"],
                    "temperature": GENERATION["temperature"], "top_p": 1.0, "min_p": 0.0, "seed": seed,
                    "cache_prompt": True,
                }
            )  # fmt: skip
            talk.append(Utterance(role=side.role, content=_content(answer).strip() or "I see."))
        return talk


def _content(answer: Any) -> str:
    if isinstance(answer, list):
        answer = answer[0]
    return str(answer["content"] if "content" in answer else answer["choices"][0]["text"])


def measure(
    dialogs: int,
    turns: int,
    repeats: int,
    dtype: Literal["float32", "bfloat16"],
    single: int,
    server: bool,
    *,
    first_seed: int = 1,
) -> list[Row]:
    """Play with each way in turn, each repeat with a seed of its own; a first short round warms up."""
    model, tokenizer = load_model("base", dtype=dtype)
    starters = with_emotions(load_starters("en")[:dialogs], load_emotion_classifier().emotions, anew=True)
    kept, theirs = make_agents(model, tokenizer, keep_cache=True), plain_model(dtype)
    plain, plain_ours = (make_agents(m, tokenizer, keep_cache=False) for m in (theirs, model))

    def batched(sides: Sequence[LocalAgent], rows: Sequence[Dialog], n_turns: int, seed: int) -> Talks:
        return play_in_turns(*sides, rows, n_turns=n_turns, seed=(seed, 0))

    ways: dict[str, tuple[Callable[..., Talks], list[LocalAgent], Sequence[Dialog]]] = {
        "pege, in flight": (in_flight, kept, starters),
        "generate, a dialog at a time": (one_by_one, plain, starters[:single]),
        "generate, all dialogs at once, no cache kept": (batched, plain, starters),
        "generate, all dialogs at once, no cache kept, our products": (batched, plain_ours, starters),
    }
    goals = {"generate, a dialog at a time": 10.0, "generate, all dialogs at once, no cache kept": 2.0}
    with tempfile.TemporaryDirectory() as folder:
        if server:
            engine = LlamaServer(widened(Path(folder), dtype), dialogs, 1200, dtype)
            ways["llama.cpp server, a slot a dialog"] = (engine.play, plain, starters)
            goals["llama.cpp server, a slot a dialog"] = 1.0
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for way, sides, rows in ways.values():
            way(sides, rows[:2], 2, 0)
        for seed in range(first_seed, first_seed + repeats):
            for name, (way, sides, rows) in ways.items():
                start = time.perf_counter()
                talks = way(sides, rows, turns, seed)
                seconds = time.perf_counter() - start
                rates[name].append(n_tokens_said(talks, tokenizer) / seconds)
    ours = rates["pege, in flight"]
    load = f"{dialogs} dialogs of {2 * turns} utterances, {dtype}"
    return [
        Row(
            WORK, name, found, "tokens/s", None if found is ours else ours, goals.get(name),
            load if found is ours else f"{single} dialogs" if ways[name][0] is one_by_one else "",
        )
        for name, found in rates.items()
    ]  # fmt: skip


app = App(help="Self-chats a second beside peers.", default_parameter=Parameter(negative=()))


@app.default
def main(
    *,
    dialogs: int = 100,
    turns: int = 10,
    repeats: int = 5,
    dtype: Literal["float32", "bfloat16"] = "float32",
    single: int = 4,
    no_server: bool = False,
    output: Path | None = None,
) -> None:
    """Print the table; write it to a file where one is named."""
    text = table(measure(dialogs, turns, repeats, dtype, single, not no_server))
    show(text, output)


if __name__ == "__main__":
    app()
