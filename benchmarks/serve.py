"""Throughput and first-token latency of `pege serve` beside `transformers serve`, the same model, the same run.

    python benchmarks/serve.py [--model base] [--repeats 5] [--output docs/results/bench-serve.md]

Each server runs in a process of its own, and only one is asked at a time; repeats of all servers take turns. A round
is `--requests` streamed requests from 1, 8 or 32 clients: short openings, greedy, `--tokens` tokens at most. Tokens are
counted from what the servers send, with the model's own tokenizer. First text is the first piece with content:
`pege serve` sends whole sentences that the output filter has read, the peers send tokens, so theirs comes earlier by
construction. `one at a time` is the peer without batching, asked by one client: the baseline of the ratio. llama.cpp's
server (benchmarks/llama.py) has the same weights in float32; it joins for `base` where xllamacpp is installed.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai
from cyclopts import App
from llama import widened
from rows import processor, show

from pege.models.causal import BASE, load_tokenizer, resolve_model

CLIENTS = (1, 8, 32)
STARTERS = (
    "I failed my exam and I feel terrible.", "My sister is getting married next week!", "I read a book all weekend.",
    "I started a new job today.", "We planted tomatoes in the garden.", "We moved to another town.",
    "I had a quarrel with my best friend.", "I cannot sleep these days.",
)  # fmt: skip
_START_S = 600


@dataclass(frozen=True)
class Round:
    """What one round gave: tokens a second, seconds to the first text of each request."""

    tokens_s: float
    first_s: list[float]


def free_port() -> int:
    """Give a port that is free now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def commands(folder: str, port: int, gguf: Path | None) -> dict[str, list[str]]:
    """How each server is started on a port."""
    peer = [str(Path(sys.executable).with_name("transformers")), "serve", folder, "--host", "127.0.0.1"]
    peer += ["--port", str(port), "--device", "cpu", "--dtype", "float32"]
    ours = [sys.executable, "-m", "pege", "serve", folder, "--port", str(port), "--requests_per_minute", "1000000"]
    found = {
        "pege serve": [*ours, "--max_batch", "32"],
        "transformers serve": peer,
        "transformers serve, continuous batching": [*peer, "--continuous-batching"],
    }
    if gguf is not None:
        found["llama.cpp server"] = [
            sys.executable,
            str(Path(__file__).with_name("llama.py")),
            str(gguf),
            "--port",
            str(port),
        ]
    return found


@contextmanager
def served(command: list[str], port: int, model: str) -> Iterator[str]:
    """Start a server, wait until it answers a chat, stop it at the end."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url, end = f"http://127.0.0.1:{port}/v1", time.monotonic() + _START_S
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4, "temperature": 0}
    try:
        while True:
            try:
                if httpx.post(f"{url}/chat/completions", json=body, timeout=120).status_code == 200:
                    break
            except httpx.TransportError:
                pass
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{command[:4]} does not answer (exit code {process.poll()})")
            time.sleep(0.5)
        yield url
    finally:
        process.terminate()
        process.wait(60)


async def ask_round(url: str, model: str, n_clients: int, n_requests: int, n_tokens: int, tokenizer: object) -> Round:
    """Send requests from some clients, each with one request at a time."""
    left, first_s, texts = iter(range(n_requests)), [], []

    async def one(client: openai.AsyncOpenAI) -> None:
        for k in left:
            start, text, first = time.monotonic(), "", None
            stream = await client.chat.completions.create(
                model=model, stream=True, temperature=0, max_tokens=n_tokens,
                messages=[{"role": "user", "content": STARTERS[k % len(STARTERS)]}],
            )  # fmt: skip
            async for chunk in stream:
                piece = chunk.choices[0].delta.content if chunk.choices else None
                extras = (chunk.model_extra or {}).get("pege")
                if extras and (extras["crisis"] or extras["refused"]):
                    raise RuntimeError(f"fixed text is no speed: another starter than {STARTERS[k % len(STARTERS)]!r}")
                if piece:
                    first = first or time.monotonic() - start
                    text += piece
            first_s.append(first or time.monotonic() - start)
            texts.append(text)

    # a connection a request: llama.cpp's server closes one that is kept while the next request is on its way
    http = openai.DefaultAsyncHttpxClient(limits=httpx.Limits(max_keepalive_connections=0))
    async with openai.AsyncOpenAI(base_url=url, api_key="none", timeout=600, max_retries=0, http_client=http) as client:
        start = time.monotonic()
        await asyncio.gather(*(one(client) for _ in range(n_clients)))
        seconds = time.monotonic() - start
    n = sum(len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"])  # type: ignore[operator]
    return Round(n / seconds, first_s)


def table(found: dict[tuple[str, int], list[Round]]) -> list[str]:
    """One row a server and number of clients."""
    base = statistics.median(r.tokens_s for r in found["transformers serve", 1])
    lines = [
        "| server | clients | tokens/s, median (range) | first text p50 / p95, s | against one at a time |",
        "|---|---|---|---|---|",
    ]
    for (name, n_clients), rounds in found.items():
        speeds, waits = [r.tokens_s for r in rounds], sorted(w for r in rounds for w in r.first_s)
        p50, p95 = statistics.median(waits), waits[min(len(waits) - 1, int(0.95 * len(waits)))]
        middle = statistics.median(speeds)
        lines.append(
            f"| {name} | {n_clients} | {middle:.1f} ({min(speeds):.1f}-{max(speeds):.1f}) | {p50:.2f} / {p95:.2f} "
            f"| {middle / base:.2f} |"
        )
    return lines


app = App(default_parameter=None)


@app.default
def main(
    *, model: str = "base", repeats: int = 5, requests: int = 32, tokens: int = 40, output: Path | None = None,
) -> None:  # fmt: skip
    """Measure and print a table."""
    folder, port = resolve_model(model), free_port()
    tokenizer = load_tokenizer(folder)
    found: dict[tuple[str, int], list[Round]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        has_peer = model == BASE and importlib.util.find_spec("xllamacpp")
        gguf = widened(Path(scratch), "float32") if has_peer else None
        for repeat in range(repeats):
            for name, command in commands(folder, port, gguf).items():
                with served(command, port, folder) as url:
                    for n_clients in CLIENTS:
                        n = max(requests, n_clients) if n_clients > 1 else max(4, requests // 4)
                        got = asyncio.run(ask_round(url, folder, n_clients, n, tokens, tokenizer))
                        found.setdefault((name, n_clients), []).append(got)
                        print(
                            f"{repeat + 1}/{repeats} {name}, {n_clients}: {got.tokens_s:.1f} tokens/s", file=sys.stderr
                        )
    head = f"{processor()}, {os.cpu_count()} cores; {model}, float32, greedy, "
    text = "\n".join([f"{head}{tokens} tokens at most, {repeats} repeats", "", *table(found)]) + "\n"
    show(text, output)


if __name__ == "__main__":
    app()
