"""Agents: anything that responds to contexts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pege.agent.agent import Agent
from pege.agent.guarded import GuardedAgent, crisis_help
from pege.dialog import Role
from pege.errors import InputError

if TYPE_CHECKING:
    from pege.agent.guided import Guide

__all__ = ["Agent", "GuardedAgent", "agent_name", "crisis_help", "load_agent"]


def load_agent(
    spec: str,
    *,
    role: Role = "assistant",
    generation: dict[str, Any] | None = None,
    dtype: str = "fast",
    api_key: str | None = None,
    keep_cache: bool = False,
    emotion_input: bool = False,
    guide: Guide | None = None,
) -> Agent:
    """Load an agent by what a person writes: a run, ``base``, a hub name, or ``http://HOST:PORT/v1#MODEL``.

    ``trivial:NAME`` is an agent without a model (`pege.agent.trivial`). ``guide`` guides a local model's decoding.

    ``keep_cache`` lets a local model read only what is new of the dialogs that it was called with a turn before.
    ``emotion_input`` puts p(positive | u1) and p(negative | u1) into an endpoint's system message, for one that serves
    a run trained with them; a run that is loaded here brings its own setting, other models get none.

    Raises:
        InputError: no such model; an endpoint without a model's name; a setting of generation out of its range; a guide
            for an agent whose logits are not here.
    """
    if guide is not None and spec.startswith(("http://", "https://", "trivial:")):
        raise InputError("has no logits here that could be guided", where=spec, fix="leave --guide out")
    if spec.startswith("trivial:"):
        from pege.agent.trivial import load_trivial_agent

        return load_trivial_agent(spec)
    if spec.startswith(("http://", "https://")):
        from pege.agent.endpoint import EndpointAgent

        url, _, model = spec.partition("#")
        if not model:
            raise InputError("names no model", where=spec, fix="write http://HOST:PORT/v1#MODEL")
        return EndpointAgent(url, model, role=role, api_key=api_key, emotion_input=emotion_input, generation=generation)
    from pege.agent.generate import load_local_agent

    return load_local_agent(spec, role=role, generation=generation, dtype=dtype, keep_cache=keep_cache, guide=guide)


def agent_name(spec: str) -> str:
    """Give the name that the agent of `load_agent` has, without loading it."""
    url, _, model = spec.partition("#")
    return f"{model}@{url}" if spec.startswith(("http://", "https://")) else spec
