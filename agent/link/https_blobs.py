"""Blobs over HTTPS, from the hub: for what is too large for a broker's memory.

The device proves itself with its key (contract.blob_request). The hub gives the blobs, or an
address in its object store and where they stand there (contract.blob_places). One blob at a time is
in memory, and each is checked as those of the broker are. `BlobSource` in agent.ports says what
callers may rely on.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from agent.errors import TransportFailed
from agent.hub_https import AnotherHub, Answer, Incoming, NotAnAddress, asking, refusal
from agent.link.https_plan import MAX_STORE_FAILURES, HttpsPlan, StorePatience, Stretch, stretches
from agent.link.rate import TokenBucket
from agent.object_store import (
    ObjectStoreFailed,
    ObjectStoreSlow,
    StoredObject,
    StoreTrust,
    opened,
)
from agent.ports import BlobRef
from contract.blob_places import PLACES_TYPE, BlobPlaces, read_places
from contract.blob_request import (
    HEAD_BYTES,
    STREAM_TYPE,
    BlobRequest,
    read_head,
    sign_blob_request,
)
from contract.errors import ContractError, DigestMismatch, MalformedBlob
from contract.renewal import TIME_HEADER
from model.chunks import unframe

_LOG = logging.getLogger(__name__)
_PATH = "/api/v1/blobs"
_LOOK_S = 0.2
"""How often a waiting fetch looks at the rate and at `cancelled`."""
_MAX_TIME_MS = 1 << 53

Sink = Callable[[BlobRef, bytes], None]
Blobs = Generator[tuple[BlobRef, bytes], None, None]


class HttpsBlobSource:
    """A `BlobSource` over the hub's API."""

    def __init__(
        self,
        hub_url: str,
        device: str,
        key: EllipticCurvePrivateKey,
        context: Callable[[], ssl.SSLContext],
        now_ms: Callable[[], int],
        rate: TokenBucket | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        store: StoreTrust | None = None,
    ) -> None:
        """`context` is asked for each request: whether dates of certificates count may change."""
        self._hub_url = hub_url
        self._device = device
        self._key = key
        self._context = context
        self._now_ms = now_ms
        self._rate = rate or TokenBucket()
        self._monotonic = monotonic
        self._sleep = sleep
        self._ahead_ms = 0
        """What the hub's clock is ahead of ours, as it once said."""
        self._store = store or StoreTrust()
        self._patience = StorePatience()
        self._placed = False
        """Whether the hub's last answer was of places."""

    def leave_store_alone(self) -> None:
        """As after failures: for a while the hub gives every blob itself."""
        for _ in range(MAX_STORE_FAILURES):
            self._patience.failed(self._monotonic())

    def fetch(
        self,
        target: str,
        wanted: Sequence[BlobRef],
        sink: Sink,
        cancelled: Callable[[], bool],
    ) -> int:
        """See `agent.ports.BlobSource.fetch`."""
        plan = HttpsPlan.of(wanted, self._rate)
        received = 0
        while plan.outstanding and not cancelled():
            batch = plan.batch(self._monotonic(), self._placed)
            if not batch:
                self._sleep(_LOOK_S)
                continue
            why = f"the hub gives no more blobs of {target}"
            try:
                with closing(self._ask(target, batch, cancelled)) as answered:
                    for ref, payload in answered:
                        received += len(payload)
                        _accept(plan, ref, payload, sink)
            except TransportFailed as error:
                why = str(error)
                self._placed = False
                if _in_vain(error, plan):
                    self._patience.failed(self._monotonic())
                _LOG.warning("blobs of %s: %s", target, why)
            if not cancelled():
                self._wait(plan.ended(why), cancelled)
        return received

    def _ask(self, target: str, batch: list[BlobRef], cancelled: Callable[[], bool]) -> Blobs:
        body = self._request(target, batch)
        accept = STREAM_TYPE
        if self._patience.may_ask(self._monotonic()):
            accept = f"{PLACES_TYPE}, {STREAM_TYPE}"
        try:
            with asking(self._hub_url, _PATH, self._context(), body, accept) as incoming:
                if incoming.status != 200:
                    raise self._refused(incoming.whole())
                self._placed = incoming.media_type == PLACES_TYPE
                if not self._placed:
                    yield from _streamed(incoming, batch, cancelled)
                    return
                places = _read(incoming.whole(), batch)
        except (AnotherHub, NotAnAddress) as error:
            raise TransportFailed(str(error)) from error
        yield from self._stored(places, batch, cancelled)

    def _stored(
        self, found: BlobPlaces, batch: list[BlobRef], cancelled: Callable[[], bool]
    ) -> Blobs:
        """The hub's connection is closed by now: the store may take its time."""
        for ref, (_, length) in zip(batch, found.places, strict=True):
            if not length:
                yield ref, b""
        with opened(found.address, self._store) as stored:
            for stretch in stretches(batch, found.places):
                yield from _stretch(stored, stretch, cancelled)
        self._patience.brought()

    def _request(self, target: str, batch: list[BlobRef]) -> bytes:
        request = BlobRequest(
            device=self._device,
            target=target,
            digests=[ref.digest for ref in batch],
            at_ms=max(0, self._now_ms() + self._ahead_ms),
        )
        return sign_blob_request(request, self._key)

    def _refused(self, answer: Answer) -> TransportFailed:
        said = answer.headers.get(TIME_HEADER.lower(), "")
        if answer.status == 409 and said.isascii() and said.isdecimal() and len(said) <= 16:
            # The hub, whose certificate we have checked, says what time it is.
            self._ahead_ms = min(int(said), _MAX_TIME_MS) - self._now_ms()
        return TransportFailed(f"the hub gives no blobs: {refusal(answer)}")

    def _wait(self, seconds: float, cancelled: Callable[[], bool]) -> None:
        until = self._monotonic() + seconds
        while self._monotonic() < until and not cancelled():
            self._sleep(_LOOK_S)


