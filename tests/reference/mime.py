"""MIME's formulas in plain numpy (float64), one dialog at a time without padding: what `tests/models/test_mime.py` expects.

Written from the shapes and formulas of the authors' code, without pege's layers; the mean stands for each draw.
"""

import numpy as np


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def log_softmax(x):
    return np.log(softmax(x))


def timing(n, width):
    """sin and cos of t / 10000^(k / (width / 2 - 1)), all sines first, then all cosines."""
    out = np.zeros((n, width))
    half = width // 2
    for t in range(n):
        for k in range(half):
            angle = t / 10_000 ** (k / (half - 1))
            out[t, k], out[t, half + k] = np.sin(angle), np.cos(angle)
    return out


class Mime:
    """The network as a dict of arrays.

    Args:
        weights: name -> array.
        groups: classes of the positive and of the negative group, (list, list).
        free: classes in neither.
        heads: of a layer.
        layers: of a stack.
        query, roles, start: ids of the query token, of the roles, of a response's first token.
    """

    def __init__(self, weights, *, groups, free, heads, layers, query, roles, start):
        self.w = {name: np.asarray(value, dtype=np.float64) for name, value in weights.items()}
        self.groups, self.free, self.heads, self.layers = groups, free, heads, layers
        self.query, self.roles, self.start = query, roles, start

    def linear(self, x, name):
        bias = self.w.get(f"{name}.bias", 0.0)
        return x @ self.w[f"{name}.weight"].T + bias

    def norm(self, x, name):
        """Layer norm with the deviation of a sample (n - 1) and epsilon beside it."""
        mean = x.mean(axis=1, keepdims=True)
        std = np.sqrt(((x - mean) ** 2).sum(axis=1, keepdims=True) / (x.shape[1] - 1))
        return self.w[f"{name}.weight"] * (x - mean) / (std + 1e-6) + self.w[f"{name}.bias"]

    def attention(self, query, keys, name, causal=False):
        q, k, v = (self.linear(x, f"{name}.{p}_proj") for x, p in ((query, "q"), (keys, "k"), (keys, "v")))
        depth = q.shape[1] // self.heads
        found = []
        for h in range(self.heads):
            part = slice(h * depth, (h + 1) * depth)
            scores = q[:, part] @ k[:, part].T / np.sqrt(depth)
            if causal:
                scores[np.triu(np.ones_like(scores), 1) > 0] = -1e18
            found.append(softmax(scores) @ v[:, part])
        return self.linear(np.concatenate(found, axis=1), f"{name}.out_proj")

    def convolutions(self, x, name, left):
        """Two convolutions of width 3, each with a ReLU; ``left`` zeros before, the rest of 2 behind."""
        for conv in ("conv1", "conv2"):
            kernel, bias = self.w[f"{name}.{conv}.weight"], self.w[f"{name}.{conv}.bias"]  # (out, in, 3)
            padded = np.pad(x, ((left, 2 - left), (0, 0)))
            x = np.stack([sum(kernel[:, :, j] @ padded[t + j] for j in range(3)) + bias for t in range(len(x))])
            x = np.maximum(x, 0)
        return x

    def read(self, x, name):
        """Stack of an encoder, behind its projection."""
        x = self.linear(x, f"{name}.projection")
        x = x + timing(*x.shape)
        for k in range(self.layers):
            layer = f"{name}.layers.{k}"
            normed = self.norm(x, f"{layer}.attention_norm")
            x = x + self.attention(normed, normed, f"{layer}.attention")
            x = x + self.convolutions(self.norm(x, f"{layer}.filter_norm"), f"{layer}.filter", left=1)
        return self.norm(x, f"{name}.norm")

    def embed(self, ids):
        words = self.w["encoder.words.weight"]
        return words[ids] * np.sqrt(words.shape[1])

    def latent(self, query, group, refined=None):
        """Mean and log variance of the prior, or of the posterior where there is a refined context."""
        name = f"encoder.mixtures.{group}"
        if refined is None:
            hidden, kind = np.maximum(self.linear(query, "encoder.mixtures.prior_hidden"), 0), "prior"
        else:
            both = np.concatenate((query, refined))
            hidden, kind = np.maximum(self.linear(both, f"{name}.posterior_hidden"), 0), "posterior"
        return self.linear(hidden, f"{name}.{kind}_mean"), self.linear(hidden, f"{name}.{kind}_log_variance")

    def mixture(self, query, group, own, is_user):
        classes = own + self.free
        scores = self.linear(self.latent(query, group)[0], f"encoder.mixtures.{group}.weights")
        if not is_user:
            classes, scores = own, scores[: len(own)]
        return softmax(scores) @ self.w["encoder.mixtures.embeddings.weight"][classes]

    def fuse(self, context, mimicking, other):
        if "encoder.fusion.gate.weight" in self.w:
            both = np.concatenate((mimicking, other), axis=1)
            gate = 1 / (1 + np.exp(-self.linear(both, "encoder.fusion.gate")))
            return self.linear(gate * both, "encoder.fusion.out")
        x = self.linear(context, "encoder.fusion.projection")
        x = x + timing(*x.shape)
        both = np.concatenate((mimicking, other), axis=0)
        for k in range(self.layers):
            layer = f"encoder.fusion.layers.{k}"
            x = x + self.attention(self.norm(x, f"{layer}.attention_norm"), both, f"{layer}.attention")
            x = x + self.convolutions(self.norm(x, f"{layer}.filter_norm"), f"{layer}.filter", left=2)
        return self.norm(x, "encoder.fusion.norm")

    def respond(self, fused, ids):
        x = self.linear(self.embed(ids), "decoder.projection")
        x = x + timing(*x.shape)
        for k in range(self.layers):
            layer = f"decoder.layers.{k}"
            normed = self.norm(x, f"{layer}.attention_norm")
            x = x + self.attention(normed, normed, f"{layer}.attention", causal=True)
            x = x + self.attention(self.norm(x, f"{layer}.cross_norm"), fused, f"{layer}.cross_attention")
            x = x + self.convolutions(self.norm(x, f"{layer}.filter_norm"), f"{layer}.filter", left=2)
        return self.norm(x, "decoder.norm")

    def dialog(self, ids, roles, labels, user_scores=None):
        """One dialog.

        Args:
            ids: context.
            roles: 0 the user, 1 the agent.
            labels: the response.
            user_scores: of the classes, which say the user's group; the predicted logits unless given.

        Returns:
            dict of logits, hidden, emotion_logits, kl, log_probs (of the labels).
        """
        ids = np.array([self.query, *ids])
        roles = np.array([self.query, *(self.roles[r] for r in roles)])
        context = self.read(self.embed(ids) + self.embed(roles), "encoder")
        query = context[0]
        emotion_logits = self.linear(query, "encoder.emotion_query") @ self.w["encoder.mixtures.embeddings.weight"].T
        scores = emotion_logits if user_scores is None else user_scores
        names = dict(zip(("positive", "negative"), self.groups, strict=True))
        user = "positive" if max(scores[names["positive"]]) > max(scores[names["negative"]]) else "negative"
        readings, kl = {}, 0.0
        for group, own in names.items():
            emotion = np.tile(self.mixture(query, group, own, group == user), (len(ids), 1))
            reader = "encoder.mimicking" if group == user else "encoder.other"
            readings[group] = self.read(np.concatenate((context, emotion), axis=1), reader)
            m1, v1 = self.latent(query, group, readings[group].mean(axis=0))
            m0, v0 = self.latent(query, group)
            for a, s, b, t in zip(m1, np.exp(v1), m0, np.exp(v0), strict=True):
                kl += 0.5 * (np.log(t) - np.log(s) + (s + (a - b) ** 2) / t - 1)
        (rest,) = set(names) - {user}
        fused = self.fuse(context, readings[user], readings[rest])
        hidden = self.respond(fused, np.array([self.start, *labels[:-1]]))
        logits = self.linear(hidden, "output")
        log_probs = log_softmax(logits)[np.arange(len(labels)), labels]
        return {"logits": logits, "hidden": hidden, "emotion_logits": emotion_logits, "kl": kl, "log_probs": log_probs}
