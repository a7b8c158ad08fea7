"""The paper's models as agents: PLATO-2, MoEL and MIME, which read a context and write one response."""

from __future__ import annotations

from collections.abc import Sequence

from pege.agent.model import ModelAgent
from pege.dialog import Context
from pege.models.generation import seeded, tidy
from pege.models.listener_input import collate_listener_samples, encode_listener_sample
from pege.models.plato2.generate import respond

_MAX_CONTEXT = 512  # tokens that MoEL and MIME read


class Plato2Agent(ModelAgent):
    """A PLATO-2 that responds, whichever side is next; of ``num_return_sequences`` candidates it says the best."""

    ranks = True

    def _generate(self, contexts: Sequence[Context], seed: int | None, *, keep_cache: bool = False) -> list[str]:
        generation = dict(self.generation)
        half = self.model.config.max_position_embeddings // 2  # the other half is the context's
        generation["max_new_tokens"] = min(generation["max_new_tokens"], half)
        return respond(
            self.model,
            self.tokenizer,
            contexts,
            n_candidates=generation.pop("num_return_sequences", 1),
            generation=generation,
            emotion_input=self.emotion_input,
            seed=seed,
            **self.processors(contexts),
        )


class ListenerAgent(ModelAgent):
    """A MoEL or MIME that responds; it tells the emotion itself."""

    def _generate(self, contexts: Sequence[Context], seed: int | None, *, keep_cache: bool = False) -> list[str]:
        from transformers import GenerationConfig

        samples = [encode_listener_sample(self.tokenizer, c.utterances, max_length=_MAX_CONTEXT) for c in contexts]
        batch = collate_listener_samples(samples, pad_id=self.tokenizer.pad_token_id)
        inputs = {n: batch[n].to(self.model.device) for n in ("input_ids", "attention_mask", "role_ids")}
        config = self.model.config
        never = {config.query_token_id, *config.role_token_ids, config.bos_token_id, config.pad_token_id}
        settings = GenerationConfig(
            **self.generation,
            eos_token_id=config.eos_token_id,
            pad_token_id=config.pad_token_id,
            decoder_start_token_id=config.decoder_start_token_id,
            suppress_tokens=sorted(never - {config.eos_token_id}),
        )
        processors = self.processors(contexts)  # before the seed is set: it may load a model
        with seeded(self.model.device, seed):
            ids = self.model.generate(
                **inputs, generation_config=settings, **processors
            )  # (B, T), the first token ahead
        texts = self.tokenizer.batch_decode(ids[:, 1:], skip_special_tokens=True)
        return [tidy(t) for t in texts]


#: model_type of a config -> who responds with it
RESPONSE_AGENTS: dict[str, type[ModelAgent]] = {"plato2": Plato2Agent, "moel": ListenerAgent, "mime": ListenerAgent}
