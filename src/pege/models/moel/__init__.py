"""MoEL: a mixture of listeners, a decoder an emotion (Lin et al. 2019)."""

from transformers import AutoConfig, AutoModelForSeq2SeqLM

from pege.models.moel.config import MoelConfig
from pege.models.moel.modeling import MoelForConditionalGeneration, MoelOutput

AutoConfig.register(MoelConfig.model_type, MoelConfig, exist_ok=True)
AutoModelForSeq2SeqLM.register(MoelConfig, MoelForConditionalGeneration, exist_ok=True)

__all__ = ["MoelConfig", "MoelForConditionalGeneration", "MoelOutput"]
