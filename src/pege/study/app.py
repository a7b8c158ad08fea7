"""The web app of a study: the rater's pages. The owner's are in `pege.study.owner`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import Depends, FastAPI, HTTPException, Path, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from pege.study import pages
from pege.study.owner import add_owner_pages
from pege.study.pages import words
from pege.study.raters import Rater, change_rater, delete_rater
from pege.study.rating import (
    Assignment,
    NoSuchQuestionError,
    StaleAnswerError,
    current_assignment,
    finish_item,
    last_done,
    load_assignment,
    n_done,
    save_answers,
)
from pege.study.site import RATER_COOKIE, Form, Site
from pege.study.store import Store
from pege.web import client_address, referring_path, secure_app, static_files

ItemId = Annotated[int, Path(ge=1, lt=2**31)]  # of any database


def make_app(store: Store, *, base_url: str = "http://127.0.0.1:8080", per_minute: int = 600) -> FastAPI:
    """Make the app of one study.

    Args:
        store: of the study.
        base_url: where raters reach it.
        per_minute: requests of one rater, or of the owner.
    """
    site = Site(store, base_url=base_url, per_minute=per_minute)
    app = FastAPI(title="pege study", docs_url=None, redoc_url=None, openapi_url=None)
    app.mount("/static", static_files(pages.PAGES / "static"))
    who = Depends(site.rater)
    _add_entry(app, site)
    _add_steps(app, site, who)
    _add_practice(app, site, who)
    _add_rating(app, site, who)
    _add_leaving(app, site, who)
    add_owner_pages(app, site)

    @app.exception_handler(StarletteHTTPException)
    def refuse(request: Request, error: StarletteHTTPException) -> HTMLResponse:
        names = {401: "no_session", 403: "refused", 404: "no_page", 405: "no_page", 410: "bad_link", 429: "slow"}
        language, name = site.language(request), names.get(error.status_code, "refused")
        w = words(language)
        text = pages.render("message", site.design, language, heading=w[f"{name}_title"], text=w[name])
        return HTMLResponse(text, error.status_code, headers={"retry-after": "60"} if name == "slow" else None)

    secure_app(app, hosts=[urlsplit(base_url).hostname or "", "127.0.0.1", "localhost", "[::1]"])
    return app


def _add_entry(app: FastAPI, site: Site) -> None:
    @app.get("/r/{token}")
    def open_link(request: Request, token: str) -> Response:
        site.limit(client_address(request), known=False)
        with site.store.reading() as connection:
            found = site.links.open_rater(connection, token)
        if found is None:
            site.limit_failures(request)
            raise HTTPException(410)
        response = RedirectResponse("/", 303)  # so that the link is not the page's address
        site.set_cookie(response, RATER_COOKIE, token)
        return response

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}


def _next_page(site: Site, who: Rater) -> str:
    if who.consented_at is None:
        return "/consent"
    if who.practised_at is None:
        return "/instructions"
    return "/rate"


def _add_steps(app: FastAPI, site: Site, who: Any) -> None:
    """Consent, instructions, the language."""

    @app.get("/")
    def begin(rater: Rater = who) -> Response:
        return RedirectResponse(_next_page(site, rater), 303)

    @app.post("/language")
    def set_language(request: Request, form: Form, rater: Rater = who) -> Response:
        site.check_form(request, rater.nonce, form)
        language = form.get("language")
        if language not in ("en", "zh"):
            raise HTTPException(422)
        change_rater(site.store, rater.name, language=language)
        path = referring_path(request)
        return RedirectResponse("/rate" if path.startswith("/item/") else path, 303)

    @app.get("/consent")
    def show_consent(rater: Rater = who) -> Response:
        text = pages.consent_text(site.design, rater.language)
        return site.page("consent", rater, consent=text, is_missing=False)

    @app.post("/consent")
    def give_consent(request: Request, form: Form, rater: Rater = who) -> Response:
        site.check_form(request, rater.nonce, form)
        if form.get("agree") != "yes":
            text = pages.consent_text(site.design, rater.language)
            return site.page("consent", rater, status=422, consent=text, is_missing=True)
        if rater.consented_at is None:
            change_rater(site.store, rater.name, consented_at=time.time())
        return RedirectResponse("/instructions", 303)

    @app.get("/instructions")
    def show_instructions(rater: Rater = who) -> Response:
        if rater.consented_at is None:
            return RedirectResponse("/consent", 303)
        follows = "/practice" if rater.practised_at is None and pages.has_practice(site.design) else "/rate"
        return site.page("instructions", rater, metrics=pages.view_metrics(site.design, rater.language), next=follows)


def _add_practice(app: FastAPI, site: Site, who: Any) -> None:
    def practice(language: str) -> Assignment:
        item = pages.practice_item(site.design, language)
        return Assignment(id=0, item=item, is_flipped=False, is_done=False, answers={}, counter=0)

    @app.get("/practice")
    def show_practice(rater: Rater = who) -> Response:
        if rater.consented_at is None or not pages.has_practice(site.design):
            return RedirectResponse(_next_page(site, rater), 303)
        w = words(rater.language)
        item = pages.view_item(pages.practice_design(site.design), practice(rater.language), rater.language)
        return site.page(
            "rate", rater, item=item, heading=w["practice_title"], progress="", action="/practice",
            is_practice=True, is_incomplete=False, back=None,
        )  # fmt: skip

    @app.post("/practice")
    def compare_practice(request: Request, form: Form, rater: Rater = who) -> Response:
        site.check_form(request, rater.nonce, form)
        rows = pages.practice_feedback(site.design, rater.language, pages.read_fields(form))
        return site.page("feedback", rater, rows=rows)

    @app.post("/start")
    def start(request: Request, form: Form, rater: Rater = who) -> Response:
        site.check_form(request, rater.nonce, form)
        change_rater(site.store, rater.name, practised_at=time.time())
        return RedirectResponse("/rate", 303)


def _add_rating(app: FastAPI, site: Site, who: Any) -> None:
    store, design = site.store, site.design

    @app.get("/rate")
    def rate(rater: Rater = who) -> Response:
        w = words(rater.language)
        if rater.consented_at is None or (rater.practised_at is None and pages.has_practice(design)):
            return RedirectResponse(_next_page(site, rater), 303)
        if rater.excluded_at is not None:
            return site.page("ended", rater, heading=w["done_title"], text=w["excluded"])
        found = current_assignment(store, rater)
        if found is None:
            return site.page("ended", rater, heading=w["done_title"], text=w["done"])
        shown = _rating_page(site, rater, found)
        shown.headers["hx-replace-url"] = "/rate"  # also where the page before was one gone back to
        return shown

    @app.get("/item/{assignment_id}")
    def show_item(assignment_id: ItemId, rater: Rater = who) -> Response:
        _must_be_in(rater)
        found = load_assignment(store, rater, assignment_id)
        if found is None:
            raise HTTPException(404)
        return _rating_page(site, rater, found)

    @app.post("/item/{assignment_id}/save")
    def save(request: Request, assignment_id: ItemId, form: Form, rater: Rater = who) -> Response:
        site.check_form(request, rater.nonce, form)
        _must_be_in(rater)
        counter = _counter(form)
        if counter is None:
            raise HTTPException(422)
        answers = pages.read_fields(form)
        _do(lambda: save_answers(store, rater, assignment_id, answers, counter=counter))
        return Response(status_code=204)

    @app.post("/item/{assignment_id}")
    def finish(request: Request, assignment_id: ItemId, form: Form, rater: Rater = who) -> Response:
        site.check_form(request, rater.nonce, form)
        _must_be_in(rater)
        answers, counter = pages.read_fields(form), _counter(form)
        missing = _do(lambda: finish_item(store, rater, assignment_id, answers, counter=counter))
        if missing:
            found = load_assignment(store, rater, assignment_id)
            if found is not None:
                return _rating_page(site, rater, found, missing)
        return RedirectResponse("/rate", 303)


def _counter(form: Mapping[str, str]) -> int | None:
    """The page's counter of its requests; None from a page without script."""
    counter = form.get("counter", "")
    return int(counter) if counter.isascii() and counter.isdigit() and len(counter) < 16 else None


