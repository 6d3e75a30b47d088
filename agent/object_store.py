"""Ranges of one object in an object store, over HTTPS, by an address that the hub gave out.

The store is a stranger: whatever it says is bounded, it is shown no certificate and no cookie, and
its bytes count for nothing until their digest was checked. TLS trusts the system's CAs or one that
the device was told of, never the fleet's own. The environment's proxies are ignored. An address is
as good as a key while it lasts, so no message holds one.
"""

from __future__ import annotations

import http.client
import io
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urljoin

from agent.errors import TransportFailed
from agent.timed_response import Allowance, TimedResponse, TooSlow
from contract.blob_places import Location, read_address
from contract.errors import MalformedMessage

_TIMEOUT_S = 15.0
HEAD_S = 30.0
MAX_HEAD_BYTES = 65_536
"""Of an answer before its body, with every interim answer."""
BLOB_S = 120.0
"""For what `exactly` reads at once, which is a blob: a store that dribbles must not stall a fetch
for ever."""
_REDIRECTS = (301, 302, 303, 307, 308)
_MAX_REDIRECTS = 2
_RANGE = re.compile(r"bytes (\d{1,16})-(\d{1,16})/(\d{1,16}|\*)\Z")


class ObjectStoreFailed(TransportFailed):
    """The object store gives nothing that can be used; the hub has the same bytes."""


class ObjectStoreSlow(ObjectStoreFailed):
    """It gives what it was asked for, and takes too long: asking for another address is no help."""


@dataclass(frozen=True)
class StoreTrust:
    """Whom a device takes for an object store."""

    ca_file: Path | None = None
    """None: the system's CAs."""
    plain: bool = False
    """Whether addresses without TLS will do: digests are checked all the same."""

    def context(self) -> ssl.SSLContext:
        """Raises `ObjectStoreFailed` when the file is not one of CAs."""
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            raise ObjectStoreFailed(f"object_store_ca_file {self.ca_file}: {error}") from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context


class StoredObject:
    """One object, of which ranges are read one after the other over one connection."""

    def __init__(self, address: str, trust: StoreTrust) -> None:
        """Connects when the first range is asked for."""
        self._trust = trust
        self._address = address
        self._where = self._allowed(address)
        self._redirects = 0
        self._allowance = Allowance(_TIMEOUT_S)
        self._connection: http.client.HTTPConnection | None = None
        self._response: http.client.HTTPResponse | None = None

    def open_range(self, start: int, length: int) -> None:
        """Ask for `length` bytes from `start`, which `exactly` then reads.

        Raises `ObjectStoreFailed` when the store does not promise these and no others.
        """
        headers = {"Range": f"bytes={start}-{start + length - 1}", "Accept-Encoding": "identity"}
        response = self._asked(headers)
        while response.status in _REDIRECTS:
            self._redirect(response.getheader("Location") or "")
            response = self._asked(headers)
        # Some stores answer a range with 200: what they say of the range is what counts.
        if response.status not in (200, 206):
            raise ObjectStoreFailed(f"{self._name} answered with status {response.status}")
        said = _RANGE.match(response.getheader("Content-Range") or "")
        if said is None or (int(said[1]), int(said[2])) != (start, start + length - 1):
            raise ObjectStoreFailed(f"{self._name} gives other bytes than it was asked for")
        if response.length != length:
            raise ObjectStoreFailed(f"{self._name} announced {response.length} bytes, not {length}")
        self._response = response

    def exactly(self, count: int) -> bytes:
        """The next bytes of the range; raises `ObjectStoreFailed` when they do not come."""
        assert self._response is not None  # noqa: S101 - narrows the type; a range was opened
        self._allowance.allow(BLOB_S, count + io.DEFAULT_BUFFER_SIZE)
        data = bytearray()
        while len(data) < count:
            try:
                piece = self._response.read1(count - len(data))
            except TooSlow as error:
                raise ObjectStoreSlow(f"{self._name} is too slow") from error
            except (OSError, http.client.HTTPException) as error:
                raise ObjectStoreFailed(f"{self._name} was lost ({_in_words(error)})") from error
            if not piece:
                raise ObjectStoreFailed(f"{self._name} broke off")
            data += piece
        if self._response.length == 0:
            self._response.close()  # which gives the connection back for the next range
        return bytes(data)

    def close(self) -> None:
        """Ends the connection; nothing is told to the store."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    @property
    def _name(self) -> str:
        return f"the object store at {self._where.host}"

    def _asked(self, headers: dict[str, str]) -> http.client.HTTPResponse:
        self._allowance.allow(HEAD_S, MAX_HEAD_BYTES)
        try:
            if self._connection is None:
                self._connection = self._connect()
                self._connection.response_class = partial(TimedResponse, self._allowance)  # type: ignore[assignment]  # it is called, and by nothing else
            self._connection.request("GET", self._where.path, headers=headers)
            return self._connection.getresponse()
        except ssl.SSLCertVerificationError as error:
            raise ObjectStoreFailed(
                f"{self._name} has no certificate that this device trusts: {error.verify_message}"
                " (object_store_ca_file names another CA)"
            ) from error
        except TooSlow as error:
            raise ObjectStoreSlow(f"{self._name} is too slow") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ObjectStoreFailed(f"cannot reach {self._name} ({_in_words(error)})") from error

    def _connect(self) -> http.client.HTTPConnection:
        where = self._where
        if not where.secure:
            return http.client.HTTPConnection(where.host, where.port, timeout=_TIMEOUT_S)
        context = self._trust.context()
        return http.client.HTTPSConnection(
            where.host, where.port, timeout=_TIMEOUT_S, context=context
        )

    def _redirect(self, to: str) -> None:
        self._redirects += 1
        if self._redirects > _MAX_REDIRECTS:
            raise ObjectStoreFailed(f"{self._name} sends this device from place to place")
        self.close()
        try:
            self._address = urljoin(self._address, to)
        except ValueError as error:
            raise ObjectStoreFailed(f"{self._name} sends this device nowhere") from error
        where = self._allowed(self._address)
        if self._where.secure and not where.secure:
            raise ObjectStoreFailed(f"{self._name} sends this device off TLS")
        self._where = where

    def _allowed(self, address: str) -> Location:
        try:
            where = read_address(address)
        except MalformedMessage as error:
            raise ObjectStoreFailed(str(error)) from error
        if not (where.secure or self._trust.plain):
            raise ObjectStoreFailed(
                f"the address at {where.host} is without TLS, and object_store_plain is not set"
            )
        return where


def _in_words(error: Exception) -> str:
    """The words of this system; the others may hold what the store sent, or the address."""
    return str(error) if isinstance(error, OSError) else type(error).__name__


@contextmanager
def opened(address: str, trust: StoreTrust) -> Iterator[StoredObject]:
    """An object to read from; leaving closes its connection."""
    found = StoredObject(address, trust)
    try:
        yield found
    finally:
        found.close()
