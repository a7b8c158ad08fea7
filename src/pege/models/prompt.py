"""The one place that turns a context into token ids for a causal LM; training and agents share it (design sec. 5).

An utterance is a *header* (the template's words for its role) and a *body* (its text and the end-of-turn token). They
are tokenized apart and joined, so that what a model is asked to continue is what it saw in training, to the token. The
template sees marks in place of the texts, and no text becomes a special token, whatever a person types.
"""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pege.dialog import Emotion, Role, Utterance
from pege.errors import InputError

SYSTEM_LINE = "A chat between two people."
SUPPORT_LINE = (
    "One of the two may be in distress. Listen, say back what you heard, be gentle and brief. Do not cheer up, joke, "
    "judge or give advice on health. Encourage talking with a trusted person or a help line."
)
_PLAIN_HEADERS = {"system": "", "user": "User: ", "assistant": "Assistant: "}
_MARK = '\ue000Aa"{}"\ue001'  # stands for a text; capital and quotes show a template that changes them
_ONE = threading.Lock()  # `split_special_tokens` is a switch of the tokenizer, which other threads share
_MARKS = re.compile(r'\ue000Aa"(\d+)"\ue001')


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


def system_line(emotion: Emotion | None, *, is_supportive: bool = False) -> str:
    """Give the line ahead of the first utterance: p(positive | u1) and p(negative | u1) as text, two decimals.

    After a crisis it asks for support instead, and has no emotion in it.
    """
    if is_supportive:
        return SUPPORT_LINE
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
    cuts_text: bool = False,
    is_supportive: bool = False,
) -> Encoded:
    """Encode utterances with the model's chat template, or as plain lines where it has none.

    Args:
        tokenizer: a Hugging Face tokenizer.
        utterances: the user's first.
        emotion: of the first utterance; None leaves it out of the system line.
        next_role: who speaks next: its header ends the ids. None for a whole dialog.
        max_length: where the ids are longer, the oldest turns are dropped whole; the system line stays. The last
            utterance is never dropped.
        cuts_text: whether what is left loses its beginning where it alone is too long, down to a token an utterance.
        is_supportive: whether the system line asks for support, as after a crisis.

    Raises:
        InputError: no utterances; a template that rewrites earlier utterances, leaves some out, or refuses them; text
            that a trimmed vocabulary cannot write.
    """
    if not utterances:
        raise InputError("no utterances", fix="a dialog has at least one")
    roles = [u.role for u in utterances] + ([next_role] if next_role else [])
    frames = _frames(tokenizer, roles, system_line(emotion, is_supportive=is_supportive))
    tokens = {text: _tokens(tokenizer, text) for text in {*frames[0], *frames[1]}}
    headers, tails = ([tokens[text] for text in texts] for texts in frames)
    contents = _content_tokens(tokenizer, [" ".join(u.content.split()) for u in utterances])
    n_dropped = _n_dropped(headers, contents, tails, max_length)
    headers[n_dropped] = headers[0]  # it holds the system line
    if cuts_text and max_length is not None:
        frame = sum(map(len, [*headers[n_dropped:], *tails[n_dropped : len(contents)]]))
        contents[n_dropped:] = _newest_tokens(contents[n_dropped:], max_length - frame)
    special = set(tokenizer.all_special_ids)
    ids: list[int] = []
    spans: list[tuple[int, int]] = []
    for k in range(n_dropped, len(contents)):
        ids += headers[k]
        spans.append((len(ids), len(ids) + len(contents[k]) + len(_up_to(special, tails[k]))))
        ids += contents[k] + tails[k]
    if next_role:
        ids += headers[-1]
    return Encoded(ids, spans, n_dropped, tuple(_up_to(special, tails[-1])[-1:]))


def _n_dropped(
    headers: list[list[int]], contents: list[list[int]], tails: list[list[int]], max_length: int | None
) -> int:
    """Utterances to drop, whole turns, so that the rest fits after the first header."""
    n_tokens, n = sum(map(len, [*headers, *contents, *tails[: len(contents)]])), 0
    while max_length is not None and n_tokens > max_length and len(contents) - n > 2:
        n_tokens -= sum(map(len, [*contents[n : n + 2], *tails[n : n + 2], *headers[n + 1 : n + 3]]))
        n += 2
    return n


def _newest_tokens(contents: list[list[int]], room: int) -> list[list[int]]:
    """The newest ``room`` tokens of all, and at least one of each."""
    excess = sum(map(len, contents)) - room
    kept = []
    for ids in contents:
        n_cut = max(0, min(excess, len(ids) - 1))
        kept.append(ids[n_cut:])
        excess -= n_cut
    return kept


def _up_to(special: set[int], tail: list[int]) -> list[int]:
    """A tail up to its first special token, which ends the utterance; all of it where it has none."""
    return tail[: next((k + 1 for k, i in enumerate(tail) if i in special), len(tail))]


