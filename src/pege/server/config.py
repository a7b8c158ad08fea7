"""Settings of the server."""

from __future__ import annotations

import hashlib
import hmac
from typing import Annotated

from pydantic import Field

from pege.agent.path import SafetyConfig
from pege.errors import InputError
from pege.web import LOCALHOST, THIS_MACHINE, is_loopback, trust_proxies

_Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ServerConfig(SafetyConfig):
    """What `pege serve` can be told, beside the safety path.

    Attributes:
        host: address to bind; without keys only a loopback address.
        port: of TCP.
        max_batch: responses that the local model generates at once; with an endpoint, requests at once.
        max_queue: requests that wait; one more is refused with 429.
        timeout_s: from the arrival of a request to the end of its answer.
        max_body_bytes: of a request.
        max_messages: of a request.
        max_tokens: of a response, whatever a request wants.
        key_hashes: sha256 of each API key, 64 hex digits.
        emotion_input: whether an endpoint is told p(positive) and p(negative) of the first utterance: for one that
            serves an export of a run trained with them. A run that is loaded here has its own setting.
        json_logs: whether logs are JSON, a line each; they have no text of anybody either way.
        forwarded_allow_ips: proxies, addresses or networks, whose X-Forwarded-For and X-Forwarded-Proto are believed.
        max_per_key: requests of one key at once, so that none fills the queue; not counted without keys.
        requests_per_minute: of each key, or of each address where there are no keys; API and web chat together.
    """

    host: str = LOCALHOST
    port: int = Field(default=8000, ge=0, le=65_535)
    max_batch: int = Field(default=32, ge=1, le=256)
    max_queue: int = Field(default=64, ge=1, le=10_000)
    timeout_s: float = Field(default=120.0, gt=0, le=3600)
    max_body_bytes: int = Field(default=1_000_000, ge=1_000, le=100_000_000)
    max_messages: int = Field(default=200, ge=1, le=10_000)
    max_tokens: int = Field(default=512, ge=1, le=100_000)
    key_hashes: tuple[_Hash, ...] = ()
    emotion_input: bool = False
    json_logs: bool = True
    forwarded_allow_ips: tuple[str, ...] = THIS_MACHINE
    max_per_key: int = Field(default=32, ge=1)
    requests_per_minute: int = Field(default=600, ge=1)

    def check_bind(self) -> None:
        """Refuse an address that others reach, where anybody could ask; and a proxy that is no address.

        Raises:
            InputError: no keys and no loopback address, or such a proxy.
        """
        if not self.key_hashes and not is_loopback(self.host):
            raise InputError(
                "without keys the server binds to loopback only", where=f"--host {self.host}", fix="give --key_hashes"
            )
        trust_proxies(self.forwarded_allow_ips)

    def key_of(self, authorization: str) -> str | None:
        """Give the hash of the key in an Authorization header where it is one of ours, else None."""
        scheme, _, key = authorization.partition(" ")
        given = hashlib.sha256(key.strip().encode()).hexdigest()
        is_ours = [hmac.compare_digest(given, known) for known in self.key_hashes]  # all are compared: no timing
        return given if scheme.lower() == "bearer" and any(is_ours) else None
