"""The one place that turns a context into token ids for a causal LM; training and agents share it (design sec. 5).

An utterance is a *header* (the template's words for its role) and a *body* (its text and the end-of-turn token). They
are tokenized apart and joined, so that what a model is asked to continue is what it saw in training, to the token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pege.dialog import Emotion, Role, Utterance
from pege.errors import InputError

SYSTEM_LINE = "A chat between two people."
_PLAIN_HEADERS = {"system": "", "user": "User: ", "assistant": "Assistant: "}
_BLANK = "\u2591"  # stands for a content that is not there yet


@dataclass(frozen=True)
class Encoded:
    """A dialog as tokens.

    Attributes:
        ids: the token ids.
        spans: (start, stop) of each utterance's body in ``ids``: its text and end-of-turn token.
        n_dropped: utterances dropped from the front to fit.
        stop_ids: tokens that end an utterance.
    """

    ids: list[int]
    spans: list[tuple[int, int]]
    n_dropped: int
    stop_ids: tuple[int, ...]


def system_line(emotion: Emotion | None) -> str:
    """Give the line ahead of the first utterance: p(positive | u1) and p(negative | u1) as text, two decimals."""
    if emotion is None:
        return SYSTEM_LINE
    return f"{SYSTEM_LINE} First utterance: positive {emotion.positive:.2f}, negative {emotion.negative:.2f}."


def encode_dialog(
    tokenizer: Any,
    utterances: Sequence[Utterance],
    emotion: Emotion | None = None,
    *,
    next_role: Role | None = None,
    max_length: int | None = None,
) -> Encoded:
    """Encode utterances with the model's chat template, or as plain lines where it has none.

    Args:
        tokenizer: a Hugging Face tokenizer.
        utterances: the user's first.
        emotion: of the first utterance; None leaves it out of the system line.
        next_role: who speaks next: its header ends the ids. None for a whole dialog.
        max_length: where the ids are longer, the oldest turns are dropped whole; the system line stays. The last
            utterance is never dropped.

    Raises:
        InputError: a template that rewrites earlier utterances, or one that puts no text where an utterance belongs.
    """
    lead = system_line(emotion)
    for n_dropped in range(0, len(utterances), 2):
        encoded = _encode(tokenizer, utterances[n_dropped:], lead, next_role, n_dropped)
        if max_length is None or len(encoded.ids) <= max_length or len(utterances) - n_dropped <= 2:
            return encoded
    raise InputError("no utterances", fix="a dialog has at least one")


def _encode(
    tokenizer: Any, utterances: Sequence[Utterance], lead: str, next_role: Role | None, n_dropped: int
) -> Encoded:
    ids: list[int] = []
    spans: list[tuple[int, int]] = []
    stop_ids: tuple[int, ...] = ()
    special = set(tokenizer.all_special_ids)
    for header, content, tail in _parts(tokenizer, utterances, lead, next_role):
        ids += _tokens(tokenizer, header)
        if content is None:
            break
        start = len(ids)
        ids += _tokens(tokenizer, content)
        tail_ids = _tokens(tokenizer, tail)
        end = next((k + 1 for k, t in enumerate(tail_ids) if t in special), len(tail_ids))
        spans.append((start, len(ids) + end))
        ids += tail_ids
        stop_ids = tuple(tail_ids[end - 1 : end])
    return Encoded(ids, spans, n_dropped, stop_ids)


def _tokens(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
    return ids


def _parts(
    tokenizer: Any, utterances: Sequence[Utterance], lead: str, next_role: Role | None
) -> list[tuple[str, str | None, str]]:
    """Header, content and tail of each utterance; for ``next_role`` a header, None and ''."""
    contents = [" ".join(u.content.split()) for u in utterances]
    messages = [{"role": u.role, "content": c} for u, c in zip(utterances, contents, strict=True)]
    if next_role:
        messages.append({"role": next_role, "content": _BLANK})
    if tokenizer.chat_template is None:
        return _plain_parts(tokenizer, messages, lead)
    parts: list[tuple[str, str | None, str]] = []
    done = ""
    for k, message in enumerate(messages):
        text = _render(tokenizer, messages[: k + 1], lead)
        place = text.find(message["content"], len(done))
        if not text.startswith(done) or place < 0:
            raise InputError(
                "the chat template rewrites or leaves out utterances",
                where=getattr(tokenizer, "name_or_path", None),
                fix="set tokenizer.chat_template to one that lists the messages one by one",
            )
        stop = place + len(message["content"])
        blank = message["content"] == _BLANK
        parts.append((text[len(done) : place], None if blank else message["content"], text[stop:]))
        done = text
    return parts


def _plain_parts(tokenizer: Any, messages: list[dict[str, str]], lead: str) -> list[tuple[str, str | None, str]]:
    end = f"{tokenizer.eos_token or ''}\n"
    first = f"{tokenizer.bos_token or ''}{lead}\n"
    return [
        (
            (first if k == 0 else "") + _PLAIN_HEADERS[m["role"]],
            None if m["content"] == _BLANK else m["content"],
            end,
        )
        for k, m in enumerate(messages)
    ]


def _render(tokenizer: Any, messages: list[dict[str, str]], lead: str) -> str:
    from jinja2.exceptions import TemplateError

    try:
        text: str = tokenizer.apply_chat_template([{"role": "system", "content": lead}, *messages], tokenize=False)
    except TemplateError:  # a template without a system role: the line goes ahead of the first utterance
        head = {**messages[0], "content": f"{lead}\n{messages[0]['content']}"}
        text = tokenizer.apply_chat_template([head, *messages[1:]], tokenize=False)
    return text
