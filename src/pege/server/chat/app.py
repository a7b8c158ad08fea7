"""The web chat's application: mounted beside the API, behind the same limits and headers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException as StarletteHTTPException

from pege.dialog import MAX_UTTERANCE_CHARS
from pege.safety.help import help_written
from pege.server.app import EventStream
from pege.server.chat import pages
from pege.server.chat.respond import keep, respond
from pege.server.chat.site import (
    KEY_COOKIE,
    SETTINGS_COOKIE,
    SETTINGS_DAYS,
    Site,
    Visitor,
    visitor_of,
    write_settings,
)
from pege.server.chat.store import Kept, NoDialogError, Store
from pege.server.chat.talk import Said, Talk, row_of, shows_crisis
from pege.server.config import ServerConfig
from pege.server.service import Service
from pege.web import RateLimit, read_fields, referring_path, static_files

_T = TypeVar("_T")
MAX_FIELDS = 20
_GRACE_S = 60.0  # beyond a response's own limit: for the database, and a client that reads slowly
_EXPORT_S = 60.0  # for all dialogs of a person
MAX_SEARCH_CHARS = 200
_PAGE_OF_STATUS = {401: "no_key", 404: "no_page", 405: "no_page", 429: "slow_down", 503: "gone"}


def make_chat(service: Service, store: Store, config: ServerConfig, rate: RateLimit, *, failed: RateLimit) -> FastAPI:
    """Make the application of the web chat, to be mounted at the root of the API's.

    Args:
        service: answers; the API's own.
        store: of kept dialogs.
        config: keys and limits.
        rate: of a key, or of an address without keys; the API's own.
        failed: wrong keys of an address; the API's own.
    """
    site = Site(config, rate, keep_days=store.keep_days, failed=failed)
    app = FastAPI(title="pege chat", docs_url=None, redoc_url=None, openapi_url=None)
    app.mount("/static", static_files(pages.PAGES / "static"))
    _add_open_pages(app, site)
    _add_dialog_pages(app, site, store, config)
    _add_talk(app, site, service, store, config)
    _add_changes(app, site, store)

    @app.exception_handler(StarletteHTTPException)
    def refuse(request: Request, error: StarletteHTTPException) -> Response:
        status, who = error.status_code, visitor_of(request)
        is_page = "text/html" in request.headers.get("accept", "") and "hx-request" not in request.headers
        if status == 401 and is_page and request.method == "GET":
            return RedirectResponse("/sign-in", 303)
        headers = {"retry-after": "60"} if status == 429 else None
        name = _PAGE_OF_STATUS.get(status, "refused")
        if not is_page:
            return JSONResponse({"why": name}, status, headers)
        return site.page("message", request, who, status=status, heading="", text=pages.words(who.language)[name])

    return app


async def _form(request: Request) -> dict[str, str]:
    return await read_fields(request, most=MAX_FIELDS)


Form = Annotated[dict[str, str], Depends(_form)]


def _add_open_pages(app: FastAPI, site: Site) -> None:
    """What needs no key: signing in, help lines, what is kept, the settings of the pages."""
    who = Depends(site.anybody)

    @app.get("/help")
    def show_help(request: Request, visitor: Visitor = who) -> Response:
        return site.page("help", request, visitor, lines=pages.view_help(), written=help_written())

    @app.get("/privacy")
    def show_privacy(request: Request, visitor: Visitor = who) -> Response:
        return site.page("privacy", request, visitor, days=f"{site.keep_days:g}")

    @app.get("/sign-in")
    def show_sign_in(request: Request, visitor: Visitor = who) -> Response:
        if not site.key_hashes:
            return RedirectResponse("/", 303)
        return site.page("sign_in", request, visitor, is_wrong=False)

    @app.post("/sign-in")
    async def sign_in(request: Request, form: Form, visitor: Visitor = who) -> Response:
        site.check_form(request, visitor, form)
        response: Response = RedirectResponse("/", 303)
        if not site.sign_in(request, response, form.get("key", "")):
            response = site.page("sign_in", request, visitor, status=403, is_wrong=True)
        return response

    @app.post("/sign-out")
    def sign_out(request: Request, form: Form, visitor: Visitor = who) -> Response:
        site.check_form(request, visitor, form)
        response = RedirectResponse("/sign-in", 303)
        response.delete_cookie(KEY_COOKIE)
        return response

    @app.post("/settings")
    def change_settings(request: Request, form: Form, visitor: Visitor = who) -> Response:
        site.check_form(request, visitor, form)
        response = RedirectResponse(referring_path(request), 303)
        value = write_settings(visitor, form)
        site.set_cookie(request, response, SETTINGS_COOKIE, value, days=SETTINGS_DAYS)
        return response


def _add_dialog_pages(app: FastAPI, site: Site, store: Store, config: ServerConfig) -> None:
    """The chat itself, the list of kept dialogs, exports."""
    who = Depends(site.visitor)

    async def chat(request: Request, visitor: Visitor, said: tuple[Said, ...] = (), **values: Any) -> Response:
        kept = await _listed(store, visitor, current=values["key"])
        limits: dict[str, Any] = {"max_chars": MAX_UTTERANCE_CHARS, "max_messages": config.max_messages}
        script: dict[str, Any] = {"blanks": pages.blanks(), "all_words": json.dumps(pages.words(visitor.language))}

        def page() -> Response:
            shown = pages.view_said(said)
            return site.page("chat", request, visitor, kept=kept, wanted="", said=shown, **limits, **script, **values)

        response = await run_in_threadpool(page)
        if kept:
            site.remember(request, response, visitor)
        return response

    @app.get("/")
    async def begin(request: Request, visitor: Visitor = who) -> Response:
        return await chat(request, visitor, key=None, version=0, name="", had_crisis=False)

    @app.get("/dialog/{key}")
    async def show(request: Request, key: str, visitor: Visitor = who) -> Response:
        kept, said = await _stored(store, lambda: store.load(visitor.secret, key))
        had_crisis = kept.had_crisis or shows_crisis(said)
        return await chat(
            request, visitor, said, key=kept.key, version=kept.version, name=kept.name, had_crisis=had_crisis
        )

    @app.get("/dialogs")
    async def find(request: Request, q: str = "", visitor: Visitor = who) -> Response:
        return await _list_part(request, store, visitor, wanted=q)

    @app.get("/export/{key}.jsonl")
    async def export(key: str, visitor: Visitor = who) -> Response:
        return _download(f"{key}.jsonl", [await _stored(store, lambda: _row(*store.load(visitor.secret, key)))])

    @app.get("/export.jsonl")
    async def export_all(visitor: Visitor = who) -> Response:
        rows = await _stored(store, lambda: [_row(*f) for f in store.every(visitor.secret)], limit_s=_EXPORT_S)
        return _download("dialogs.jsonl", rows)


def _add_talk(app: FastAPI, site: Site, service: Service, store: Store, config: ServerConfig) -> None:
    """What the page's script sends: a talk to answer, a talk to keep."""
    who = Depends(site.visitor)

    async def read(request: Request, visitor: Visitor) -> Talk:
        site.check_form(request, visitor)
        try:
            talk = Talk.model_validate_json(await request.body())
        except ValidationError as e:
            raise HTTPException(422) from e
        if len(talk.said) > config.max_messages:
            raise HTTPException(422)
        return talk

    @app.post("/respond")
    async def answer(request: Request, visitor: Visitor = who) -> Response:
        talk = await read(request, visitor)
        if len(talk.said) % 2 == 0:
            raise HTTPException(422)
        events = respond(talk, visitor.secret, service, store, key=visitor.key)
        response = EventStream(events, limit_s=service.timeout_s + _GRACE_S)
        if talk.keep:
            site.remember(request, response, visitor)
        return response

    @app.post("/keep")
    async def keep_talk(request: Request, visitor: Visitor = who) -> Response:
        talk = await read(request, visitor)
        _, (name, values) = await keep(talk, visitor.secret, store)
        response = JSONResponse({"event": name, **values})
        site.remember(request, response, visitor)
        return response