def _in_vain(error: TransportFailed, plan: HttpsPlan) -> bool:
    """Whether the store is to blame. An address that runs out under way is nobody's fault."""
    if isinstance(error, ObjectStoreSlow):
        return True
    return isinstance(error, ObjectStoreFailed) and not plan.has_brought


def _read(answer: Answer, batch: list[BlobRef]) -> BlobPlaces:
    try:
        return read_places(answer.body, len(batch))
    except ContractError as error:
        raise TransportFailed(f"the hub's answer cannot be read: {error}") from error


def _stretch(stored: StoredObject, stretch: Stretch, cancelled: Callable[[], bool]) -> Blobs:
    if cancelled():
        return
    stored.open_range(stretch.start, stretch.length)
    for ref, length in stretch.blobs:
        if cancelled():
            return
        yield ref, stored.exactly(length)


def _streamed(incoming: Incoming, batch: list[BlobRef], cancelled: Callable[[], bool]) -> Blobs:
    for ref in batch:
        if cancelled():
            return
        yield ref, _payload(incoming, ref)


def _payload(incoming: Incoming, ref: BlobRef) -> bytes:
    try:
        digest, length = read_head(incoming.exactly(HEAD_BYTES))
    except MalformedBlob as error:
        raise TransportFailed(f"the hub's answer cannot be read: {error}") from error
    if digest != ref.digest:
        raise TransportFailed(f"the hub gave blob {digest[:16]}…, and was not asked for it here")
    return incoming.exactly(length)


def _accept(plan: HttpsPlan, ref: BlobRef, payload: bytes, sink: Sink) -> None:
    if not payload:
        plan.absent(ref)
        return
    try:
        data = unframe(payload, ref.length, ref.digest)
    except (MalformedBlob, DigestMismatch) as error:
        _LOG.warning("dropped blob %s…: %s", ref.digest[:16], error)
        plan.broken(ref, str(error))
        return
    plan.arrived(ref, len(payload))
    sink(ref, data)
