"""MoEL once more, in plain numpy from the published formulas: one dialog at a time, no padding, no cache, no shortcuts.

Weights come by the names of the authors' code, so the test's table of names says which of ours is which of theirs.
"""

from __future__ import annotations

import numpy as np


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def timing(n, width):
    """Row p: sin(p s_k) for all k, then cos(p s_k), where s_k falls geometrically from 1 to 1e-4."""
    half = width // 2
    out = np.zeros((n, width))
    for p in range(n):
        for k in range(half):
            scale = 10_000.0 ** (-k / (half - 1))
            out[p, k], out[p, half + k] = np.sin(p * scale), np.cos(p * scale)
    return out


def norm(w, x, name):
    mean = x.mean(axis=-1, keepdims=True)
    deviation = np.sqrt(((x - mean) ** 2).sum(axis=-1, keepdims=True) / (x.shape[-1] - 1))
    return w[f"{name}.gamma"] * (x - mean) / (deviation + 1e-6) + w[f"{name}.beta"]


def attend(w, queries, keys, name, n_heads, is_causal=False):
    q, k, v = (
        x @ w[f"{name}.{part}_linear.weight"].T for x, part in ((queries, "query"), (keys, "key"), (keys, "value"))
    )
    size = q.shape[1] // n_heads
    heads = []
    for h in range(n_heads):
        cut = slice(h * size, (h + 1) * size)
        scores = (q[:, cut] / np.sqrt(size)) @ k[:, cut].T
        if is_causal:
            scores = np.where(np.arange(len(k))[None] > np.arange(len(q))[:, None], -np.inf, scores)
        heads.append(softmax(scores) @ v[:, cut])
    return np.concatenate(heads, axis=1) @ w[f"{name}.output_linear.weight"].T


def convolve(w, x, name, offsets):
    """Position t sees t + offset for each of the kernel's three offsets; nothing lies outside."""
    kernel, bias = w[f"{name}.conv.weight"], w[f"{name}.conv.bias"]  # (out, in, 3), (out,)
    out = np.tile(bias, (len(x), 1))
    for t in range(len(x)):
        for j, offset in enumerate(offsets):
            if 0 <= t + offset < len(x):
                out[t] += kernel[:, :, j] @ x[t + offset]
    return np.maximum(out, 0)


def feed(w, x, name, offsets):
    for k in range(2):
        x = convolve(w, x, f"{name}.positionwise_feed_forward.layers.{k}", offsets)
    return x


def encoder_layer(w, x, name, n_heads):
    normed = norm(w, x, f"{name}.layer_norm_mha")
    x = x + attend(w, normed, normed, f"{name}.multi_head_attention", n_heads)
    return x + feed(w, norm(w, x, f"{name}.layer_norm_ffn"), name, (-1, 0, 1))


def decoder_layer(w, x, context, name, n_heads):
    normed = norm(w, x, f"{name}.layer_norm_mha_dec")
    x = x + attend(w, normed, normed, f"{name}.multi_head_attention_dec", n_heads, is_causal=True)
    normed = norm(w, x, f"{name}.layer_norm_mha_enc")
    x = x + attend(w, normed, context, f"{name}.multi_head_attention_enc_dec", n_heads)
    return x + feed(w, norm(w, x, f"{name}.layer_norm_ffn"), name, (-2, -1, 0))


def embed(w, ids):
    table = w["embedding.lut.weight"]
    return table[ids] * np.sqrt(table.shape[1])


def moel(w, ids, states, target, *, n_heads, n_layers, n_experts, top, mixture=None):
    """One dialog: context tokens and dialog states (both with CLS in front), response tokens (SOS in front).

    Returns:
        Logits (T, V), emotion logits (E,), the last hidden states (T, H).
    """
    x = (embed(w, ids) + embed(w, states)) @ w["encoder.embedding_proj.weight"].T
    x = x + timing(len(x), x.shape[1])
    for k in range(n_layers):
        x = encoder_layer(w, x, f"encoder.enc.{k}", n_heads)
    context = norm(w, x, "encoder.layer_norm")
    emotion = w["decoder_key.weight"] @ context[0]
    if mixture is None:
        kept = np.full(n_experts, -np.inf)
        best = np.argsort(-emotion)[: top or n_experts]
        kept[best] = emotion[best]
        mixture = softmax(kept)
    y = embed(w, target) @ w["decoder.embedding_proj.weight"].T
    y = y + timing(len(y), y.shape[1])
    mixed = decoder_layer(w, y, context, "decoder.basic", n_heads)
    for e in range(n_experts):
        mixed = mixed + mixture[e] * decoder_layer(w, y, context, f"decoder.experts.{e}", n_heads)
    for k in range(n_layers):
        mixed = decoder_layer(w, mixed, context, f"decoder.dec.{k}", n_heads)
    hidden = norm(w, mixed, "decoder.layer_norm")
    return hidden @ w["generator.proj.weight"].T + w["generator.proj.bias"], emotion, hidden


def loss(logits, target, emotion_logits, emotion, *, smoothing, pad):
    """Sum over a batch's tokens of the divergence from smoothed targets, and the mean cross-entropy of the emotion.

    Args:
        logits: of each dialog (T_i, V).
        target: of each dialog (T_i,).
        emotion_logits: (B, E).
        emotion: probabilities (B, E).
        smoothing: share that goes to the other tokens.
        pad: the padding token.
    """
    total = 0.0
    for rows, labels in zip(logits, target, strict=True):
        for row, label in zip(rows, labels, strict=True):
            wanted = np.full(len(row), smoothing / (len(row) - 2))
            wanted[label], wanted[pad] = 1 - smoothing, 0
            kept = wanted > 0
            total += (wanted[kept] * (np.log(wanted[kept]) - np.log(softmax(row))[kept])).sum()
    return total, -(emotion * np.log(softmax(emotion_logits))).sum(axis=1).mean()
