"""Reference values of PLATO-2, made by PaddleNLP's own UnifiedTransformer: `python tests/reference/plato2.py OUT`.

Run once, in an environment of its own (never a dependency of pege): Python 3.11, paddlepaddle 3.3.1, paddlenlp 2.8.1,
setuptools<70, numpy<2, pyarrow<17, datasets<3, huggingface_hub<0.25, transformers<4.46, aistudio-sdk<0.2.4. It writes, for a
pre-norm, a post-norm and a role model of a few thousand weights: the folder that PaddleNLP saves, and values.npz with
inputs and logits, at several lengths, with padding on the left, and step by step with its cache.
"""

import json
import sys
from pathlib import Path

import numpy as np
import paddle
from paddlenlp.transformers import UnifiedTransformerConfig, UnifiedTransformerLMHeadModel

SHAPES = {
    "pre": {"normalize_before": True},
    "post": {"normalize_before": False},
    "role": {"normalize_before": True, "role_type_size": 4, "type_vocab_size": 3},
}
V = 41


def mask_of(types, n_pad):
    """1 where a position may be seen: the context by all, a response up to itself, padding by none."""
    n = len(types)
    seen = (types[None] == 0) | (np.arange(n)[None] <= np.arange(n)[:, None])
    seen[:, :n_pad] = False
    return seen


def main(out):
    rng = np.random.default_rng(0)
    for name, more in SHAPES.items():
        paddle.seed(1)
        config = UnifiedTransformerConfig(
            vocab_size=V, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
            max_position_embeddings=24, mask_token_id=V - 1, **more,
        )  # fmt: skip
        model = UnifiedTransformerLMHeadModel(config)
        for parameter in model.parameters():  # biases and norms too, so that every weight counts
            noise = 0.3 * rng.standard_normal(parameter.shape) + (1 if "norm" in parameter.name else 0)
            parameter.set_value(paddle.to_tensor(noise.astype("float32")))
        model.eval()
        folder = out / name
        model.save_pretrained(str(folder))
        (folder / "model_config.json").write_text(json.dumps(json.loads((folder / "config.json").read_text())))
        values = {}
        for case, (n_context, n_response, n_pad) in enumerate([(3, 1, 0), (5, 4, 0), (7, 6, 3), (12, 10, 2)]):
            n = n_context + n_response + n_pad
            ids = rng.integers(3, V - 1, (2, n))
            ids[:, :n_pad] = 0
            types = np.array([0] * (n_pad + n_context) + [1] * n_response)
            positions = np.array([0] * n_pad + list(range(n - n_pad)))
            roles = rng.integers(0, 4, (2, n))
            seen = mask_of(types, n_pad)
            both = lambda row: np.stack([row, row])  # noqa: E731
            more_inputs = {"role_ids": paddle.to_tensor(roles)} if name == "role" else {}
            additive = np.where(seen, 0.0, -1e4).astype("float32")
            with paddle.no_grad():
                logits = model(
                    paddle.to_tensor(ids), paddle.to_tensor(both(types)), paddle.to_tensor(both(positions)),
                    paddle.to_tensor(both(additive)[:, None]), **more_inputs,
                )  # fmt: skip
                steps, cache = [], None
                for stop in [n_pad + n_context, *range(n_pad + n_context + 1, n + 1)]:
                    start = 0 if cache is None else stop - 1
                    cut = slice(start, stop)
                    roles_now = {"role_ids": paddle.to_tensor(roles[:, cut])} if name == "role" else {}
                    step, cache = model(
                        paddle.to_tensor(ids[:, cut]), paddle.to_tensor(both(types)[:, cut]),
                        paddle.to_tensor(both(positions)[:, cut]), paddle.to_tensor(both(additive)[:, None, cut, :stop]),
                        use_cache=True, cache=cache, **roles_now,
                    )[:2]  # fmt: skip
                    steps.append(step.numpy())
            values |= {
                f"{case}.ids": ids, f"{case}.types": both(types), f"{case}.positions": both(positions),
                f"{case}.roles": roles, f"{case}.seen": both(seen), f"{case}.logits": logits.numpy(),
                f"{case}.steps": np.concatenate(steps, axis=1),
            }  # fmt: skip
        np.savez_compressed(folder / "values.npz", **values)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
