"""Keeps revoked devices out of the broker: the lists that it reads, and the sessions that are on.

There is one list for each intermediate, all in one file. They are written anew when a device is
revoked and once a day, long before they end. Whether the broker heeds them is not assumed but
tried, with a certificate of each intermediate that is always on its list (the witness). Only then
is the session of a revoked device ended, so that it cannot come back.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from fleet.broker_files import revocation_file
from fleet.ca import DAY_MS, DEVICE_DAYS, WITNESS, Authority
from fleet.crl import RevocationList, crl_pem, issuer_of, read_lists
from fleet.files import write_whole
from fleet.issuing import Signer
from fleet.ports import HubServices
from fleet.storage.schema import Certificate, Device
from fleet.takeover import Broker, TakeoverFailed, end_session, is_refused

_LOG = logging.getLogger(__name__)
STANDING_FILE = "revocation.json"
LOOK_S = 1.0
TRY_EVERY_MS = 60_000
"""How often what did not succeed is tried again, and the broker is asked."""
BATCH = 100
ENFORCED_WITHIN = 5
"""Looks in a row at whether the broker has read the new list."""


class Revoked(NamedTuple):
    """A certificate that is good no longer."""

    serial: str
    at_ms: int
    issuer: str | None


class Standing(msgspec.Struct, frozen=True):
    """`run/revocation.json`: for the status."""

    enforced: bool
    """Whether the broker refused the witness."""
    checked_at_ms: int


def refresh_list(hub: HubServices, now_ms: int) -> bool:
    """Write the lists when they lack somebody or are a day old; whether they were written."""
    path = revocation_file(hub.directory)
    authority = Authority(hub.directory / "ca")
    signers = authority.signers()
    with hub.storage.reading() as session:
        revoked = _revoked(session, now_ms)
    wanted = {
        issuer_of(signer): {serial for serial, _ in _by(signer, signers, revoked)}
        | {_witness_serial(authority, number)}
        for number, signer in enumerate(signers)
    }
    if _are_good(present_lists(path), wanted, now_ms):
        return False
    lists, witnesses = [], []
    for signer in signers:
        key = generate_private_key(SECP256R1())
        witness = authority.issue_client(signer, WITNESS, key.public_key(), DEVICE_DAYS, now_ms)
        mine = [*_by(signer, signers, revoked), (witness.serial, now_ms)]
        lists.append(crl_pem(signer, mine, now_ms))
        witnesses.append((witness, key))
    for number, (witness, key) in enumerate(witnesses):
        authority.keep_pair(witness_name(number), witness, key)
    # Last: without it, the witnesses are not on the lists, and all is done again.
    write_whole(path, b"".join(lists))
    return True


def present_lists(path: Path) -> dict[str, RevocationList]:
    """Empty where there are none that can be read: then they are to be written."""
    try:
        return read_lists(path.read_bytes())
    except (OSError, ValueError) as error:
        _LOG.warning("%s: %s", path, error)
        return {}


def covers(hub: Path, authority: Authority) -> bool:
    """Whether there is a list for every intermediate: a broker refuses whom none speaks for."""
    present = present_lists(revocation_file(hub))
    return all(issuer_of(signer) in present for signer in authority.signers())


def witness_name(number: int) -> str:
    """Of the certificate that is on the list of the first, or of the next, intermediate."""
    return "witness" if number == 0 else f"witness-{number + 1}"


def owed_takeovers(session: Session) -> dict[str, int]:
    """Device -> since when its session is owed its end."""
    rows = session.execute(
        select(Device.name, Device.takeover_since_ms)
        .where(Device.takeover_since_ms.is_not(None))
        .limit(BATCH)
    )
    return {name: since for name, since in rows if since is not None}


def standing(hub: HubServices, session: Session) -> dict[str, object]:
    """For `GET /status`."""
    found = present_lists(revocation_file(hub.directory))
    whole = found and covers(hub.directory, Authority(hub.directory / "ca"))
    oldest = session.scalar(select(func.min(Device.takeover_since_ms)))
    try:
        data = (hub.directory / "run" / STANDING_FILE).read_bytes()
        said = msgspec.json.decode(data, type=Standing)
    except (OSError, msgspec.MsgspecError):
        said = None
    return {
        "ends_ms": min(each.ends_ms for each in found.values()) if whole else None,
        "revoked": sum(max(0, len(each.serials) - 1) for each in found.values()),
        "enforced": said.enforced if said is not None else None,
        "checked_at_ms": said.checked_at_ms if said is not None else None,
        "sessions_since_ms": oldest,
    }


class Revocation:
    """One thread's work; `step` looks about once a second."""

    def __init__(
        self,
        hub: HubServices,
        broker: Broker,
        reload: Callable[[], None],
        wait: Callable[[float], object],
    ) -> None:
        """`reload` makes the broker read the list again, where the hub can."""
        self._hub = hub
        self._broker = broker
        self._reload = reload
        self._wait = wait
        self._authority = Authority(hub.directory / "ca")
        self._next_ms = 0

    def soon(self) -> None:
        """Look at the lists at the next step: there is another intermediate, or one less."""
        self._next_ms = 0

    def step(self) -> None:
        """Refresh the list, see that it is heeded, end what is owed its end."""
        now_ms = self._hub.clock()
        with self._hub.storage.reading() as session:
            owed = owed_takeovers(session)
        fresh = any(since >= self._next_ms - TRY_EVERY_MS for since in owed.values())
        if now_ms >= self._next_ms or fresh or now_ms < self._next_ms - TRY_EVERY_MS:
            self._next_ms = now_ms + TRY_EVERY_MS
            self._enforce(owed, now_ms)
        self._wait(LOOK_S)

    def _enforce(self, owed: dict[str, int], now_ms: int) -> None:
        written = refresh_list(self._hub, now_ms)
        if written:
            self._reload()
        enforced = self._is_enforced(ENFORCED_WITHIN if written else 1)
        if enforced is None:
            return  # the broker is away, and every session with it
        said = Standing(enforced, now_ms)
        write_whole(self._hub.directory / "run" / STANDING_FILE, msgspec.json.encode(said))
        if not enforced:
            _LOG.error("the broker does not heed the revocation list: reload it")
        for name, since in owed.items():
            self._end(name, since, enforced, now_ms)

    def _end(self, name: str, since_ms: int, enforced: bool, now_ms: int) -> None:
        try:
            end_session(self._broker, self._authority, name, now_ms)
        except TakeoverFailed as error:
            _LOG.error("the session of %s goes on: %s", name, error)
            return
        if not enforced:
            return  # it comes back, and is ended again, until the broker has read the list
        with self._hub.storage.session() as session:
            mine = (Device.name == name, Device.takeover_since_ms == since_ms)
            # The end of a session makes its will speak, on topics that were cleared before.
            cleared = update(Device).where(*mine, Device.status == "revoked")
            session.execute(cleared.values(published_epoch=None))
            session.execute(update(Device).where(*mine).values(takeover_since_ms=None))
        self._hub.link.wake()
        _LOG.info("the broker holds no session of %s's former certificate", name)

    def _is_enforced(self, looks: int) -> bool | None:
        found = [
            self._is_refused(witness_name(number), looks)
            for number in range(len(self._authority.signers()))
        ]
        return None if None in found else all(found)

    def _is_refused(self, witness: str, looks: int) -> bool | None:
        certificate, key = self._authority.pair(witness)
        try:
            for _ in range(looks):
                if is_refused(
                    self._broker, self._authority, certificate.read_bytes(), key.read_bytes()
                ):
                    return True
                self._wait(0.2)
        except OSError as error:
            _LOG.warning("the broker cannot be asked about the revocation list: %s", error)
            return None
        return False


