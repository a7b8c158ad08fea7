"""The crisis check that runs before any model: phrases and classifier, and what either finds is a crisis."""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pege.safety.classifier import features_of, load_classifier
from pege.safety.normalize import HAN, forms, plain, visible
from pege.safety.phrases import KINDS, Kind, find_phrase, without_idioms
from pege.safety.remember import Remembered

LOCK_SCORE = 0.5  # from here on a hit holds for the rest of the dialog
_WINDOW_CHARS = 240  # read at once; of a longer text two sentences at a time by the classifier, for phrases more:
_PHRASES_CHARS, _OVERLAP_CHARS = 400, 80  # of one reading, and of what the next one reads again, or a sentence more
_WORDS, _HAN_GAP = re.compile(r"\w+"), re.compile(rf"(?<=[{HAN}]) (?=[{HAN}])")
_ENDS = "[.!?;。！？；]"
# A sentence of four characters or more, marks after its first as one more; 240 characters where none ends.
_SENTENCE = re.compile(rf"(?s){_ENDS}(?:{_ENDS}|\s){{0,240}}|.{{3,240}}?(?:{_ENDS}\s*|\n\s*|\Z)|.{{1,240}}")
_LONGER_SENTENCE = re.compile(rf"(?s).{{15,240}}?(?:{_ENDS}|\n|\Z)|.{{1,240}}")


@dataclass(frozen=True)
class Crisis:
    """A hit: what kind, and how sure, in [0, 1]; 1 where the list of phrases gave it."""

    kind: Kind
    score: float


@dataclass(frozen=True)
class Judgement:
    """What the check says of a text.

    Attributes:
        score: p(crisis) in [0, 1]; 1 where the list of phrases has it.
        crisis: the hit, or None.
    """

    score: float
    crisis: Crisis | None


def check_crisis(text: str) -> Crisis | None:
    """Tell whether a text speaks of self-harm, harm to others, or abuse, in English or Chinese.

    Raises:
        InputError: the classifier cannot be loaded. Whoever asks must then not let a model answer.
    """
    return judge(text).crisis


def judge(text: str) -> Judgement:
    """Give the score of a text and the hit, if it is one; see ``check_crisis``."""
    classifier, sentences = load_classifier(), _sentences(text)
    if crisis := _phrase_in(sentences):
        return Judgement(1.0, crisis)
    best = Judgement(0.0, None)
    for piece in _pieces(sentences):
        p = classifier.predict(features_of(without_idioms(piece)), None)
        score = float(1 - p[0])
        if score > best.score:
            kind = KINDS[int(p[1:].argmax())]
            best = Judgement(score, Crisis(kind, score) if score >= classifier.threshold else None)
    return best


@dataclass(frozen=True)
class DialogJudgement:
    """What the check says of a dialog.

    Attributes:
        crisis: the hit that is answered with the fixed text now, or None.
        had_crisis: whether an earlier utterance was a hit: guidance is off, a model may only support.
        is_new: whether the newest utterance makes the hit, alone or with the one before it.
    """

    crisis: Crisis | None
    had_crisis: bool = False
    is_new: bool = False


def judge_dialog(
    user_utterances: Sequence[str], *, guards: Sequence[Callable[[str], Crisis | None]] = ()
) -> DialogJudgement:
    """Check what a user said so far: each utterance, and the phrases that two in a row make together.

    The newest utterance is a hit like any text. Of those before it a score of ``LOCK_SCORE`` or more is answered with
    the fixed text for the rest of the dialog; a lower one is only remembered: a threshold that puts recall first is
    often wrong, and one wrong hit must not end a whole dialog.

    Args:
        user_utterances: in their order. What was found for one is remembered by its hash, so a turn judges the new one.
        guards: further checks of an utterance beside ours; the surest hit counts.
    """
    had_crisis, newest = False, len(user_utterances) - 1
    for k, text in reversed(list(enumerate(user_utterances))):
        crisis = _surest(text, guards, enough=0.0 if k == newest else LOCK_SCORE)
        if crisis and (k == newest or crisis.score >= LOCK_SCORE):
            return DialogJudgement(crisis, had_crisis=True, is_new=k == newest)
        had_crisis |= crisis is not None
    for k, (first, second) in enumerate(itertools.pairwise(user_utterances), start=1):
        if crisis := _check_known_phrases(f"{first[-_WINDOW_CHARS:]} {second[:_WINDOW_CHARS]}"):
            return DialogJudgement(crisis, had_crisis=True, is_new=k == newest)
    return DialogJudgement(None, had_crisis)


def check_dialog(user_utterances: Sequence[str]) -> Crisis | None:
    """Give the hit that a dialog is answered with the fixed text for; see ``judge_dialog``."""
    return judge_dialog(user_utterances).crisis


def check_phrases(text: str) -> Crisis | None:
    """Give the hit of the list of phrases alone; the classifier is not asked."""
    return _phrase_in(_sentences(text))


def _phrase_in(sentences: Sequence[str]) -> Crisis | None:
    for window in _windows(sentences):
        lines = (without_idioms(plain(line)) for line in window.split("\n"))  # no idiom goes over a line's end
        disguised = (without_idioms(form) for form in forms(window)[1:])
        for stripped in itertools.chain([" ".join(" ".join(lines).split())], disguised):
            if phrase := find_phrase(stripped):
                return Crisis(phrase[0], 1.0)
    return None


def _surest(text: str, guards: Sequence[Callable[[str], Crisis | None]], *, enough: float) -> Crisis | None:
    """Give the surest hit of our check and of guards, who are asked only up to a hit that is sure enough."""
    best = _check_known(text)
    for check in guards:
        if best and best.score >= enough:
            break
        best = max(filter(None, (best, check(text))), key=lambda hit: hit.score, default=None)
    return best


_check_known = Remembered(lambda text: check_crisis(text))
_check_known_phrases = Remembered(lambda text: check_phrases(text))


def _sentences(text: str) -> list[str]:
    """All of a short text is one; what has one for eight characters or fewer is no prose, and has longer ones."""
    seen = visible(text)
    if len(seen) <= _WINDOW_CHARS:
        return [seen] if plain(seen) else []
    sentences = _SENTENCE.findall(seen)
    return sentences if len(sentences) * 8 < len(seen) else _LONGER_SENTENCE.findall(seen)


def _windows(sentences: Sequence[str]) -> Iterator[str]:
    """All of a text: two sentences or more each time, the last of them again in the next window."""
    starts = [0, *itertools.accumulate(map(len, sentences))]
    first = last = 0
    while last < len(sentences):
        last = min(max(first + 2, bisect.bisect(starts, starts[first] + _PHRASES_CHARS)), len(sentences))
        yield "".join(sentences[first:last])
        first = max(first + 1, bisect.bisect(starts, starts[last] - _OVERLAP_CHARS) - 1)


def _pieces(sentences: Sequence[str]) -> Iterator[str]:
    """Each sentence with the one after it, as written and without disguises."""
    read = [forms(sentence) for sentence in sentences]
    for one, two in itertools.zip_longest(read, read[1:], fillvalue=[""]):
        pairs = (f"{one[k]} {two[k]}".strip() for k in (-1, 0))
        yield from {tuple(_WORDS.findall(_HAN_GAP.sub("", pair))): pair for pair in pairs}.values()
