"""Keeps the hub's own certificates good while it runs, and carries a new CA to all who need it.

Looks about once a second: what `ca/` should be (fleet.succession) is written there, certificates of
the hub that are due or of another CA are made anew, and broker and link take them up. The API looks
for itself. Whether the broker believes a next CA, and whether it has given up a former one, is not
assumed but tried, with a certificate of that CA. A broker that does not follow is started again,
and every broker at the end of a rotation: Mosquitto keeps sessions whose CA it has given up. One
that others run they have to see to, and the status says so.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from hashlib import sha256
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from fleet.broker_files import DIRECTORY, shows_identity, write_identity
from fleet.ca import BRIEF_DAYS, FORMER, FORMER_EPOCH, WITNESS, Authority
from fleet.epoch import EpochFile
from fleet.issuing import key_pem
from fleet.ports import HubServices
from fleet.renewal_calls import EVERY_MS, call_for_renewal
from fleet.revocation import Revocation, covers
from fleet.rotation import Rotation
from fleet.setup import certificate_hosts
from fleet.succession import Succession
from fleet.takeover import Broker, is_refused

_LOG = logging.getLogger(__name__)
LOOK_S = 1.0
PROBE_EVERY_MS = 15_000
SETTLES_MS = 1_000
"""How long a broker may take to read what it was told to."""
RESTART_AGAIN_MS = 600_000
"""What one restart did not mend, another rarely does: each of them cuts the whole fleet off."""


class BrokerControl(Protocol):
    """fleet.broker.BrokerChild, as far as certificates need it."""

    def reload(self) -> None:
        """Read certificates and lists again."""

    def restart(self) -> None:
        """Forget every CA that was believed."""


class Renewable(Protocol):
    """fleet.link.Link, as far as certificates need it."""

    def renew(self) -> None:
        """Connect anew with the certificate of now."""


class OwnCertificates:
    """One thread's work; `step` looks about once a second."""

    def __init__(
        self,
        hub: HubServices,
        broker: Broker,
        control: BrokerControl | None,
        link: Renewable,
        revocation: Revocation,
        wait: Callable[[float], object],
    ) -> None:
        """`control`: None for a broker that others run."""
        self._hub = hub
        self._broker = broker
        self._control = control
        self._link = link
        self._revocation = revocation
        self._wait = wait
        self._authority = Authority(hub.directory / "ca")
        self._succession = Succession(self._authority, hub.repository, hub.storage)
        self._passed_on = self._present()
        self._next_probe_ms = self._next_call_ms = 0
        self._restarted = ("", 0)
        """Why, under what, and when the broker was started again last."""
        self._began_after = self._former() if self._is_passed_on() else b""
        """The former CA's witness, when the broker has no session from before that one's end."""

    def step(self) -> None:
        """See to the files, to those who use them, and to the devices."""
        now_ms = self._hub.clock()
        self._succession.settle()
        rotation = self._succession.observe()
        if self._is_behind(now_ms):
            if covers(self._hub.directory, self._authority):
                self._catch_up(now_ms)
            else:  # a broker refuses everybody of an intermediate that no list speaks for
                self._revocation.soon()
        else:
            self._try_broker(rotation, now_ms)
        if rotation is not None:
            self._call(rotation, now_ms)
        self._wait(LOOK_S)

    def _is_behind(self, now_ms: int) -> bool:
        return self._authority.own_due(now_ms) or not self._is_passed_on()

    def _is_passed_on(self) -> bool:
        """A step that was taken while the hub started is not in the broker's files yet."""
        written = shows_identity(self._hub.directory / DIRECTORY, self._authority)
        return written and self._present() == self._passed_on

    def _catch_up(self, now_ms: int) -> None:
        if self._authority.own_due(now_ms):
            self._authority.issue_own(certificate_hosts(self._hub.config), now_ms)
            _LOG.info("the hub's own certificates were made anew")
        present = self._present()
        write_identity(self._hub.directory / DIRECTORY, self._authority)
        if self._control is not None:
            self._control.reload()
        self._link.renew()
        self._passed_on = present
        self._next_probe_ms = now_ms + SETTLES_MS

    def _present(self) -> str:
        """Tells apart what broker and link are to use."""
        files = (*self._authority.pair("broker"), *self._authority.pair("hub"))
        data = b"".join(path.read_bytes() for path in files if path.exists())
        return sha256(data + self._authority.trusted_pem().encode()).hexdigest()

    def _try_broker(self, rotation: Rotation | None, now_ms: int) -> None:
        """Find out whether it believes whom it should."""
        if self._next_probe_ms - PROBE_EVERY_MS <= now_ms < self._next_probe_ms:
            return
        self._next_probe_ms = now_ms + PROBE_EVERY_MS
        try:
            if rotation is not None and not rotation.believed:
                self._try_next(now_ms)
            elif rotation is None and self._former():
                self._try_former()
        except ssl.SSLCertVerificationError:
            self._start_again("shows a certificate that is believed no longer")
        except OSError as error:
            _LOG.warning("the broker cannot be asked about the CA: %s", error)

    def _try_next(self, now_ms: int) -> None:
        key = generate_private_key(SECP256R1())
        issued = self._authority.issue_client(
            self._authority.signers()[-1], WITNESS, key.public_key(), BRIEF_DAYS, now_ms
        )
        if self._is_refused(issued.chain_pem.encode(), key_pem(key)):
            self._start_again("does not believe the next CA")
        else:
            self._succession.note_believed()
            _LOG.info("the broker believes the next CA too")

    def _try_former(self) -> None:
        former, key = self._former(), self._authority.pair(FORMER)[1]
        if not self._is_refused(former, key.read_bytes()):
            if self._start_again("still believes the former CA"):
                self._began_after = former
        elif not self._has_ended_sessions(former):
            if self._start_again("may hold sessions of the former CA"):
                self._began_after = former
        else:
            self._authority.forget_former()
            _LOG.info("the broker has given up the former CA")

    def _former(self) -> bytes:
        """Its witness; empty where there is none. Each rotation has another one."""
        path = self._authority.pair(FORMER)[0]
        return path.read_bytes() if path.exists() else b""

    def _has_ended_sessions(self, former: bytes) -> bool:
        """Whether it was started since. One of others is known by the name of its memory."""
        if self._control is not None:
            return self._began_after == former
        present = self._hub.link.status().epoch
        file = EpochFile(self._authority.directory / FORMER_EPOCH)
        at_the_end = file.read()
        if present is not None and at_the_end is None:
            file.write(present)
        return None not in (present, at_the_end) and present != at_the_end

    def _is_refused(self, certificate: bytes, key: bytes) -> bool:
        return is_refused(self._broker, self._authority, certificate, key)

    def _start_again(self, why: str) -> bool:
        """Whether it is; not where it was for the same reason, and in vain, a short while ago."""
        now_ms, cause = self._hub.clock(), f"{why} {self._passed_on}"
        if self._control is None:
            _LOG.error("the broker %s: restart it", why)
            return False
        last, at_ms = self._restarted
        if last == cause and at_ms <= now_ms < at_ms + RESTART_AGAIN_MS:
            _LOG.error("the broker %s, although it was started again", why)
            return False
        _LOG.warning("the broker %s: starting it again", why)
        self._control.restart()
        self._restarted = (cause, now_ms)
        self._next_probe_ms = now_ms + SETTLES_MS
        return True

    def _call(self, rotation: Rotation, now_ms: int) -> None:
        if self._next_call_ms - EVERY_MS <= now_ms < self._next_call_ms:
            return
        self._next_call_ms = now_ms + EVERY_MS
        issuer = self._authority.signer().fingerprint
        called = call_for_renewal(self._hub.storage, rotation, issuer, now_ms)
        if called:
            self._hub.link.wake()
            _LOG.info("asked %d device(s) for their next certificate", len(called))
