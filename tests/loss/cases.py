"""Random inputs of the loss, and what it and its gradients give on them."""

from __future__ import annotations

import torch


def make_case(seed=0, n_tokens=7, n_hidden=5, n_vocabulary=23, *, dtype=torch.float32, scale=1.0, ignored=0.2):
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, n_vocabulary, (n_tokens,), generator=g)
    labels[torch.rand(n_tokens, generator=g) < ignored] = -100
    tensors = {
        "hidden": torch.randn(n_tokens, n_hidden, generator=g, dtype=dtype) * scale,
        "weight": torch.randn(n_vocabulary, n_hidden, generator=g, dtype=dtype),
        "bias": torch.randn(n_vocabulary, generator=g, dtype=dtype),
    }
    fixed = {
        "token_vad": torch.rand(n_vocabulary, 3, generator=g),
        "user_vad": torch.rand(n_tokens, 3, generator=g),
        "p_positive": torch.rand(n_tokens, generator=g) * 0.5,
        "p_negative": torch.rand(n_tokens, generator=g) * 0.5,
        "n_utterances": torch.randint(0, 6, (n_tokens,), generator=g) * 2 + 1,
    }
    return tensors, labels, fixed


def run(loss, tensors, labels, fixed, *, trained=("hidden", "weight", "bias"), **options):
    given = {k: v.detach().clone().requires_grad_(k in trained) for k, v in tensors.items()}
    out = loss(given["hidden"], given["weight"], labels, bias=given.get("bias"), **fixed, **options)
    leaves = {k: v for k, v in given.items() if k in trained}
    grads = torch.autograd.grad(out.loss, list(leaves.values()))
    return out, dict(zip(leaves, grads, strict=True))


def relative_error(value, reference):
    reference = reference.double()
    scale = max(reference.norm().item(), 1e-6)
    return ((value.double() - reference).norm() / scale).item()
