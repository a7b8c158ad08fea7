"""Fine-tuning with the PEGE loss inside the Hugging Face Trainer."""

from pege.training.config import LossSettings, TrainConfig
from pege.training.run import run_training
from pege.training.trainer import PegeTrainer

__all__ = ["LossSettings", "PegeTrainer", "TrainConfig", "run_training"]
