"""The crisis check that runs before any model: phrases and classifier, and what either finds is a crisis."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pege.safety.classifier import CrisisClassifier, features_of, load_classifier
from pege.safety.normalize import forms, plain
from pege.safety.phrases import KINDS, Kind, find_phrase, without_idioms
from pege.safety.remember import Remembered

_SENTENCE_END = re.compile(r"(?<=[.!?;。！？；])\s*|\n+")
LOCK_SCORE = 0.5  # from here on a hit holds for the rest of the dialog
_WINDOW_CHARS = 240  # read at once by the classifier; of a longer text two sentences at a time
_MAX_PIECE = 2_000  # of a text without sentence ends


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
    classifier = load_classifier()
    best = Judgement(0.0, None)
    for piece in _pieces(text):
        found = _judge_piece(piece, classifier)
        if found.score > best.score:
            best = found
        if best.score == 1:
            break
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
    for form in forms(text):
        if phrase := find_phrase(without_idioms(form)):
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


def _judge_piece(text: str, classifier: CrisisClassifier) -> Judgement:
    variants = [without_idioms(form) for form in forms(text)]
    for variant in variants:
        if phrase := find_phrase(variant):
            return Judgement(1.0, Crisis(phrase[0], 1.0))
    best = Judgement(0.0, None)
    for variant in variants[:1] + variants[2:4]:  # as written; without marks inside words; digits as letters
        p = classifier.predict(features_of(variant), None)
        score = float(1 - p[0])
        if score > best.score:
            kind = KINDS[int(p[1:].argmax())]
            best = Judgement(score, Crisis(kind, score) if score >= classifier.threshold else None)
    return best


def _pieces(text: str) -> Iterator[str]:
    """All of a short text; of a long one each sentence with the one after it."""
    if len(text) <= _WINDOW_CHARS:
        if plain(text):
            yield text
        return
    sentences = [
        s[k : k + _MAX_PIECE] for s in _SENTENCE_END.split(text) if s.strip() for k in range(0, len(s), _MAX_PIECE)
    ]
    for k, sentence in enumerate(sentences):
        yield " ".join((sentence, *sentences[k + 1 : k + 2]))
