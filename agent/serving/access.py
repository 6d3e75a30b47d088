"""Who may ask over TCP: programs on this machine, or holders of the bearer token. Pure.

A web page anywhere can make a browser on this device send requests to loopback, and with DNS
rebinding read the answers. So without a token `Host` must be a loopback name, and `Origin`, where a
browser sends one, too. Off loopback nothing is answered without the token. Unix sockets are
guarded by their file's mode.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

from agent.serving.errors import ForeignOrigin, MalformedRequest, Unauthorised

_HOST = re.compile(rb"(\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9.-]{1,253})(?::\d{1,5})?\Z")
_ORIGIN = re.compile(rb"https?://(.{1,300})\Z")


@dataclass(frozen=True)
class Access:
    """What a TCP listener asks of a request before it reads the body."""

    token: str | None = None
    any_host: bool = False
    """Off loopback the names by which this device is called are not known; the token guards."""

    def check(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Raise `ForeignOrigin`, `Unauthorised` or `MalformedRequest`."""
        hosts = [value for name, value in headers if name == b"host"]
        origins = [value for name, value in headers if name == b"origin"]
        if not self.any_host:
            _check_host(hosts)
            _check_origins(origins)
        if self.token is not None:
            given = [value for name, value in headers if name == b"authorization"]
            _check_token(given, self.token)


def is_loopback(host: str) -> bool:
    """Whether a name or an address can only mean this machine."""
    name = host.lower().strip("[]").rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _check_host(hosts: list[bytes]) -> None:
    if len(hosts) != 1:
        raise MalformedRequest("a request needs exactly one Host header")
    if not _names_loopback(hosts[0]):
        raise ForeignOrigin("Host is not this machine: ask for localhost or 127.0.0.1")


def _check_origins(origins: list[bytes]) -> None:
    for origin in origins:
        match = _ORIGIN.match(origin)
        if match is None or not _names_loopback(match.group(1)):
            raise ForeignOrigin("pages from elsewhere may not ask this server")


def _names_loopback(authority: bytes) -> bool:
    match = _HOST.match(authority)
    return match is not None and is_loopback(match.group(1).decode("ascii"))


def _check_token(given: list[bytes], token: str) -> None:
    scheme, _, value = (given[0] if len(given) == 1 else b"").partition(b" ")
    right = hmac.compare_digest(value.strip(), token.encode())
    if scheme.lower() != b"bearer" or not right:
        raise Unauthorised("this server needs 'Authorization: Bearer TOKEN'")
