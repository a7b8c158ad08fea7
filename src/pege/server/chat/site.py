"""What all pages of the web chat share: who is asking, sign-in, forms, limits, cookies, rendering."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from fastapi import HTTPException, Request, Response
from fastapi.responses import HTMLResponse
from itsdangerous import BadSignature, URLSafeTimedSerializer

from pege.server.chat import pages
from pege.server.chat.store import DAY_S
from pege.server.config import ServerConfig
from pege.web import RateLimit, browser_language, client_address, is_same_origin

PERSON_COOKIE, SETTINGS_COOKIE, KEY_COOKIE = "pege_person", "pege_settings", "pege_key"
SIGN_IN_DAYS = 30
SETTINGS_DAYS = 365
_MIN_SECRET_CHARS = 32
_SECRET_BYTES = 32

Theme = Literal["auto", "light", "dark"]
_SETTINGS = {"language": ("en", "zh"), "theme": get_args(Theme), "trajectory": ("shown", "hidden")}


@dataclass(frozen=True)
class Visitor:
    """Who is asking.

    Attributes:
        secret: of the person's browser: its kept dialogs are under it.
        is_new: whether the browser had none.
        language: of the pages.
        theme: of the pages; ``auto`` follows the system.
        is_hidden: whether the trajectory is.
        key: hash of the API key that the person signed in with; empty where there are no keys.
    """

    secret: str
    is_new: bool
    language: str
    theme: str
    is_hidden: bool
    key: str = ""

    @property
    def form_token(self) -> str:
        """Stands in the forms of this visitor's pages; who does not know the secret cannot make it."""
        return hmac.new(self.secret.encode(), b"pege form", hashlib.sha256).hexdigest()


class Site:
    """Sign-in, limits, cookies and rendering of the web chat.

    Args:
        config: with API keys, a page is given to those only who signed in with one.
        rate: of one key, or of one address where there are no keys.
        keep_days: for so long a browser keeps its secret after a visit with kept dialogs.
        failed: wrong keys of an address, of the API too.
    """

    def __init__(self, config: ServerConfig, rate: RateLimit, *, keep_days: float, failed: RateLimit) -> None:
        self._config, self.key_hashes, self.keep_days = config, config.key_hashes, keep_days
        # Made anew at each start: who is signed in signs in again then. Kept dialogs do not hang on it.
        self._signer = URLSafeTimedSerializer(secrets.token_urlsafe(_SECRET_BYTES), salt="pege sign-in")
        self._limit, self._failed = rate, failed

    def anybody(self, request: Request) -> Visitor:
        """The visitor of a page that is open to all."""
        self._count(client_address(request))
        return visitor_of(request)

    def visitor(self, request: Request) -> Visitor:
        """The visitor of a request, who has signed in where that is needed; else it is answered with 401."""
        key = self._key(request)
        if self.key_hashes and key is None:
            self._count(client_address(request))
            raise HTTPException(401)
        self._count(key or client_address(request))
        return dataclasses.replace(visitor_of(request), key=key or "")

    def sign_in(self, request: Request, response: Response, key: str) -> bool:
        """Sign a browser in with an API key; whether it is one of ours.

        Too many wrong ones of an address are answered with 429, then a right one too: going on tells nothing.
        """
        address = client_address(request)
        if not self._failed.is_open(address):
            raise HTTPException(429)
        given = self._config.key_of(f"Bearer {key}")
        if given is None:
            self._failed.allows(address)
            return False
        self.set_cookie(request, response, KEY_COOKIE, self._signer.dumps(given), days=SIGN_IN_DAYS)
        return True

    def check_form(self, request: Request, who: Visitor, form: Mapping[str, str] | None = None) -> None:
        """Refuse what is not sent by a page of ours for this visitor."""
        token = (form or {}).get("csrf", "") or request.headers.get("x-csrf-token", "")
        if (
            who.is_new
            or not is_same_origin(request)
            or not hmac.compare_digest(token.encode(), who.form_token.encode())
        ):
            raise HTTPException(403)

    def set_cookie(
        self, request: Request, response: Response, name: str, value: str, *, days: float | None = None
    ) -> None:
        """Set a cookie that no script can read and no other site's form sends; without days until the browser ends."""
        response.set_cookie(
            name, value, max_age=None if days is None else int(days * DAY_S), httponly=True, samesite="lax",
            secure=request.url.scheme == "https",
        )  # fmt: skip

    def remember(self, request: Request, response: Response, who: Visitor) -> None:
        """Let the browser keep its secret: the person has dialogs under it, or is about to."""
        self.set_cookie(request, response, PERSON_COOKIE, who.secret, days=self.keep_days)

    def page(self, page: str, request: Request, who: Visitor, *, status: int = 200, **values: Any) -> HTMLResponse:
        """A page for a visitor."""
        shown = {
            "theme": who.theme,
            "is_hidden": who.is_hidden,
            "csrf": who.form_token,
            "can_leave": bool(self.key_hashes),
        }
        text = pages.render(page, who.language, **shown, path=request.url.path, **values)
        response = HTMLResponse(
            text, status, headers={"vary": "accept-language, cookie", "content-language": who.language}
        )
        if who.is_new:
            self.set_cookie(request, response, PERSON_COOKIE, who.secret)
        return response

    def _key(self, request: Request) -> str | None:
        try:
            given = str(self._signer.loads(request.cookies.get(KEY_COOKIE, ""), max_age=int(SIGN_IN_DAYS * DAY_S)))
        except BadSignature:
            return None
        return given if given in self.key_hashes else None

    def _count(self, who: str) -> None:
        if not self._limit.allows(who):
            raise HTTPException(429)


def visitor_of(request: Request) -> Visitor:
    """Who a request's cookies say is asking."""
    secret = request.cookies.get(PERSON_COOKIE, "")
    is_new = len(secret) < _MIN_SECRET_CHARS
    language, theme, is_hidden = read_settings(request.cookies.get(SETTINGS_COOKIE, ""))
    return Visitor(
        secret=secrets.token_urlsafe(_SECRET_BYTES) if is_new else secret,
        is_new=is_new,
        language=language or browser_language(request) or "en",
        theme=theme,
        is_hidden=is_hidden,
    )


def read_settings(text: str) -> tuple[str | None, Theme, bool]:
    """Read the cookie of settings: language (None: the browser's), theme, whether the trajectory is hidden."""
    parts = text.split(".")
    theme: Theme = next((t for t in ("light", "dark") if t in parts), "auto")
    return next((la for la in ("en", "zh") if la in parts), None), theme, "hidden" in parts


def write_settings(who: Visitor, form: Mapping[str, str]) -> str:
    """The cookie of settings after a form has changed some; what is no value of ours changes nothing."""
    now = {"language": who.language, "theme": who.theme, "trajectory": "hidden" if who.is_hidden else "shown"}
    changed = {name: form[name] for name, known in _SETTINGS.items() if form.get(name) in known}
    return ".".join((now | changed).values())
