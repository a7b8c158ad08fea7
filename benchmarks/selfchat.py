"""Self-chats a second: dialogs in flight beside `generate` a dialog, batched `generate`, and a llama.cpp server.

    python benchmarks/selfchat.py [--dialogs 100] [--turns 10] [--repeats 5] [--dtype float32]

The base model plays both sides, with the agents' own sampling; ours as `load_model` gives it, others as transformers.
All ways take turns in one run; rates are tokens said a second. What is slow plays fewer of the dialogs, the same in
each repeat: one after another (`--single`), and batched `generate` (`--batch`). That plays all of them once, at the
end, and its fewer once with the linear layers of ours (`pege.products`), so that the rest shows. The server is
llama.cpp's own, in this process (xllamacpp), with a slot a dialog and both sides' prompts cached; it is given our
prompts as tokens, and the same weights, keys and values: those of the base package, widened to the dtype.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
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
Play = Callable[[Sequence[LocalAgent], Sequence[Dialog], int, int], Talks]
Dtype = Literal["float32", "bfloat16"]
Way = Literal["ours", "single", "batched", "server", "products", "all"]
WAYS: dict[Way, str] = {
    "ours": "pege, in flight",
    "single": "generate, a dialog at a time",
    "batched": "generate, dialogs in a batch, no cache kept",
    "server": "llama.cpp server, a slot a dialog",
    "products": "generate, dialogs in a batch, no cache kept, our products",
    "all": "generate, all dialogs in a batch, no cache kept",
}
GOALS: dict[Way, float] = {"single": 10.0, "batched": 2.0, "server": 1.0, "all": 2.0}
ONCE: tuple[Way, ...] = ("products", "all")  # behind the repeats of the others


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


def batched(sides: Sequence[LocalAgent], starters: Sequence[Dialog], n_turns: int, seed: int) -> Talks:
    """Play all dialogs, a turn of all at a time."""
    return play_in_turns(*sides, starters, n_turns=n_turns, seed=(seed, 0))


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


class Chats:
    """The same self-chats, each way.

    Args:
        dialogs: how many.
        turns: of the user in each, of the assistant as many.
        dtype: of weights, keys and values.
        single: how many of them play one after another.
        batch: how many play in the smaller batch of `generate`.
    """

    def __init__(self, dialogs: int, turns: int, dtype: Dtype, single: int = 4, batch: int = 25) -> None:
        self.dialogs, self.turns, self.dtype = dialogs, turns, dtype
        self.fewer: dict[Way, int] = {"single": single, "batched": batch, "products": batch}

    @cached_property
    def _ours(self) -> tuple[Any, Any]:
        return load_model("base", dtype=self.dtype)

    @cached_property
    def _plain(self) -> list[LocalAgent]:
        return make_agents(plain_model(self.dtype), self._ours[1], keep_cache=False)

    @cached_property
    def _starters(self) -> list[Dialog]:
        return with_emotions(load_starters("en")[: self.dialogs], load_emotion_classifier().emotions, anew=True)

    @cached_property
    def _file(self) -> Path:
        self._folder = tempfile.TemporaryDirectory()
        return widened(Path(self._folder.name), self.dtype)

    def _way(self, way: Way) -> tuple[Play, list[LocalAgent]]:
        match way:
            case "ours":
                return in_flight, make_agents(*self._ours, keep_cache=True)
            case "products":
                return batched, make_agents(*self._ours, keep_cache=False)
            case "server":  # a new one each time: what it keeps of a hundred dialogs leaves no room for another way
                return LlamaServer(self._file, self.dialogs, 1200, self.dtype).play, self._plain
            case _:
                return one_by_one if way == "single" else batched, self._plain

    def rate(self, way: Way, seed: int) -> float:
        """Play with a way, behind a short round to warm it up; give the tokens said a second."""
        play, sides = self._way(way)
        play(sides, self._starters[:2], 2, 0)
        starters = self._starters[: self.fewer.get(way)]
        start = time.perf_counter()
        talks = play(sides, starters, self.turns, seed)
        rate = n_tokens_said(talks, self._ours[1]) / (time.perf_counter() - start)
        print(f"self-chat, seed {seed}: {WAYS[way]}, {rate:.1f} tokens/s", flush=True)
        return rate

    def measure(self, ways: Iterable[Way], repeats: int, rate: Callable[[Way, int], float]) -> list[Row]:
        """Play with ways in turns, `ONCE` once; ``rate`` is `rate`, or what keeps its numbers."""
        ways, rates = list(ways), dict[Way, list[float]]()
        plays = [(w, seed) for seed in range(1, repeats + 1) for w in ways if w not in ONCE]
        for way, seed in [*plays, *((w, 1) for w in ways if w in ONCE)]:
            rates.setdefault(way, []).append(rate(way, seed))
        load = f"{self.dialogs} dialogs of {2 * self.turns} utterances, {self.dtype}"
        notes: dict[Way, str] = {"ours": load, **{w: f"{n} dialogs" for w, n in self.fewer.items()}}
        ours = rates["ours"]
        return [
            Row("self-chat", WAYS[w], r, "tokens/s", None if w == "ours" else ours, GOALS.get(w), notes.get(w, ""))
            for w, r in rates.items()
        ]


app = App(help="Self-chats a second beside peers.", default_parameter=Parameter(negative=()))


@app.default
def main(
    *,
    dialogs: int = 100,
    turns: int = 10,
    repeats: int = 5,
    dtype: Dtype = "float32",
    single: int = 4,
    batch: int = 25,
    no_server: bool = False,
    output: Path | None = None,
) -> None:
    """Print the table; write it to a file where one is named."""
    chats = Chats(dialogs, turns, dtype, single, batch)
    ways = (w for w in WAYS if not (no_server and w == "server"))
    show(table(chats.measure(ways, repeats, chats.rate)), output)


if __name__ == "__main__":
    app()
