"""The device's certificate is renewed by the device: at two thirds of its life, or after its end.

Also when the hub asks for it, as it does while it goes to another CA.

The main loop owns this; the asking itself runs on a thread of its own and posts its result. The key
stays, so the file of the certificate alone is replaced, and a power cut leaves the old one or the
new one. A device whose clock cannot be trusted does not know that its certificate is over: one that
has had no connection for a while asks too. Trying again backs off; inference is not concerned.
"""

from __future__ import annotations

import logging
import random
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from agent import certificates
from agent.errors import DeviceError, Malformed, TransportFailed, Untrusted
from agent.hub_https import Answer, post, refusal
from agent.identity import CERTIFICATE, Identity
from agent.link.backoff import Backoff
from agent.link.tls import trust_only
from agent.store.durable import write_durably
from contract.errors import ContractError
from contract.renewal import TIME_HEADER, RenewalRequest, decode_reply, sign_renewal

_LOG = logging.getLogger(__name__)
_RENEW_PATH = "/api/v1/renew"
LOST_S = 300.0
"""Without a connection for this long, the certificate may be why."""
_STOP_S = 2.0
"""The thread may be cut off at any point: the file is replaced by one rename."""
_MAX_TIME_MS = 1 << 53


class RenewalFailed(DeviceError):
    """The hub gave no certificate; the message is one line."""


class Renewed(msgspec.Struct, frozen=True):
    """What asking came to; posted to the main loop."""

    newer: bool
    """Whether the certificate in the file is a newer one now."""
    error: DeviceError | None = None


@dataclass(frozen=True)
class Life:
    """The present certificate's time. Pure."""

    begin_ms: int
    end_ms: int

    def is_due(self, now_ms: int, chance: float) -> bool:
        """From two thirds of its life on; `chance` spreads a fleet over a thirtieth more."""
        life = self.end_ms - self.begin_ms
        return now_ms >= self.begin_ms + life * 2 / 3 + life * chance / 30


class Asker:
    """Asks the hub, checks what it gives, and replaces the file. Blocks; keeps no state."""

    def __init__(
        self, identity: Identity, now_ms: Callable[[], int], clock_is_wrong: Callable[[], bool]
    ) -> None:
        self._identity = identity
        self._now_ms = now_ms
        self._clock_is_wrong = clock_is_wrong

    def life(self) -> Life:
        """Of the certificate in the file; raises `CertificateRefused` or `OSError`."""
        path = self._identity.directory / CERTIFICATE
        return Life(*certificates.lifetime(path.read_text("ascii", "replace")))

    def renew(self) -> bool:
        """Whether a newer certificate is in place now; raises a `DeviceError`."""
        now_ms = self._now_ms()
        nonce = secrets.token_hex(16)
        answer = self._post(now_ms, nonce)
        if answer.status == 409 and TIME_HEADER.lower() in answer.headers:
            # The hub, whose certificate we have checked, says what time it is.
            now_ms = _time_of(answer)
            answer = self._post(now_ms, nonce)
        if answer.status != 200:
            raise RenewalFailed(f"the hub renews no certificate: {refusal(answer)}")
        return self._keep(answer.body, nonce, now_ms)

    def _post(self, at_ms: int, nonce: str) -> Answer:
        me = self._identity
        csr = certificates.request_pem(me.key, me.device)
        request = RenewalRequest(device=me.device, csr_pem=csr, nonce=nonce, at_ms=at_ms)
        context = trust_only(me.ca_pem, clock_is_wrong=self._clock_is_wrong())
        return post(me.record.hub_url, _RENEW_PATH, context, sign_renewal(request, me.key))

    def _keep(self, body: bytes, nonce: str, now_ms: int) -> bool:
        me = self._identity
        try:
            reply = decode_reply(body)
            if (reply.device, reply.nonce) != (me.device, nonce):
                raise Untrusted("the hub answered another request than this one")
            certificates.check_chain(reply.certificate_pem, me.ca_pem, me.key, me.device, now_ms)
            _, end_ms = certificates.lifetime(reply.certificate_pem)
        except ContractError as error:
            raise Malformed(f"{me.record.hub_url} gave no renewal reply: {error}") from error
        except certificates.CertificateRefused as error:
            raise Untrusted(f"the hub's certificate was refused: {error}") from error
        path = me.directory / CERTIFICATE
        present = _read(path)
        if reply.certificate_pem == present:
            return False
        # Of the same CA, an earlier end is an older one. Of another it is the one that the hub goes
        # to, whatever its clock said when it gave the one before.
        is_of_same_ca = _above(reply.certificate_pem) == _above(present)
        if is_of_same_ca and end_ms < self._present_end_ms():
            return False
        write_durably(path, reply.certificate_pem.encode(), mode=0o644)
        return True

    def _present_end_ms(self) -> int:
        try:
            return self.life().end_ms
        except (certificates.CertificateRefused, OSError):
            return 0  # whatever stands there is of no use: any good one is better