def _are_good(
    present: Mapping[str, RevocationList], wanted: Mapping[str, set[str]], now_ms: int
) -> bool:
    """One for each intermediate and no other, young, and nobody is missing.

    One of the future: the clock was put right since.
    """
    return present.keys() == wanted.keys() and all(
        serials <= present[issuer].serials
        and present[issuer].made_ms <= now_ms < present[issuer].made_ms + DAY_MS
        for issuer, serials in wanted.items()
    )


def _witness_serial(authority: Authority, number: int) -> str:
    """Empty where there is none yet: no list has that."""
    path = authority.pair(witness_name(number))[0]
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        return ""
    return f"{certificate.serial_number:x}"


def _by(
    signer: Signer, signers: Sequence[Signer], revoked: Sequence[Revoked]
) -> list[tuple[str, int]]:
    """The (serial, since) of one intermediate's. Those that name none are the first one's."""
    names = {signer.fingerprint} | ({None} if signer is signers[0] else set())
    return [(row.serial, row.at_ms) for row in revoked if row.issuer in names]


def _revoked(session: Session, now_ms: int) -> list[Revoked]:
    """Those that have not ended yet, by a day at least: the others are refused for their age."""
    rows = session.execute(
        select(Certificate.serial, Certificate.revoked_at_ms, Certificate.issuer)
        .where(Certificate.revoked_at_ms.is_not(None))
        .where(Certificate.not_after_ms > now_ms - DAY_MS)
    )
    return [Revoked(serial, at_ms, by) for serial, at_ms, by in rows if at_ms is not None]
