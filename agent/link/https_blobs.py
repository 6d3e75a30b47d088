"""Blobs over HTTPS, from the hub: for what is too large for a broker's memory.

The device proves itself with its key (contract.blob_request). One blob at a time is in memory, and
each is checked as those of the broker are. `BlobSource` in agent.ports says what callers may rely
on.
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
from agent.link.https_plan import HttpsPlan
from agent.link.rate import TokenBucket
from agent.ports import BlobRef
from contract.blob_request import HEAD_BYTES, BlobRequest, read_head, sign_blob_request
from contract.errors import DigestMismatch, MalformedBlob
from contract.renewal import TIME_HEADER
from model.chunks import unframe

_LOG = logging.getLogger(__name__)
_PATH = "/api/v1/blobs"
_LOOK_S = 0.2
"""How often a waiting fetch looks at the rate and at `cancelled`."""
_MAX_TIME_MS = 1 << 53

Sink = Callable[[BlobRef, bytes], None]


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
            batch = plan.batch(self._monotonic())
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
                _LOG.warning("blobs of %s: %s", target, why)
            if not cancelled():
                self._wait(plan.ended(why), cancelled)
        return received

    def _ask(
        self, target: str, batch: list[BlobRef], cancelled: Callable[[], bool]
    ) -> Generator[tuple[BlobRef, bytes], None, None]:
        body = self._request(target, batch)
        try:
            with asking(self._hub_url, _PATH, self._context(), body) as incoming:
                if incoming.status != 200:
                    raise self._refused(incoming.whole())
                for ref in batch:
                    if cancelled():
                        return
                    yield ref, _payload(incoming, ref)
        except (AnotherHub, NotAnAddress) as error:
            raise TransportFailed(str(error)) from error

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
        if answer.status == 409 and said.isdigit() and len(said) <= 16:
            # The hub, whose certificate we have checked, says what time it is.
            self._ahead_ms = min(int(said), _MAX_TIME_MS) - self._now_ms()
        return TransportFailed(f"the hub gives no blobs: {refusal(answer)}")

    def _wait(self, seconds: float, cancelled: Callable[[], bool]) -> None:
        until = self._monotonic() + seconds
        while self._monotonic() < until and not cancelled():
            self._sleep(_LOOK_S)


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
