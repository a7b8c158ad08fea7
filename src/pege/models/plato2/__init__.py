"""PLATO-2, stage 1: one stack that reads the context both ways and writes the response (Bao et al. 2021)."""

from transformers import AutoConfig, AutoModelForCausalLM

from pege.models.plato2.config import SIZES, Plato2Config
from pege.models.plato2.modeling import Plato2ForConditionalGeneration, Plato2Model

AutoConfig.register(Plato2Config.model_type, Plato2Config, exist_ok=True)
AutoModelForCausalLM.register(Plato2Config, Plato2ForConditionalGeneration, exist_ok=True)

__all__ = ["SIZES", "Plato2Config", "Plato2ForConditionalGeneration", "Plato2Model"]
