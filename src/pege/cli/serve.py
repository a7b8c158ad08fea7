"""``pege serve``: an OpenAI-compatible server around an agent, behind the safety path."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from pege.agent import GuardedAgent, load_agent
from pege.errors import InputError
from pege.server.config import ServerConfig


def serve(run: str, /, *, config: Annotated[ServerConfig | None, Parameter(name="*")] = None) -> None:
    """Serve a run, `base`, a model of the hub, or a proxy to an endpoint, as an OpenAI-compatible API.

    Args:
        run: whom to serve; http://HOST:PORT/v1#MODEL is a proxy with the same safety path.
        config: address, limits, keys.
    """
    config = config or ServerConfig()
    config.check_bind()
    try:
        import uvicorn

        from pege.server.app import make_app, make_service
    except ImportError as e:
        raise InputError(f"the server needs {e.name}", fix="pip install 'pege[web]'") from e
    from pege.emotion import load_emotion_classifier
    from pege.safety import check_crisis

    check_crisis("")  # a classifier that cannot be loaded is told now, not at the first request
    agent = GuardedAgent(load_agent(run), alert=config.alert)
    classifier = load_emotion_classifier()
    app = make_app(make_service(agent, config, emotions=classifier.emotions), config)
    uvicorn.run(
        app,
        host=config.host,
        port=config.port,
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=int(config.timeout_s),
    )
