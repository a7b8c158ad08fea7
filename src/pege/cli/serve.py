"""``pege serve``: an OpenAI-compatible server around an agent, behind the safety path."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from pege.errors import InputError
from pege.safety.help import check_help
from pege.server.chat.config import ChatConfig
from pege.server.config import ServerConfig
from pege.web import run_app

if TYPE_CHECKING:
    from pege.server.chat.store import Store


def serve(
    run: str,
    /,
    *,
    config: Annotated[ServerConfig | None, Parameter(name="*")] = None,
    chat: Annotated[ChatConfig | None, Parameter(name="*")] = None,
) -> None:
    """Serve a run, `base`, a model of the hub, or a proxy to an endpoint, as an OpenAI-compatible API and a web chat.

    Args:
        run: whom to serve; http://HOST:PORT/v1#MODEL is a proxy with the same safety path.
        config: address, limits, keys.
        chat: the web chat, and what people keep of it.
    """
    config, chat = config or ServerConfig(), chat or ChatConfig()
    config.check_bind()
    check_help()
    try:
        from pege.server.app import make_app, make_service
    except ImportError as e:
        raise InputError(f"the server needs {e.name}", fix="pip install 'pege[web]'") from e
    from pege.agent.path import load_guarded_agent
    from pege.server.logs import log_as_json, log_as_text
    from pege.server.messages import vad_of

    store = _open_store(chat) if chat.chat else None
    (log_as_json if config.json_logs else log_as_text)()
    key = os.environ.get("OPENAI_API_KEY")
    agent = load_guarded_agent(run, config, api_key=key, emotion_input=config.emotion_input)
    vad_of(["hello", "你好"])  # read now what the first response would wait for
    service = make_service(agent, config)
    run_app(
        make_app(service, config, store=store),
        host=config.host,
        port=config.port,
        proxies=config.forwarded_allow_ips,
        on_start=lambda url: print(f"{url}/v1" + (f"\nweb chat: {url}/" if store else ""), flush=True),
        timeout_graceful_shutdown=math.ceil(config.timeout_s),
        limit_concurrency=1_000,
        log_config=None,
    )


def _open_store(chat: ChatConfig) -> Store:
    from pege.server.chat.store import Store
    from pege.web import need_web

    need_web("the web chat")
    folder = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "pege"
    url = chat.database or os.environ.get("PEGE_CHAT_DATABASE") or f"sqlite:///{folder / 'chat.db'}"
    return Store(url, keep_days=chat.keep_days)
