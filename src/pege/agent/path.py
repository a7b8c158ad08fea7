"""The safety path as an owner sets it, the same in the terminal, the server and the proxy."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from pege.agent import GuardedAgent, load_agent
from pege.agent.agent import can_support
from pege.agent.alert import Alerts
from pege.agent.endpoint import EndpointAgent
from pege.agent.guard import load_guard
from pege.agent.output_filter import refuse_response
from pege.emotion import load_emotion_classifier
from pege.errors import InputError
from pege.safety import check_crisis


class SafetyConfig(BaseModel):
    """What an owner can set of the safety path; nothing of it turns it off.

    Attributes:
        guards: guard models beside our check (Qwen3Guard, Llama Guard): http://HOST:PORT/v1#MODEL, a folder, a name.
        support: who answers after a crisis, a run, a name or http://HOST:PORT/v1#MODEL. It must not have learned
            guidance. Unless named, the served model does where it is known not to have; else the fixed text goes on.
        alert_command: a program and its arguments, run at each new hit of the crisis check with the kind behind them;
            it is given no text of the person's.
        alert_url: an https address that is sent kind and time of each new hit, as JSON, and no text.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    guards: tuple[str, ...] = ()
    support: str | None = None
    alert_command: tuple[str, ...] = ()
    alert_url: Annotated[str, Field(pattern=r"^https://[^\s/]+\S*$")] | None = None


def load_guarded_agent(spec: str, config: SafetyConfig, *, api_key: str | None = None, **how: Any) -> GuardedAgent:
    """Load an agent behind the safety path; whatever of that cannot be loaded is told now, not at the first request.

    Args:
        spec: see `pege.agent.load_agent`.
        config: of the safety path.
        api_key: of endpoints.
        how: further arguments of ``load_agent``.

    Raises:
        InputError: no such model; a check that cannot be loaded; one that may not support.
    """
    check_crisis("")
    refuse_response("hello")
    classifier = load_emotion_classifier()
    guards = [load_guard(guard, api_key=api_key) for guard in config.guards]
    agent = load_agent(spec, api_key=api_key, **how)
    named = config.support
    support = None if named is None else agent if named == spec else load_agent(named, api_key=api_key, **how)
    if support is not None and not isinstance(support, EndpointAgent) and not can_support(support):
        raise InputError(
            "has learned guidance, or cannot be told to support",
            where=f"--support {named}",
            fix="name base, or a run without the loss",
        )
    alert = Alerts(config.alert_command, config.alert_url) if config.alert_command or config.alert_url else None
    return GuardedAgent(agent, guards=guards, alert=alert, support=support, emotions=classifier.emotions)
