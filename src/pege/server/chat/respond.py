"""A response as server-sent events: kept first where that is wanted, then streamed, then kept again."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from pege.agent.settings import Settings
from pege.server.chat.store import NewerError, NoDialogError, Store, TooManyError
from pege.server.chat.talk import Talk
from pege.server.service import Done, ModelFailedError, QueueFullError, Service

log = logging.getLogger(__name__)
Event = tuple[str, dict[str, Any]]  # its name, what it says
_WANTED = Settings(max_tokens=120)  # a run's own limit is made for self-chats, and cuts sentences
_FAILURES = {QueueFullError: "busy", TimeoutError: "slow", ModelFailedError: "failed"}


async def respond(talk: Talk, secret: str, service: Service, store: Store, *, key: str = "") -> AsyncGenerator[str]:
    """Give the events of a response; ``key`` is what the person signed in with.

    ``kept`` {key, version, name}: all the page holds is on the disk now. ``unkept`` {why}: it is not (``gone``: the
    database failed or says nothing; ``deleted``; ``many``), and the talk goes on. ``crisis`` {}, ahead of the text: the
    dialog had one, and the page says so from now on, whatever is edited. ``piece`` {text}. ``done`` {text, shown}:
    ``shown`` has an entry an utterance. ``failed`` {why}: ``busy``, ``slow``, ``failed``, ``newer`` (another window
    knows more).
    """
    if talk.keep:
        talk, (name, values) = await keep(talk, secret, store)
        yield _event(name, **values)
        if name == "failed":
            return
    done, had_crisis = None, False
    try:
        async with aclosing(service.stream(talk.context, _WANTED, key=key)) as events:
            async for found in events:
                if isinstance(found, Done):
                    done = found
                    continue
                if found.had_crisis and not had_crisis:
                    had_crisis = True
                    yield _event("crisis")  # before its text: whoever stops here and edits takes it along
                yield _event("piece", text=found.text)
        assert done is not None  # a stream ends with it
        talk = talk.answered(done.text, kind=done.kind, is_fixed=done.is_fixed, extras=done.extras)
    except Exception as e:
        if type(e) not in _FAILURES:
            log.error("a response failed (%s)", type(e).__name__, exc_info=e)
        yield _event("failed", why=_FAILURES.get(type(e), "failed"))
        return
    if talk.keep:
        talk, (name, values) = await keep(talk, secret, store)
        yield _event(name, **values)
    shown = [s.shown.model_dump(mode="json", exclude_defaults=True) for s in talk.said]
    yield _event("done", text=done.text, shown=shown)


async def keep(talk: Talk, secret: str, store: Store) -> tuple[Talk, Event]:
    """Keep a talk; gives it with its key and version, and the event that says what came of it."""
    try:
        kept = await store.ask(
            lambda: store.save(secret, talk.said, key=talk.key, version=talk.version, had_crisis=talk.is_supportive)
        )
    except NewerError:
        return talk, ("failed", {"why": "newer"})
    except NoDialogError:
        return talk.model_copy(update={"keep": False, "key": None}), ("unkept", {"why": "deleted"})
    except TooManyError:
        return talk.model_copy(update={"keep": False}), ("unkept", {"why": "many"})
    except (SQLAlchemyError, OSError) as e:
        log.error("a dialog could not be kept (%s)", type(e).__name__)  # no words of it: they would hold the text
        return talk, ("unkept", {"why": "gone"})
    values = {"key": kept.key, "version": kept.version, "name": kept.name}
    found = {"key": kept.key, "version": kept.version, "had_crisis": kept.had_crisis}
    return talk.model_copy(update=found), ("kept", values)


def _event(name: str, /, **values: Any) -> str:
    return f"event: {name}\ndata: {json.dumps(values)}\n\n"
