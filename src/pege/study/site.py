"""What all pages of one study share: who is asking, limits, cookies, forms, rendering."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, HTTPException, Request, Response
from fastapi.responses import HTMLResponse

from pege.study import pages
from pege.study.raters import DAY_S, Links, Rater
from pege.study.store import Store
from pege.web import RateLimit, browser_language, client_address, is_same_origin, read_fields

RATER_COOKIE = "pege_rater"
MAX_FIELDS = 2_000
UNKNOWN_PER_MINUTE = 120  # requests of an address without a session: guesses at links are among them
FAILED_LINKS_PER_MINUTE = 10


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form; files are none. A zero character is refused: PostgreSQL has no place for it."""
    given = await read_fields(request, most=MAX_FIELDS)
    if any("\0" in v for v in given.values()):
        raise HTTPException(422)
    return given


Form = Annotated[dict[str, str], Depends(read_form)]


class Site:
    """What all pages of one study share: its store, links, limits.

    Args:
        store: of the study.
        base_url: where raters reach it, e.g. ``https://study.example.org``; its scheme decides on secure cookies.
        per_minute: requests of one rater, or of the owner.
    """

    def __init__(self, store: Store, *, base_url: str, per_minute: int) -> None:
        self.store, self.design, self.base_url = store, store.study.design, base_url
        self.links = Links(store)
        self.is_secure = base_url.startswith("https://")
        self._sessions, self._unknown = RateLimit(per_minute), RateLimit(UNKNOWN_PER_MINUTE)
        self._failed = RateLimit(FAILED_LINKS_PER_MINUTE)

    def language(self, request: Request) -> str:
        """Of a page for nobody known: the browser's, where it is one of ours."""
        return browser_language(request) or self.design.language

    def limit(self, key: str, *, known: bool) -> None:
        """Count a request; too many are answered with 429."""
        if not (self._sessions if known else self._unknown).allows(key):
            raise HTTPException(429)

    def limit_failures(self, request: Request) -> None:
        """Count a link that opens nothing; too many of an address are answered with 429."""
        if not self._failed.allows(f"failed:{client_address(request)}"):
            raise HTTPException(429)

    def check_form(self, request: Request, session: str, form: dict[str, str]) -> None:
        """Refuse a form that is not of a page of ours for this session."""
        token = form.get("csrf", "") or request.headers.get("x-csrf-token", "")
        if not is_same_origin(request, self.base_url) or not self.links.is_form(session, token):
            raise HTTPException(403)

    def set_cookie(self, response: Response, name: str, value: str, *, path: str = "/") -> None:
        """Keep a session in the browser; no script can read it, and other sites' forms do not send it."""
        age = int(self.design.link_days * DAY_S)
        response.set_cookie(name, value, max_age=age, httponly=True, samesite="lax", secure=self.is_secure, path=path)

    def is_owner(self, token: str) -> bool:
        """Whether a token is the owner's, and still holds."""
        with self.store.reading() as connection:
            return self.links.is_owner(connection, token)

    def rater(self, request: Request) -> Rater:
        """The rater of a request: the cookie's, if the link still holds."""
        with self.store.reading() as connection:
            found = self.links.open_rater(connection, request.cookies.get(RATER_COOKIE, ""))
        if found is None:
            self.limit(client_address(request), known=False)
            raise HTTPException(401)
        self.limit(f"rater:{found.id}", known=True)
        return found

    def page(self, page: str, who: Rater, *, status: int = 200, **values: Any) -> HTMLResponse:
        """A page for a rater."""
        token = self.links.form_token(who.nonce)
        return HTMLResponse(pages.render(page, self.design, who.language, csrf=token, **values), status)
