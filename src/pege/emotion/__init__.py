"""Emotion of an utterance: p(negative), p(neutral), p(positive) by a TextCNN. Importing this loads no torch."""

from pege.emotion.classifier import EmotionClassifier, load_emotion_classifier
from pege.emotion.labelled import LABELS, LabelledTexts, read_labelled

__all__ = ["LABELS", "EmotionClassifier", "LabelledTexts", "load_emotion_classifier", "read_labelled"]
