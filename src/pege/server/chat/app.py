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
from starlette.exceptions import HTTPException as StarletteHTTPException

from pege.dialog import MAX_UTTERANCE_CHARS
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
from pege.server.chat.store import NoDialogError, Store
from pege.server.chat.talk import Talk, row_of
from pege.server.config import ServerConfig
from pege.server.service import Service
from pege.web import RateLimit, read_fields, referring_path, static_files

_T = TypeVar("_T")
MAX_FIELDS = 20
_GRACE_S = 60.0  # beyond a response's own limit: for the database, and a client that reads slowly
MAX_SEARCH_CHARS = 200
_PAGE_OF_STATUS = {401: "no_key", 404: "no_page", 405: "no_page", 429: "slow_down", 503: "gone"}


def make_chat(service: Service, store: Store, config: ServerConfig, rate: RateLimit) -> FastAPI:
    """Make the application of the web chat, to be mounted at the root of the API's.

    Args:
        service: answers; the API's own.
        store: of kept dialogs.
        config: keys and limits.
        rate: of a key, or of an address without keys; the API's own.
    """
    site = Site(config, rate, keep_days=store.keep_days)
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
        return site.page("help", request, visitor, lines=pages.view_help())

    @app.get("/privacy")
    def show_privacy(request: Request, visitor: Visitor = who) -> Response:
        return site.page("privacy", request, visitor, days=f"{site.keep_days:g}")

    @app.get("/sign-in")
    def show_sign_in(request: Request, visitor: Visitor = who) -> Response:
        if not site.key_hashes:
            return RedirectResponse("/", 303)
        return site.page("sign_in", request, visitor, is_wrong=False)

    @app.post("/sign-in")
    def sign_in(request: Request, form: Form, visitor: Visitor = who) -> Response:
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

    def chat(request: Request, visitor: Visitor, **values: Any) -> Response:
        kept = _listed(store, visitor, current=values["key"])
        limits: dict[str, Any] = {"max_chars": MAX_UTTERANCE_CHARS, "max_messages": config.max_messages}
        script: dict[str, Any] = {"blanks": pages.blanks(), "all_words": json.dumps(pages.words(visitor.language))}
        response = site.page("chat", request, visitor, kept=kept, wanted="", **limits, **script, **values)
        if kept:
            site.remember(request, response, visitor)
        return response

    @app.get("/")
    def begin(request: Request, visitor: Visitor = who) -> Response:
        return chat(request, visitor, key=None, version=0, name="", said=[])

    @app.get("/dialog/{key}")
    def show(request: Request, key: str, visitor: Visitor = who) -> Response:
        kept, said = _stored(lambda: store.load(visitor.secret, key))
        return chat(request, visitor, key=kept.key, version=kept.version, name=kept.name, said=pages.view_said(said))

    @app.get("/dialogs")
    def find(request: Request, q: str = "", visitor: Visitor = who) -> Response:
        return _list_part(request, store, visitor, wanted=q)

    @app.get("/export/{key}.jsonl")
    def export(key: str, visitor: Visitor = who) -> Response:
        kept, said = _stored(lambda: store.load(visitor.secret, key))
        return _download(f"{kept.key}.jsonl", [row_of(kept.key, kept.name, said).model_dump_json(exclude_none=True)])

    @app.get("/export.jsonl")
    def export_all(visitor: Visitor = who) -> Response:
        found = _stored(lambda: list(store.every(visitor.secret)))
        rows = [row_of(kept.key, kept.name, said).model_dump_json(exclude_none=True) for kept, said in found]
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
    def rename(request: Request, key: str, form: Form, visitor: Visitor = who) -> Response:
        site.check_form(request, visitor, form)
        _stored(lambda: store.rename(visitor.secret, key, form.get("name", "")))
        return _after_change(request, store, visitor, form)

    @app.post("/dialog/{key}/delete")
    def delete(request: Request, key: str, form: Form, visitor: Visitor = who) -> Response:
        site.check_form(request, visitor, form)
        _stored(lambda: store.delete(visitor.secret, key))
        return _after_change(request, store, visitor, form, deleted=key)

    @app.post("/delete-all")
    def delete_all(request: Request, form: Form, visitor: Visitor = who) -> Response:
        site.check_form(request, visitor, form)
        _stored(lambda: store.delete(visitor.secret))
        return _after_change(request, store, visitor, form, deleted=_open_key(request))


def _stored(act: Callable[[], _T]) -> _T:
    """Ask the store, and word what fails as a status."""
    try:
        return act()
    except NoDialogError as e:
        raise HTTPException(404) from e
    except SQLAlchemyError as e:
        raise HTTPException(503) from e


def _listed(store: Store, visitor: Visitor, *, current: str | None, wanted: str = "") -> list[dict[str, Any]] | None:
    """The list of kept dialogs; None where the database does not answer: the page works without."""
    if visitor.is_new:
        return []
    try:
        return pages.view_kept(store.find(visitor.secret, wanted[:MAX_SEARCH_CHARS]), current)
    except SQLAlchemyError:
        return None


def _open_key(request: Request) -> str | None:
    """Key of the dialog on the page that asks."""
    path = urlsplit(request.headers.get("hx-current-url", "")).path
    return path.removeprefix("/dialog/") if path.startswith("/dialog/") else None


def _list_part(request: Request, store: Store, visitor: Visitor, *, wanted: str) -> Response:
    kept = _listed(store, visitor, current=_open_key(request), wanted=wanted)
    text = pages.render("list", visitor.language, csrf=visitor.form_token, kept=kept, wanted=wanted)
    return HTMLResponse(text)


def _after_change(
    request: Request, store: Store, visitor: Visitor, form: dict[str, str], *, deleted: str | None = None
) -> Response:
    """The new list; a new page where the open dialog was deleted, or where no script asked."""
    if "hx-request" not in request.headers:
        return RedirectResponse("/", 303)
    response = _list_part(request, store, visitor, wanted=form.get("q", ""))
    if deleted is not None and deleted == _open_key(request):
        response.headers["hx-redirect"] = "/"
    return response


def _download(name: str, rows: list[str]) -> Response:
    text = "".join(f"{row}\n" for row in rows)
    return Response(
        text, media_type="application/jsonl", headers={"content-disposition": f'attachment; filename="{name}"'}
    )
