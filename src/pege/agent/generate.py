"""A local Hugging Face model as an agent: batched, left-padded, with a KV cache, seeded."""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pege.agent.kept import Kept, join, keep, new_cache
from pege.agent.model import ModelAgent
from pege.agent.responses import RESPONSE_AGENTS
from pege.dialog import Context, Role
from pege.models.causal import fast_device, fast_dtype, is_guided, load_model, run_settings
from pege.models.generation import check_generation, local_names, seeded, tidy
from pege.models.prompt import encode_dialog

if TYPE_CHECKING:
    from pege.agent.flight import Flight
    from pege.agent.guided import Guide


class LocalAgent(ModelAgent):
    """A causal LM that speaks for one side.

    Args:
        name: what logs and rows call it.
        model: a Hugging Face causal LM.
        tokenizer: its tokenizer.
        role: whose utterances it gives: ``assistant``, or ``user`` for a base-chat.
        emotion_input: whether p(positive | u1) and p(negative | u1) stand in its prompt, as in its training.
        generation: names of GenerationConfig; over the defaults of `pege.agent.model`.
        max_context: tokens of the prompt; older turns are dropped, and an utterance that alone is too long loses its
            beginning. A model with few positions has less room.
        keep_cache: whether a call keeps its keys and values, so that the next one, with the same dialogs a turn later,
            reads only what is new, and whether `flight` may be asked for. For one caller at a time.
        guide: guidance while decoding; none unless given.
        can_support: whether it may answer after a crisis: guidance can be switched off, so none was learned.

    Raises:
        InputError: a setting of generation out of its range.
    """

    def __init__(
        self,
        name: str,
        model: Any,
        tokenizer: Any,
        *,
        role: Role = "assistant",
        emotion_input: bool = False,
        generation: dict[str, Any] | None = None,
        max_context: int = 1024,
        keep_cache: bool = False,
        guide: Guide | None = None,
        can_support: bool = True,
    ) -> None:
        super().__init__(
            name,
            model,
            tokenizer,
            emotion_input=emotion_input,
            generation=generation,
            keep_cache=keep_cache,
            guide=guide,
        )
        self.role: Role = role
        self.max_context, self.can_support = max_context, can_support
        self._kept: Kept | None = None

    def stream(self, context: Context, *, seed: int | None = None) -> Generator[str]:
        """Give the response to one context in pieces, as they are generated.

        What fails in the thread that generates is raised here. Where the caller leaves off (Ctrl-C, ``close``), the
        thread stops after the token it is at.
        """
        from transformers import TextIteratorStreamer

        streamer = TextIteratorStreamer(self.tokenizer, skip_prompt=True, skip_special_tokens=True)
        prompts, stop_ids = self.prompts([context])
        input_ids, mask, _ = join(None, prompts, pad_id=self.tokenizer.pad_token_id)
        inputs = {"input_ids": input_ids, "attention_mask": mask}
        left_off = threading.Event()
        failures: list[BaseException] = []

        def work() -> None:
            try:
                more = {"stopping_criteria": [_stopper(left_off)], **self.processors([context])}
                self._sample(inputs, stop_ids, seed, streamer=streamer, **more)
            except BaseException as e:  # raised again below, in the caller's thread
                failures.append(e)
                streamer.end()

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            yield from streamer
        finally:
            left_off.set()
            thread.join()
        if failures:
            raise failures[0]

    def flight(self) -> Flight | None:
        """Give what generates utterances of many dialogs side by side; None with settings it cannot (`Flight`)."""
        from pege.agent.flight import Flight, takes_flight

        return Flight(self) if self.keep_cache and takes_flight(self) else None

    def _generate(self, contexts: Sequence[Context], seed: int | None, *, keep_cache: bool = False) -> list[str]:
        prompts, stop_ids = self.prompts(contexts)
        keep_cache = keep_cache and self.generation.get("num_beams", 1) == 1  # a beam's keys are not one dialog's
        kept = self._kept if keep_cache else None
        input_ids, mask, cache = join(kept, prompts, pad_id=self.tokenizer.pad_token_id)
        inputs = {"input_ids": input_ids, "attention_mask": mask}
        cache = new_cache(self.model) if cache is None else cache
        out = self._sample(inputs, stop_ids, seed, cache=cache, **self.processors(contexts))
        if keep_cache:
            self._kept = keep(out.cache, out.sequences, mask, stop_ids)
        ids = out.sequences[:, input_ids.shape[1] :]  # (B, new)
        texts = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [tidy(t) for t in texts]

    @property
    def _n_positions(self) -> int | None:
        """Tokens that the model can tell apart by their place; None for one without positions of its own."""
        n = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return n if n and n > 0 else None

    def n_new(self, n_prompt: int) -> int:
        """Tokens that the utterance after a prompt of so many may have; both fit the model's positions."""
        n, wanted = self._n_positions, int(self.generation["max_new_tokens"])
        return wanted if n is None else max(1, min(wanted, n - n_prompt))

    def prompts(self, contexts: Sequence[Context]) -> tuple[list[list[int]], list[int]]:
        """Give the token ids of each context with the header of what follows, and the tokens that end an utterance."""
        n, n_prompt = self._n_positions, self.max_context
        if n is not None:  # half of them at least are the prompt's
            n_prompt = min(n_prompt, max(n - int(self.generation["max_new_tokens"]), n // 2))
        encoded = [
            encode_dialog(
                self.tokenizer,
                c.utterances,
                c.emotion if self.emotion_input else None,
                next_role=self.role,
                max_length=n_prompt,
                cuts_text=True,
                is_supportive=c.is_supportive,
            )
            for c in contexts
        ]
        stop_ids = {i for e in encoded for i in e.stop_ids} | {self.tokenizer.eos_token_id}
        return [e.ids for e in encoded], sorted(i for i in stop_ids if i is not None)

    def _sample(self, inputs: dict[str, Tensor], stop_ids: list[int], seed: int | None, **more: Any) -> Any:
        from transformers import GenerationConfig

        config = GenerationConfig(
            **self.generation | {"max_new_tokens": self.n_new(int(inputs["attention_mask"].sum(1).max()))},
            eos_token_id=stop_ids,
            pad_token_id=self.tokenizer.pad_token_id,
            return_dict_in_generate=True,
        )
        device = self.model.device
        with seeded(device, seed):
            return self.model.generate(**{k: v.to(device) for k, v in inputs.items()}, generation_config=config, **more)


def _stopper(left_off: threading.Event) -> Any:
    """What `generate` asks after each token: whether each sequence, (B,), is to end."""

    def stop(input_ids: Tensor, _scores: Any, **_: Any) -> Tensor:
        return torch.full((len(input_ids),), left_off.is_set(), device=input_ids.device)

    return stop


def load_local_agent(
    spec: str,
    *,
    role: Role = "assistant",
    generation: dict[str, Any] | None = None,
    dtype: str = "fast",
    keep_cache: bool = False,
    guide: Guide | None = None,
) -> ModelAgent:
    """Load a run, ``base``, or a model of the hub as an agent; a run brings its own prompt and generation settings.

    A checkpoint in a run's folder has them too. The model is put on the GPU where there is one. The dtype ``fast`` is
    this machine's, see `pege.models.causal.fast_dtype`. PLATO-2, MoEL and MIME speak for whoever is next: their role is
    the dialog's.

    Raises:
        InputError: no such model; a run's config that is cut; a setting of generation that GenerationConfig does not
            know or that is out of its range. Settings are checked before the model is loaded.
    """
    run = run_settings(spec)
    generation = run.get("generation", {}) | (generation or {})
    check_generation(generation, known=local_names())
    model, tokenizer = load_model(spec, dtype=fast_dtype() if dtype == "fast" else dtype)
    model.to(fast_device())
    settings: dict[str, Any] = {
        "emotion_input": run.get("emotion_input", False),
        "generation": generation,
        "guide": guide,
    }
    if model.config.model_type in RESPONSE_AGENTS:
        return RESPONSE_AGENTS[model.config.model_type](str(spec), model, tokenizer, **settings)
    can_support = not is_guided(spec, model)
    return LocalAgent(
        str(spec), model, tokenizer, role=role, keep_cache=keep_cache, can_support=can_support, **settings
    )
