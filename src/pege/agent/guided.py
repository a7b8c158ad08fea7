"""Guidance while decoding: the paper's terms as a logits processor, for a model that was trained without them.

With s the model's next-token distribution, v = s^T O its expected VAD and g the gradient of the guided terms by v
(design sec. 4), each step takes

    z' = z - strength * O g

which is the distribution s' that minimises strength * g . (s'^T O) + KL(s' || s): what one step of exponentiated
gradient makes of the loss, at the one token that is next. Strength 1 follows the loss with its own alpha and beta.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pege.dialog import Context
from pege.emotion import load_emotion_classifier
from pege.errors import InputError
from pege.lexicon import Lexicon, cached_token_vad, mean_vad
from pege.loss.terms import Guidance, guidance_gradient, pege_guidance
from pege.models.causal import default_cache_dir
from pege.words import guess_language, segmenter


@dataclass(frozen=True)
class Guide:
    """How an agent is guided while it decodes.

    Attributes:
        lexicon: extended to the model's tokenizer, and of the user's first utterance.
        strength: of the push on the logits, >= 0; 0 leaves the model as it is.
        alpha: of L_peg.
        beta: of L_ner.
        period: M of Eq. 2.
    """

    lexicon: Lexicon
    strength: float = 1.0
    alpha: float = 5.0
    beta: float = 2.0
    period: int = 7

    def __post_init__(self) -> None:
        """Check the strength."""
        if not 0 <= self.strength < float("inf"):
            raise InputError(f"{self.strength} is no strength", where="guide", fix="0 or more")


def guide_table(guide: Guide, tokenizer: Any, n_rows: int) -> Tensor:
    """Give O of a guide's lexicon for a tokenizer, (V, 3); V = ``n_rows``, the rows of the model's output."""
    table = cached_token_vad(guide.lexicon, tokenizer, cache_dir=default_cache_dir(), n_rows=n_rows)
    return torch.as_tensor(table.values, dtype=torch.float32)


class GuidedLogits:
    """A logits processor for a batch of contexts; ``generate`` may ask for several sequences of each.

    Args:
        guide: how.
        contexts: B of them; where a context carries no emotion of the first utterance, our classifier is asked.
        token_vad: (V, 3), see `guide_table`.
    """

    def __init__(self, guide: Guide, contexts: Sequence[Context], token_vad: Tensor) -> None:
        self.guide, self.token_vad = guide, token_vad
        first = [c.utterances[0].content for c in contexts]
        emotions = [c.emotion for c in contexts]
        if any(e is None for e in emotions):
            asked = load_emotion_classifier().emotions(first)
            emotions = [e or a for e, a in zip(emotions, asked, strict=True)]
        users = [mean_vad(segmenter(guess_language(t))(t), guide.lexicon) for t in first]
        self.guidance = pege_guidance(
            torch.tensor([list(guide.lexicon.mean if u is None else u) for u in users], dtype=torch.float32),
            torch.tensor([e.positive for e in emotions if e]),
            torch.tensor([e.negative for e in emotions if e]),
            torch.tensor([float(len(c.utterances)) for c in contexts]),
            period=guide.period,
            like=torch.zeros(len(contexts)),
        )  # (B, 3), (B,), (B,)
        is_guided = torch.tensor([float(not c.is_supportive) for c in contexts])  # after a crisis nobody is led
        g = self.guidance
        self.guidance = Guidance(g.target, g.distance_weight * is_guided, g.norm_weight * is_guided)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Give the guided logits, (B n, V)."""
        device = scores.device
        table = self.token_vad.to(device)
        expected_vad = scores.float().softmax(-1) @ table  # (B n, V) @ (V, 3) -> (B n, 3)
        n = len(scores) // len(self.guidance.target)
        parts = (self.guidance.target, self.guidance.distance_weight, self.guidance.norm_weight)
        guidance = Guidance(*(p.to(device).repeat_interleave(n, dim=0) for p in parts))
        g = guidance_gradient(expected_vad, guidance, self.guide.alpha, self.guide.beta)
        return scores - self.guide.strength * (g @ table.T).to(scores.dtype)  # (B n, 3) @ (3, V)
