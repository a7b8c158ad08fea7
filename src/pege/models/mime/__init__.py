"""MIME: a response from two readings of the context, one that mimics the user's emotion (Majumder et al. 2020)."""

from transformers import AutoConfig, AutoModelForSeq2SeqLM

from pege.models.mime.config import EMOTIONS, NEGATIVE_EMOTIONS, POSITIVE_EMOTIONS, THREE_EMOTIONS, MimeConfig
from pege.models.mime.modeling import MimeForConditionalGeneration, MimeOutput, set_emotion_vectors

AutoConfig.register(MimeConfig.model_type, MimeConfig, exist_ok=True)
AutoModelForSeq2SeqLM.register(MimeConfig, MimeForConditionalGeneration, exist_ok=True)

__all__ = [
    "EMOTIONS",
    "NEGATIVE_EMOTIONS",
    "POSITIVE_EMOTIONS",
    "THREE_EMOTIONS",
    "MimeConfig",
    "MimeForConditionalGeneration",
    "MimeOutput",
    "set_emotion_vectors",
]
