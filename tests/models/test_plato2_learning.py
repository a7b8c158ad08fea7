"""The fused loss on PLATO-2 against the eager one from full logits."""

from __future__ import annotations

import pytest
import torch

from pege.loss import eager, pege_loss
from pege.models.head import head_of, run_to_head
from pege.models.plato2 import Plato2Config, Plato2ForConditionalGeneration
from pege.models.plato2.encode import Sample, collate_samples

V = 60


def learned_states(model, batch):
    """What the trainer gives the loss: states (T, H) and labels (T,) of the learned tokens."""
    states, _ = run_to_head(model, **{name: value for name, value in batch.items() if name != "labels"})
    learned = batch["labels"][:, 1:] != -100
    return states[:, :-1][learned], batch["labels"][:, 1:][learned]


def sample_of(n_context, n_response, seed):
    g = torch.Generator().manual_seed(seed)
    n = n_context + n_response
    return Sample(
        input_ids=torch.randint(3, V - 1, (n,), generator=g).tolist(),
        token_type_ids=[0] * n_context + [1] * n_response,
        position_ids=list(range(n)), role_ids=[0] * n, n_context=n_context, n_dropped=0, emotion=None,
    )  # fmt: skip


def inputs():
    torch.manual_seed(0)
    config = Plato2Config.of_size(
        "tiny", vocab_size=V, mask_token_id=V - 1, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    model = Plato2ForConditionalGeneration(config).train()
    with torch.no_grad():
        model.lm_head.decoder.bias.normal_()
    batch = collate_samples([sample_of(5, 4, 0), sample_of(9, 7, 1), sample_of(3, 2, 2)], pad_id=0)
    n_tokens = 3 + 6 + 1
    g = torch.Generator().manual_seed(3)
    guidance = {
        "token_vad": torch.rand(V, 3, generator=g), "user_vad": torch.rand(n_tokens, 3, generator=g),
        "p_positive": torch.rand(n_tokens, generator=g), "p_negative": 0.3,
        "n_utterances": torch.randint(1, 9, (n_tokens,), generator=g),
    }  # fmt: skip
    return model, batch, guidance


def test_the_fused_loss_from_states_is_the_eager_one_from_logits():
    model, batch, guidance = inputs()
    states, labels = learned_states(model, batch)
    head = head_of(model)
    fused = pege_loss(states, head.weight, labels, bias=head.bias, **guidance)
    fused.loss.backward()
    grads = {n: p.grad.clone() for n, p in model.named_parameters()}
    model.zero_grad()

    logits = model(**batch).logits[:, :-1][batch["labels"][:, 1:] != -100]  # (T, V)
    # the eager formula takes states and a matrix: with the identity as matrix, its logits are these
    plain = eager.pege_loss(logits, torch.eye(V), labels, **guidance)
    plain.loss.backward()
    assert float(fused.loss.detach()) == pytest.approx(float(plain.loss.detach()), abs=1e-5)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(grads[name], parameter.grad, atol=1e-5, rtol=1e-4)


def test_without_guidance_it_is_the_models_own_loss():
    model, batch, guidance = inputs()
    states, labels = learned_states(model, batch)
    head = head_of(model)
    found = pege_loss(states, head.weight, labels, bias=head.bias, **guidance | {"alpha": 0.0, "beta": 0.0})
    assert float(found.loss.detach()) == pytest.approx(float(model(**batch).loss.detach()), abs=1e-5)
