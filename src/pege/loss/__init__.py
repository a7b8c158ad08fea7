"""The emotion-guided loss of the paper (Eq. 1-6) for any model with hidden states and an output matrix."""

from pege.loss.fused import pege_loss, target_loss
from pege.loss.terms import PegeOutput, context_weight

__all__ = ["PegeOutput", "context_weight", "pege_loss", "target_loss"]