def _tokens(tokenizer: Any, text: str) -> list[int]:
    with _ONE:
        ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
    return ids


def _content_tokens(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """Tokens of what people wrote: the name of a special token is plain text there."""
    with _ONE:
        ids: list[list[int]] = tokenizer(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    if getattr(tokenizer, "refuses_unknown", False) and any(tokenizer.unk_token_id in row for row in ids):
        fix = "trim with a corpus that has such text, or name the model that was trimmed"
        raise InputError("has no tokens for a part of a text", where=tokenizer.name_or_path, fix=fix)
    return ids


def _frames(tokenizer: Any, roles: list[Role], lead: str) -> tuple[list[str], list[str]]:
    """What the template puts before and after each text, up to the next one's header.

    The last prefixes are rendered, not all: what ends an utterance is seen where it is the last one, of either role,
    and has to be the same everywhere.
    """
    if tokenizer.chat_template is None:
        first = f"{tokenizer.bos_token or ''}{lead}\n"
        headers = [(first if k == 0 else "") + _PLAIN_HEADERS[role] for k, role in enumerate(roles)]
        return headers, [f"{tokenizer.eos_token or ''}\n"] * len(roles)
    messages = [{"role": role, "content": _MARK.format(k)} for k, role in enumerate(roles)]
    lengths = range(max(1, len(messages) - 2), len(messages) + 1)
    prefixes = [_render(tokenizer, messages[:n], lead) for n in lengths]
    pieces = [_MARKS.split(text) for text in prefixes]  # text, number, text, number, ..., text
    is_stable = all(long.startswith(short) for short, long in itertools.pairwise(prefixes))
    if not is_stable or any(p[1::2] != [str(k) for k in range(n)] for n, p in zip(lengths, pieces, strict=True)):
        raise _unfit(tokenizer, "rewrites or leaves out utterances")
    tail_of = {roles[n - 1]: p[-1] for n, p in zip(lengths, pieces, strict=True)}
    between = pieces[-1][0::2]
    tails = [tail_of[role] for role in roles]
    if not all(text.startswith(tail) for text, tail in zip(between[1:], tails, strict=True)):
        raise _unfit(tokenizer, "rewrites or leaves out utterances")
    return [between[0], *(text[len(tail) :] for text, tail in zip(between[1:-1], tails, strict=False))], tails


def _render(tokenizer: Any, messages: list[dict[str, str]], lead: str) -> str:
    from jinja2.exceptions import TemplateError

    try:
        text: str = tokenizer.apply_chat_template([{"role": "system", "content": lead}, *messages], tokenize=False)
        if lead in text:
            return text
    except TemplateError:
        pass
    # a template without a system role: the line goes ahead of the first utterance
    head = {**messages[0], "content": f"{lead}\n{messages[0]['content']}"}
    try:
        text = tokenizer.apply_chat_template([head, *messages[1:]], tokenize=False)
    except TemplateError as e:
        raise _unfit(tokenizer, f"refuses a dialog ({e})") from e
    return text


def _unfit(tokenizer: Any, what: str) -> InputError:
    fix = "set tokenizer.chat_template to one that lists the messages one by one"
    return InputError(f"the chat template {what}", where=getattr(tokenizer, "name_or_path", None), fix=fix)


def encode_message(tokenizer: Any, text: str) -> list[int]:
    """Encode one message of the user's as the chat template has it, ready to be answered; for guard models.

    No line of ours is added: a guard's template brings its own words. Those between the text and the special tokens
    next to it are tokenized with it, as the model saw them in training; the text becomes no special token.

    Raises:
        InputError: no template, or one that changes the text, repeats it or leaves it out.
    """
    before, after = _frame(tokenizer)
    names = [re.escape(token.content) for token in tokenizer.added_tokens_decoder.values() if token.special]
    special = re.compile("|".join(names) or r"(?!)")
    start = max((found.end() for found in special.finditer(before)), default=0)
    end = min((found.start() for found in special.finditer(after)), default=len(after))
    [content] = _content_tokens(tokenizer, [before[start:] + text.strip() + after[:end]])
    return [*_tokens(tokenizer, before[:start]), *content, *_tokens(tokenizer, after[end:])]


def _frame(tokenizer: Any) -> tuple[str, str]:
    """What the template puts before and after a single message, which some templates take only in parts."""
    from jinja2.exceptions import TemplateError

    mark = _MARK.format(0)
    for content in (mark, [{"type": "text", "text": mark}]):
        messages = [{"role": "user", "content": content}]
        try:
            whole = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except (TemplateError, TypeError, ValueError):
            continue
        if len(pieces := _MARKS.split(whole)) == 3:
            return pieces[0], pieces[2]
    raise _unfit(tokenizer, "does not take a message as it is")