def _add_changes(app: FastAPI, site: Site, store: Store) -> None:
    """Forms of the list of kept dialogs: rename, delete."""
    who = Depends(site.visitor)

    @app.post("/dialog/{key}/rename")
    async def rename(request: Request, key: str, form: Form, visitor: Visitor = who) -> Response:
        site.check_form(request, visitor, form)
        await _stored(store, lambda: store.rename(visitor.secret, key, form.get("name", "")))
        return await _after_change(request, store, visitor, form)

    @app.post("/dialog/{key}/delete")
    async def delete(request: Request, key: str, form: Form, visitor: Visitor = who) -> Response:
        site.check_form(request, visitor, form)
        await _stored(store, lambda: store.delete(visitor.secret, key))
        return await _after_change(request, store, visitor, form, deleted=key)

    @app.post("/delete-all")
    async def delete_all(request: Request, form: Form, visitor: Visitor = who) -> Response:
        site.check_form(request, visitor, form)
        await _stored(store, lambda: store.delete(visitor.secret))
        return await _after_change(request, store, visitor, form, deleted=_open_key(request))


async def _stored(store: Store, act: Callable[[], _T], *, limit_s: float | None = None) -> _T:
    """Ask the store, and word what fails as a status."""
    try:
        return await store.ask(act, limit_s=limit_s)
    except NoDialogError as e:
        raise HTTPException(404) from e
    except SQLAlchemyError as e:
        raise HTTPException(503) from e


async def _listed(
    store: Store, visitor: Visitor, *, current: str | None, wanted: str = ""
) -> list[dict[str, Any]] | None:
    """The list of kept dialogs; None where the database does not answer: the page works without."""
    if visitor.is_new:
        return []
    try:
        found = await store.ask(lambda: store.find(visitor.secret, wanted[:MAX_SEARCH_CHARS]))
        return pages.view_kept(found, current)
    except SQLAlchemyError:
        return None


def _open_key(request: Request) -> str | None:
    """Key of the dialog on the page that asks."""
    path = urlsplit(request.headers.get("hx-current-url", "")).path
    return path.removeprefix("/dialog/") if path.startswith("/dialog/") else None


async def _list_part(request: Request, store: Store, visitor: Visitor, *, wanted: str) -> Response:
    kept = await _listed(store, visitor, current=_open_key(request), wanted=wanted)
    values = {"csrf": visitor.form_token, "kept": kept, "wanted": wanted}
    return HTMLResponse(await run_in_threadpool(pages.render, "list", visitor.language, **values))


async def _after_change(
    request: Request, store: Store, visitor: Visitor, form: dict[str, str], *, deleted: str | None = None
) -> Response:
    """The new list; a new page where the open dialog was deleted, or where no script asked."""
    if "hx-request" not in request.headers:
        return RedirectResponse("/", 303)
    response = await _list_part(request, store, visitor, wanted=form.get("q", ""))
    if deleted is not None and deleted == _open_key(request):
        response.headers["hx-redirect"] = "/"
    return response


def _row(kept: Kept, said: tuple[Said, ...]) -> str:
    return row_of(kept.key, kept.name, said).model_dump_json(exclude_none=True)


def _download(name: str, rows: list[str]) -> Response:
    text = "".join(f"{row}\n" for row in rows)
    return Response(
        text, media_type="application/jsonl", headers={"content-disposition": f'attachment; filename="{name}"'}
    )
