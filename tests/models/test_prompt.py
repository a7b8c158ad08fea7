"""One prompt for training and agents, whatever the template."""

from __future__ import annotations

import pytest
from transformers import AutoTokenizer

from pege.dialog import Emotion, make_dialog
from pege.errors import InputError
from pege.models.prompt import SYSTEM_LINE, encode_dialog, system_line

EMOTION = Emotion(negative=0.81, neutral=0.15, positive=0.04)
MESSAGES = make_dialog(["I lost my dog.", "Oh no!", "He ran away."]).messages
NO_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "<|{{ m['role'] }}|>{{ m['content'] | trim }}<|end|>\n{% endfor %}"
)


@pytest.fixture
def tokenizer(tiny_model_dir):
    return AutoTokenizer.from_pretrained(tiny_model_dir)


@pytest.mark.parametrize("template", ["own", NO_SYSTEM, None], ids=["own", "no-system", "plain"])
def test_a_prompt_is_what_training_saw_up_to_the_response(tokenizer, template):
    if template != "own":
        tokenizer.chat_template = template
    whole = encode_dialog(tokenizer, MESSAGES, EMOTION)
    assert [tokenizer.decode(whole.ids[a:b]) for a, b in whole.spans] == [m.content + "<|end|>" for m in MESSAGES]
    for k, role in ((1, "assistant"), (2, "user")):
        prompt = encode_dialog(tokenizer, MESSAGES[:k], EMOTION, next_role=role)
        assert prompt.ids == whole.ids[: whole.spans[k][0]]
        assert tokenizer.decode(prompt.stop_ids) == "<|end|>"


def test_the_emotion_stands_ahead_of_the_first_utterance_with_two_decimals(tokenizer):
    text = tokenizer.decode(encode_dialog(tokenizer, MESSAGES, EMOTION).ids)
    assert text.index("positive 0.04, negative 0.81") < text.index("I lost my dog")
    assert system_line(None) == SYSTEM_LINE


def test_what_is_too_long_loses_its_oldest_turns_and_keeps_the_system_line(tokenizer):
    messages = make_dialog([f"utterance number {k}" for k in range(9)]).messages
    short = encode_dialog(tokenizer, messages, EMOTION, max_length=120)
    text = tokenizer.decode(short.ids)
    assert len(short.ids) <= 120
    assert short.n_dropped % 2 == 0
    assert short.n_dropped > 0
    assert "negative 0.81" in text
    assert "number 8" in text
    assert f"number {short.n_dropped - 1}" not in text


def test_a_template_that_leaves_utterances_out_is_refused(tokenizer):
    tokenizer.chat_template = "{{ messages[-1]['content'] }}"
    with pytest.raises(InputError, match="rewrites or leaves out"):
        encode_dialog(tokenizer, MESSAGES)
