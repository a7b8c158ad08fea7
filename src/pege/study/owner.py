"""The owner's pages: progress as it happens, raters, exclusion, deletion, export."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from pege.errors import InputError
from pege.study import pages
from pege.study.collect import EXPORTS, as_utc, collect_ratings, provenance, write_export
from pege.study.raters import delete_rater, exclude_rater, include_rater, progress_of, revoke_link
from pege.study.results import study_agreement
from pege.study.site import Form, Site
from pege.study.votes import agrees_with_others
from pege.web import client_address

OWNER_COOKIE = "pege_owner"
_TYPES = {".csv": "text/csv; charset=utf-8", ".jsonl": "application/x-ndjson", ".json": "application/json"}


def add_owner_pages(app: FastAPI, site: Site) -> None:
    """Add the pages under ``/owner``."""

    def owner(request: Request) -> str:
        token = request.cookies.get(OWNER_COOKIE, "")
        if not site.is_owner(token):
            site.limit(client_address(request), known=False)
            raise HTTPException(401)
        site.limit("owner", known=True)
        return token

    who = Depends(owner)

    def page(name: str, token: str, request: Request, **values: Any) -> HTMLResponse:
        csrf, language = site.links.form_token(token), _language(site, request)
        return HTMLResponse(
            pages.render(name, site.design, language, csrf=csrf, language_action="/owner/language", **values)
        )

    @app.get("/o/{token}")
    def open_link(request: Request, token: str) -> Response:
        site.limit(client_address(request), known=False)
        if not site.is_owner(token):
            site.limit_failures(request)
            raise HTTPException(410)
        response = RedirectResponse("/owner", 303)
        site.set_cookie(response, OWNER_COOKIE, token, path="/owner")
        return response

    @app.get("/owner")
    def show(request: Request, token: str = who) -> Response:
        return page("owner", token, request, **_progress(site))

    @app.post("/owner/language")
    def set_language(request: Request, form: Form, token: str = who) -> Response:
        site.check_form(request, token, form)
        response = RedirectResponse("/owner", 303)
        if form.get("language") in ("en", "zh"):
            site.set_cookie(response, "pege_language", form["language"], path="/owner")
        return response

    @app.get("/owner/raters/{name}")
    def show_rater(request: Request, name: str, token: str = who) -> Response:
        with site.store.reading() as connection:
            found = next((r for r in progress_of(site.store, connection) if r["rater"] == name), None)
        if found is None:
            raise HTTPException(404)
        return page("owner_rater", token, request, r=found)

    _add_changes(app, site, who)


def _add_changes(app: FastAPI, site: Site, who: Any) -> None:
    @app.post("/owner/raters/{name}/{act}")
    def change(request: Request, name: str, act: str, form: Form, token: str = who) -> Response:
        site.check_form(request, token, form)
        acts: dict[str, Callable[[], object]] = {
            "exclude": lambda: exclude_rater(site.store, name, why=form.get("why", "")),
            "include": lambda: include_rater(site.store, name),
            "revoke": lambda: revoke_link(site.store, name),
            "delete": lambda: delete_rater(site.store, name),
        }
        if act not in acts or (act == "delete" and form.get("sure") != "yes"):
            raise HTTPException(404)
        try:
            acts[act]()
        except InputError as e:
            raise HTTPException(404) from e
        return RedirectResponse("/owner" if act == "delete" else f"/owner/raters/{name}", 303)

    @app.get("/owner/export/{name}")
    def export(name: str, token: str = who) -> Response:
        if name not in EXPORTS:
            raise HTTPException(404)
        with site.store.reading() as connection:
            rows = collect_ratings(site.store, connection)
            about = provenance(site.store, connection, rows)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            write_export(path, rows, about)
            body = path.read_bytes()
        kind = _TYPES.get(Path(name).suffix, "application/octet-stream")
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        return Response(body, media_type=kind, headers=headers)


def _language(site: Site, request: Request) -> str:
    chosen = request.cookies.get("pege_language")
    return chosen if chosen in ("en", "zh") else site.language(request)


def _progress(site: Site) -> dict[str, Any]:
    """What the first page shows."""
    store = site.store
    with store.reading() as connection:
        rows = collect_ratings(store, connection)
        raters = progress_of(store, connection)
    seen: dict[str, set[str]] = {}
    for row in rows:
        seen.setdefault(row.dialog, set()).add(row.rater)
    wanted, n_items = site.design.raters_per_item, sum(i.kind != "check" for i in store.items.values())
    agrees = agrees_with_others(rows)
    for r in raters:
        r["agrees"] = agrees.get(r["rater"])
        r["last_seen"] = as_utc(r["last_seen_at"]) if r["last_seen_at"] else None
    return {
        "raters": raters,
        "n_done": sum(min(len(s), wanted) for s in seen.values()),
        "n_wanted": n_items * wanted,
        "n_complete": sum(len(s) >= wanted for s in seen.values()),
        "n_items": n_items,
        "agreement": study_agreement(site.design, rows),
    }
