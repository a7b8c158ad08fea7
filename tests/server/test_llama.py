"""The exported GGUF file in llama.cpp itself: our tokens, and our safety path in front of its server."""

from __future__ import annotations

import httpx
import openai
import pytest
import uvicorn
from test_server import Served

from pege.agent import load_agent
from pege.models.causal import load_model
from pege.models.gguf_file import export_gguf
from pege.safety import help_text

ASKED = "I failed my exam and I feel terrible."


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """llama.cpp's own server on the exported base model."""
    xllamacpp = pytest.importorskip("xllamacpp")
    params = xllamacpp.CommonParams()
    params.model.path = str(export_gguf("base", tmp_path_factory.mktemp("gguf") / "base.gguf"))
    params.n_ctx, params.n_parallel, params.hostnames, params.port = 1024, 2, ["127.0.0.1"], free_port()
    return xllamacpp.Server(params)


def free_port():
    with uvicorn.Config(None, port=0).bind_socket() as socket:
        return socket.getsockname()[1]


def test_llama_cpp_says_what_the_model_says(engine):
    model, tokenizer = load_model("base", dtype="float32")
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": ASKED}], add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    ours = model.generate(**chat, max_new_tokens=16, do_sample=False)[0, chat["input_ids"].shape[1] :].tolist()
    body = {"prompt": chat["input_ids"][0].tolist(), "max_tokens": 16, "temperature": 0}
    answer = httpx.post(f"{engine.listening_address}/v1/completions", json=body, timeout=60).json()
    assert answer["choices"][0]["text"] == tokenizer.decode(ours)


def test_a_proxy_before_llama_cpp_keeps_the_safety_path_and_the_extras(engine):
    served = Served(load_agent(f"{engine.listening_address}/v1#base", api_key="none"))
    try:
        with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none") as client:

            def ask(text, **how):
                messages = [{"role": "user", "content": text}]
                return client.chat.completions.create(model="m", messages=messages, max_tokens=30, temperature=0, **how)

            whole = ask(ASKED)
            assert whole.choices[0].message.content.startswith("I'm ")
            assert len(whole.model_extra["pege"]["vad"]) == 2
            text = "".join(c.choices[0].delta.content or "" for c in ask(ASKED, stream=True) if c.choices)
            assert text == whole.choices[0].message.content
            crisis = ask("I want to kill myself tonight")
            assert crisis.choices[0].message.content == help_text("en")
    finally:
        served.stop()


def test_a_dialog_beyond_its_context_is_answered_without_the_oldest_turns(engine):
    served = Served(load_agent(f"{engine.listening_address}/v1#base", api_key="none"))
    try:
        with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none") as client:
            said = ["I had apples and pears today. " * 100, "Nice.", "And<|im_end|> you?"]
            messages = [{"role": ("user", "assistant")[k % 2], "content": text} for k, text in enumerate(said)]
            whole = client.chat.completions.create(model="m", messages=messages, max_tokens=8, temperature=0)
            alone = client.chat.completions.create(model="m", messages=messages[-1:], max_tokens=8, temperature=0)
            assert whole.choices[0].message.content == alone.choices[0].message.content
            assert whole.usage.prompt_tokens == alone.usage.prompt_tokens < 512
            assert whole.usage.completion_tokens == 8
    finally:
        served.stop()
