"""One POST to the hub over HTTPS: what devices ask for themselves: enrolment, renewal, blobs.

The hub alone is trusted, by the CA that the caller's context names; answers are bounded, or read
piece by piece. The environment's proxies are ignored. Decides nothing about what is answered.
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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


class Incoming:
    """An answer whose body is still coming."""

    def __init__(self, response: http.client.HTTPResponse, hub_url: str) -> None:
        self._response = response
        self._hub_url = hub_url
        self.status = response.status
        self.media_type = response.getheader("Content-Type", "")

    def exactly(self, count: int) -> bytes:
        """The next `count` bytes of the body; raises `TransportFailed` when they do not come."""
        data = self._read(count)
        if len(data) != count:
            raise TransportFailed(f"the answer of the hub at {self._hub_url} was cut off")
        return data

    def whole(self) -> Answer:
        """For a short answer: what is left of it, bounded."""
        headers = {name.lower(): value for name, value in self._response.getheaders()}
        return Answer(self.status, self._read(_MAX_BYTES), headers)

    def _read(self, count: int) -> bytes:
        try:
            return self._response.read(count)
        except (OSError, http.client.HTTPException) as error:
            raise _lost(self._hub_url, error) from error


def post(hub_url: str, path: str, context: ssl.SSLContext, body: bytes) -> Answer:
    """Raises `TransportFailed` when nobody answers, `AnotherHub` or `NotAnAddress`."""
    with asking(hub_url, path, context, body) as incoming:
        return incoming.whole()


@contextmanager
def asking(
    hub_url: str, path: str, context: ssl.SSLContext, body: bytes, accept: str = "*/*"
) -> Iterator[Incoming]:
    """The same, for an answer that is read in pieces; leaving closes the connection."""
    try:
        url = urlsplit(hub_url)
        connection = http.client.HTTPSConnection(
            url.hostname or "", url.port or 443, timeout=_TIMEOUT_S, context=context
        )
    except ValueError as error:
        raise NotAnAddress(f"{hub_url} is not an address: {error}") from error
    try:
        where = url.path.rstrip("/") + path
        yield Incoming(_send(connection, hub_url, where, body, accept), hub_url)
    finally:
        connection.close()


def _send(
    connection: http.client.HTTPSConnection, hub_url: str, where: str, body: bytes, accept: str
) -> http.client.HTTPResponse:
    try:
        headers = {"Content-Type": "application/json", "Accept": accept}
        connection.request("POST", where, body, headers)
        return connection.getresponse()
    except ssl.SSLCertVerificationError as error:
        raise AnotherHub(
            f"{hub_url} has no certificate of the hub: {error.verify_message}"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise _lost(hub_url, error) from error


def _lost(hub_url: str, error: Exception) -> TransportFailed:
    return TransportFailed(f"cannot reach the hub at {hub_url} ({error})")


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
