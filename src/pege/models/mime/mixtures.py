"""MIME's draw: for each group of emotions a mixture of their embeddings, and how far posterior and prior are apart."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pege.models.mime.config import MimeConfig


class Gaussian(NamedTuple):
    """A normal distribution with independent dimensions."""

    mean: Tensor  # (B, Z)
    log_variance: Tensor  # (B, Z)

    def draw(self, *, sample: bool) -> Tensor:
        """Draw with torch's generator, (B, Z); the mean where ``sample`` is off."""
        if not sample:
            return self.mean
        return self.mean + torch.exp(0.5 * self.log_variance) * torch.randn_like(self.mean)


def gaussian_kl(posterior: Gaussian, prior: Gaussian) -> Tensor:
    """KL(posterior, prior) in nats, summed over the dimensions: (B,)."""
    gap = posterior.log_variance - prior.log_variance
    distance = (posterior.mean - prior.mean) ** 2 * torch.exp(-prior.log_variance)
    return 0.5 * (torch.exp(gap) + distance - 1 - gap).sum(-1)


class GroupMixture(nn.Module):
    """One group: prior, posterior, and the weights of its emotions."""

    def __init__(self, config: MimeConfig, names: list[str]) -> None:
        super().__init__()
        h, z = config.hidden_size, config.latent_size
        self.classes, self.n_own = config.classes_of(names) + config.ungrouped, len(names)
        self.prior_mean, self.prior_log_variance = nn.Linear(h, z), nn.Linear(h, z)
        self.posterior_hidden = nn.Linear(2 * h, h)
        self.posterior_mean, self.posterior_log_variance = nn.Linear(h, z), nn.Linear(h, z)
        self.weights = nn.Linear(z, len(self.classes))

    def prior(self, hidden: Tensor) -> Gaussian:
        """Give the prior of the query's hidden layer (B, H)."""
        return Gaussian(self.prior_mean(hidden), self.prior_log_variance(hidden))

    def posterior(self, query: Tensor, refined: Tensor) -> Gaussian:
        """Give the posterior of the query and the refined context, (B, H) each."""
        hidden = torch.relu(self.posterior_hidden(torch.cat((query, refined), dim=-1)))
        return Gaussian(self.posterior_mean(hidden), self.posterior_log_variance(hidden))

    def mix(self, latent: Tensor, embeddings: Tensor, is_chosen: Tensor) -> Tensor:
        """Mix the group's emotion embeddings.

        Args:
            latent: (B, Z).
            embeddings: of all emotions, (N, E).
            is_chosen: (B,) bool, whether this group is the user's: only then classes of neither group are mixed in.

        Returns:
            (B, E).
        """
        logits = self.weights(latent)  # (B, n)
        is_own = torch.arange(len(self.classes), device=logits.device) < self.n_own
        logits = logits.masked_fill(~(is_own[None] | is_chosen[:, None]), -torch.inf)
        return torch.softmax(logits, dim=-1) @ embeddings[self.classes]


class EmotionMixtures(nn.Module):
    """The emotion embeddings, their two groups, and which of them is the user's."""

    def __init__(self, config: MimeConfig) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(config.n_emotions, config.embedding_size)
        self.prior_hidden = nn.Linear(config.hidden_size, config.hidden_size)
        self.positive = GroupMixture(config, list(config.positive_emotions))
        self.negative = GroupMixture(config, list(config.negative_emotions))

    def is_positive(self, emotion: Tensor | None, logits: Tensor) -> Tensor:
        """Say whether the user's emotion is in the positive group: its likeliest class beats the negative group's.

        Args:
            emotion: classes (B,), probabilities (B, N), or None for the predicted emotion.
            logits: of the predicted emotion, (B, N); they also decide for a class in neither group.

        Returns:
            (B,) bool.
        """
        positive, negative = (g.classes[: g.n_own] for g in (self.positive, self.negative))

        def beats(scores: Tensor) -> Tensor:
            return scores[:, positive].amax(-1) > scores[:, negative].amax(-1)

        if emotion is None:
            return beats(logits)
        if emotion.dim() == 2:
            return beats(emotion)
        in_group = torch.zeros(2, logits.shape[1], dtype=torch.bool, device=logits.device)
        in_group[0, positive], in_group[1, negative] = True, True
        of_class = in_group[:, emotion]  # (2, B)
        return of_class[0] | (beats(logits) & ~of_class[1])

    def draw(self, query: Tensor, is_positive: Tensor, *, sample: bool) -> tuple[Tensor, Tensor]:
        """Draw both groups from their prior: the mixture that mimics the user and the other one, (B, E) each."""
        hidden = torch.relu(self.prior_hidden(query))
        positive, negative = (
            group.mix(group.prior(hidden).draw(sample=sample), self.embeddings.weight, is_chosen)
            for group, is_chosen in ((self.positive, is_positive), (self.negative, ~is_positive))
        )
        chosen = is_positive[:, None]
        return torch.where(chosen, positive, negative), torch.where(chosen, negative, positive)

    def kl(self, query: Tensor, is_positive: Tensor, mimicking: Tensor, other: Tensor) -> Tensor:
        """KL(posterior, prior), both groups added up, (B,).

        Args:
            query: (B, H).
            is_positive: (B,) bool.
            mimicking: mean of the reading refined by the mimicking emotions, (B, H).
            other: mean of the other reading, (B, H).
        """
        hidden, chosen = torch.relu(self.prior_hidden(query)), is_positive[:, None]
        total = torch.zeros(len(query), dtype=query.dtype, device=query.device)
        for group, refined in (
            (self.positive, torch.where(chosen, mimicking, other)),
            (self.negative, torch.where(chosen, other, mimicking)),
        ):
            total = total + gaussian_kl(group.posterior(query, refined), group.prior(hidden))
        return total
