"""``pege chat``: talk to an agent in the terminal. The crisis check cannot be skipped."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Generator, Iterator
from typing import Annotated

from cyclopts import Parameter

from pege.agent.path import SafetyConfig, load_guarded_agent
from pege.dialog import MAX_UTTERANCE_CHARS, Context, Utterance
from pege.lexicon import load_lexicon
from pege.metrics import utterance_vad
from pege.words import guess_language, segmenter

_HELLO = (
    "This is a computer program, not a person and no therapy. It can be wrong.\n"
    "/reset starts anew, /vad shows the mood so far, /quit ends. Ctrl-C stops an answer."
)
_LIMIT = min(4_000, MAX_UTTERANCE_CHARS)


def chat(
    run: str,
    /,
    *,
    seed: int | None = None,
    temperature: float | None = None,
    safety: Annotated[SafetyConfig | None, Parameter(name="*")] = None,
) -> None:
    """Chat with a run, `base`, a model of the hub, or an endpoint (http://HOST:PORT/v1#MODEL).

    Args:
        run: whom to talk to.
        seed: repeats a talk.
        temperature: of generation.
        safety: of the safety path.
    """
    generation = {} if temperature is None else {"temperature": temperature}
    key = os.environ.get("OPENAI_API_KEY")
    agent = load_guarded_agent(run, safety or SafetyConfig(), api_key=key, generation=generation)
    print(_HELLO)
    said: list[Utterance] = []
    for line in _lines():
        if line == "/quit":
            return
        if line == "/reset":
            said = []
            print("(a new dialog)")
            continue
        if line == "/vad":
            print(_trajectory(said))
            continue
        if line.startswith("/"):
            print("commands: /reset /vad /quit")
            continue
        said.append(Utterance(role="user", content=line[:_LIMIT]))
        answer = _stream(agent.stream(Context(utterances=tuple(said)), seed=None if seed is None else seed + len(said)))
        said.append(Utterance(role="assistant", content=answer or "..."))


def _lines() -> Iterator[str]:
    interactive = sys.stdin.isatty()
    while True:
        try:
            line = " ".join(input("you> " if interactive else "").split())
        except (EOFError, KeyboardInterrupt):
            return
        if line:
            yield line


def _stream(pieces: Generator[str]) -> str:
    """Print pieces as they come; Ctrl-C ends the answer, not the program."""
    answer = ""
    with contextlib.suppress(KeyboardInterrupt), contextlib.closing(pieces):
        for piece in pieces:
            answer += piece
            print("".join(c if c.isprintable() or c == "\n" else " " for c in piece), end="", flush=True)
    print()
    return answer.strip()


def _trajectory(said: list[Utterance]) -> str:
    """Valence, arousal and dominance of each utterance, a line each, valence as a bar."""
    if not said:
        return "(nothing said yet)"
    language = guess_language(" ".join(u.content for u in said))
    lexicon, cut = load_lexicon(f"pege-{language}"), segmenter(language)
    lines = [f"{'':<9} valence{'':<15} arousal dominance"]
    for u in said:
        vad = utterance_vad(u.content, lexicon, cut)
        if vad is None:
            lines.append(f"{u.role:<9} (no word of the lexicon)")
        else:
            lines.append(f"{u.role:<9} {'#' * round(20 * vad[0]):<20} {vad[0]:.2f}   {vad[1]:.2f}   {vad[2]:.2f}")
    return "\n".join(lines)