def _rating_page(site: Site, rater: Rater, found: Assignment, missing: list[tuple[str, int]] | None = None) -> Response:
    w, done = words(rater.language), n_done(site.store, rater)
    form = "of_items_max" if site.design.items_per_rater else "of_items"
    n = done if found.is_done else done + 1
    return site.page(
        "rate", rater, status=422 if missing else 200,
        item=pages.view_item(site.design, found, rater.language, missing=missing),
        heading=f"{w['item_title']} {n}",
        progress=w[form].format(done=done, all=site.design.items_per_rater),
        action=f"/item/{found.id}",
        is_practice=False, is_incomplete=bool(missing), back=last_done(site.store, rater, before=found.id),
    )  # fmt: skip


def _must_be_in(rater: Rater) -> None:
    if rater.consented_at is None or rater.excluded_at is not None:
        raise HTTPException(403)


def _do(save: Callable[[], Any]) -> Any:
    """Save, and word what is refused as a status."""
    try:
        return save()
    except NoSuchQuestionError as e:
        raise HTTPException(404) from e
    except StaleAnswerError as e:
        raise HTTPException(409) from e


def _add_leaving(app: FastAPI, site: Site, who: Any) -> None:
    @app.get("/withdraw")
    def ask(rater: Rater = who) -> Response:
        return site.page("withdraw", rater)

    @app.post("/withdraw")
    def withdraw(request: Request, form: Form, rater: Rater = who) -> Response:
        site.check_form(request, rater.nonce, form)
        if form.get("sure") != "yes":
            return RedirectResponse("/withdraw", 303)
        delete_rater(site.store, rater.name)
        w = words(rater.language)
        text = pages.render("message", site.design, rater.language, heading=w["withdrawn_title"], text=w["withdrawn"])
        response = HTMLResponse(text)
        response.delete_cookie(RATER_COOKIE)
        return response
