"""Emotion of an utterance: p(negative), p(neutral), p(positive) by a TextCNN. Importing this loads no torch."""

from pege.emotion.cascade import Cascade
from pege.emotion.classifier import EmotionClassifier, TextClassifier
from pege.emotion.dialogs import with_emotions
from pege.emotion.labelled import LABELS, LabelledTexts, read_labelled
from pege.emotion.load import load_classifier, load_emotion_classifier, load_shipped

__all__ = [
    "LABELS",
    "Cascade",
    "EmotionClassifier",
    "LabelledTexts",
    "TextClassifier",
    "load_classifier",
    "load_emotion_classifier",
    "load_shipped",
    "read_labelled",
    "with_emotions",
]