class Renewal:
    """When to ask. Owned by the main loop; only `_ask` runs on another thread."""

    def __init__(
        self,
        asker: Asker,
        post: Callable[[Renewed], None],
        now_s: float,
        spread_s: float,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`spread_s`: a fleet that got its power back at once does not ask at once."""
        self._asker = asker
        self._post = post
        self._chance = chance
        self._backoff = Backoff(first_s=60.0, most_s=6 * 3_600.0)
        self._thread: threading.Thread | None = None
        self._vain = 0
        self._not_before_s = now_s + spread_s * chance()
        self._heard_s = now_s
        self._share = chance()
        self._life = self._read()
        self._asked = False
        self.last_error = ""

    @property
    def begins_ms(self) -> int | None:
        """When the present certificate began; None when it cannot be read."""
        return self._life.begin_ms if self._life is not None else None

    @property
    def ends_ms(self) -> int | None:
        """When the present certificate ends; None when it cannot be read."""
        return self._life.end_ms if self._life is not None else None

    def ask(self) -> None:
        """The hub wants it renewed now: it is due until the hub has answered."""
        self._asked = True

    def tick(self, now_s: float, now_ms: int, connected: bool) -> None:
        """Start asking when that is due."""
        if connected:
            self._heard_s = now_s
        if self._thread is not None or now_s < self._not_before_s:
            return
        due = self._asked or self._life is None or self._life.is_due(now_ms, self._share)
        if due or now_s - self._heard_s >= LOST_S:
            self._thread = threading.Thread(target=self._ask, name="renewal", daemon=True)
            self._thread.start()

    def renewed(self, result: Renewed, now_s: float) -> bool:
        """Take a result in; whether to connect anew with the certificate that is there now."""
        self._thread = None
        self._life = self._read()
        self.last_error = str(result.error) if result.error is not None else ""
        self._asked = self._asked and result.error is not None
        if result.newer:
            self._vain, self._share = 0, self._chance()
            self._not_before_s = now_s + self._backoff.first_s
            _LOG.info("the certificate was renewed")
            return True
        bound = self._backoff.bound(self._vain)
        self._not_before_s = now_s + bound * (0.5 + self._chance() / 2)
        self._vain += 1
        if result.error is not None:
            _LOG.warning("the certificate was not renewed: %s", result.error)
        return False

    def stop(self) -> None:
        """Join whoever is asking."""
        if self._thread is not None:
            self._thread.join(_STOP_S)

    def _read(self) -> Life | None:
        try:
            return self._asker.life()
        except (certificates.CertificateRefused, OSError):
            return None

    def _ask(self) -> None:
        try:
            self._post(Renewed(self._asker.renew()))
        except DeviceError as error:
            self._post(Renewed(False, error))
        except Exception as error:  # noqa: BLE001 - the thread's boundary: the main loop must hear of every end
            self._post(Renewed(False, RenewalFailed(f"{type(error).__name__}: {error}")))


def _read(path: Path) -> str:
    """Empty where there is none."""
    try:
        return path.read_text("ascii", "replace")
    except OSError:
        return ""


def _above(chain_pem: str) -> str:
    """All of a chain but the leaf, which stands first."""
    return chain_pem.partition("-----END CERTIFICATE-----")[2].strip()


def _time_of(answer: Answer) -> int:
    text = answer.headers[TIME_HEADER.lower()]
    if not text.isdecimal() or len(text) > 16 or int(text) > _MAX_TIME_MS:
        raise TransportFailed("the hub's time cannot be read")
    return int(text)
