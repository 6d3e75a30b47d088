"""One POST to the hub over HTTPS: what devices ask for themselves, enrolment and renewal.

The hub alone is trusted, by the CA that the caller's context names; answers are bounded. The
environment's proxies are ignored. Decides nothing about what is answered.
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

from agent.errors import DeviceError, TransportFailed

_TIMEOUT_S = 15.0
_MAX_BYTES = 262_144
_MAX_SAID = 300


class NotAnAddress(DeviceError):
    """The hub's URL cannot be used."""


class AnotherHub(DeviceError):
    """What answers there has no certificate of this hub's CA for this name."""


class Answer(msgspec.Struct, frozen=True):
    """Of any status."""

    status: int
    body: bytes
    headers: Mapping[str, str]
    """By lower-case name."""


def post(hub_url: str, path: str, context: ssl.SSLContext, body: bytes) -> Answer:
    """Raises `TransportFailed` when nobody answers, `AnotherHub` or `NotAnAddress`."""
    try:
        url = urlsplit(hub_url)
        connection = http.client.HTTPSConnection(
            url.hostname or "", url.port or 443, timeout=_TIMEOUT_S, context=context
        )
    except ValueError as error:
        raise NotAnAddress(f"{hub_url} is not an address: {error}") from error
    try:
        where = url.path.rstrip("/") + path
        connection.request("POST", where, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, response.read(_MAX_BYTES), headers)
    except ssl.SSLCertVerificationError as error:
        raise AnotherHub(
            f"{hub_url} has no certificate of the hub: {error.verify_message}"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise TransportFailed(f"cannot reach the hub at {hub_url} ({error})") from error
    finally:
        connection.close()


class _Problem(msgspec.Struct):
    code: str = ""
    message: str = ""


class _Refusal(msgspec.Struct):
    error: _Problem


def refusal(answer: Answer) -> str:
    """What the hub said, on one printable line."""
    try:
        said = msgspec.json.decode(answer.body, type=_Refusal).error.message[:_MAX_SAID]
    except (msgspec.MsgspecError, ValueError, RecursionError):
        said = ""
    return "".join(c for c in said if c.isprintable()) or f"HTTP status {answer.status}"
