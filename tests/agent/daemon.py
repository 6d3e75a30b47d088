"""Daemons as processes, and a hub for them: real broker, real TUF metadata, real envelopes.

`Fleet` publishes, assigns, commands, verifies what devices sign, and acknowledges when told to.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from agent.identity import AgentIdentity
from agent.status import NotRunning, read_status
from agent.trust.local import install_root
from contract.codec import decode, encode
from contract.envelope import key_id, open_sealed, seal
from contract.messages import (
    Ack,
    Acked,
    Assignment,
    Command,
    Event,
    FamilyAssignment,
    Message,
    ProbationPolicy,
    Reply,
    Report,
    State,
    Verb,
)
from contract.topics import Channel, blob_topic, device_topic, tuf_index_topic, tuf_topic
from fleet.trust.repository import Accepted
from model.archive import open_bundle
from model.chunks import blobs_of, frame
from tests.agent.wire import Hub, eventually
from tests.model import builders
from tests.mosquitto import Authority, Credentials, Mosquitto
from tests.trust.ceremony import World

HOUR_MS = 3_600_000
FAST = {
    "OUTRIDER_TICK_SECONDS": "0.1",
    "OUTRIDER_REPORT_SECONDS": "0.5",
    "OUTRIDER_HEARTBEAT_SECONDS": "60",
    "OUTRIDER_REFRESH_SPREAD_SECONDS": "0",
    "OUTRIDER_ACK_SECONDS": "0.3",
}


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Daemon:
    """`python -m agent` on one state directory."""

    def __init__(self, state: Path, *arguments: str, **environment: str) -> None:
        self.state = state
        self._log = state.parent / f"{state.name}.log"
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "agent", "--state", str(state), "--port", "0", *arguments],
                env={**os.environ, **FAST, **environment},
                stdout=log,
                stderr=log,
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def status(self) -> dict[str, Any]:
        """Empty while it does not run."""
        try:
            return read_status(self.state)
        except NotRunning:
            return {}

    def connected(self) -> bool:
        assert self.process.poll() is None, self.log
        return bool(self.status().get("connected"))

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def kill(self) -> None:
        """SIGKILL for it and for the server that it leaves behind."""
        pid = self.status().get("server_pid")
        self.process.kill()
        self.process.wait(10)
        if pid:
            os.kill(pid, signal.SIGKILL)


class Fleet:
    """One hub, one broker, one keys folder."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = Authority(directory / "ca")
        self.broker = Mosquitto(directory / "broker", self.authority)
        self.broker.start()
        self.world = World(directory / "world", now_ms())
        (directory / "world").mkdir()
        self.world.repository.create_online_keys()
        self.world.init_keys("digits")
        self.world.import_trust()
        self.hub = Hub(self.broker, self.authority.client("hub"))
        self.releases: dict[str, Accepted] = {}
        self.seq = 0
        self.publish_trust()

    def close(self) -> None:
        self.hub.close()
        self.broker.stop()

    def enrolled(self, state: Path, device: str) -> Credentials:
        """Give the directory an identity, as enrolment leaves it."""
        credentials = self.authority.client(device)
        identity = state / "identity"
        identity.mkdir(parents=True)
        (identity / "device.key").write_bytes(credentials.key.read_bytes())
        (identity / "device.crt").write_bytes(credentials.certificate.read_bytes())
        (identity / "ca.pem").write_text(self.authority.pem)
        record = AgentIdentity(
            device=device,
            device_class="generic",
            hub_url="https://localhost:1",
            broker_host="localhost",
            broker_port=self.broker.port,
            floor_ms=now_ms() - HOUR_MS,
        )
        (identity / "enrolment.json").write_bytes(msgspec.json.encode(record))
        install_root(state / "tuf", self.world.repository.files()["1.root.json"])
        return credentials

    def publish_trust(self) -> None:
        """Files first, index last."""
        repository = self.world.repository
        for name, data in repository.files().items():
            self.hub.post(tuf_topic(name), data)
        self.hub.retain(tuf_index_topic(), encode(repository.index(now_ms())))

    def publish(self, seed: int) -> Accepted:
        """A real release of digits, signed, with its blobs at the broker."""
        path = builders.bundle(self.world.directory, seed)
        self.world.signed("digits", str(seed + 1))
        accepted = self.world.accept(path)
        with open_bundle(path) as bundle:
            for digest, data in blobs_of(bundle):
                self.hub.post(blob_topic(digest), frame(data))
        self.publish_trust()
        self.releases[accepted.target] = accepted
        return accepted

    def assignment(self, device: str, release: Accepted, **policy: Any) -> Assignment:
        """With the next seq."""
        self.seq += 1
        wanted = FamilyAssignment(
            target=release.target,
            digest=release.digest,
            rollout="r-1",
            probation=ProbationPolicy(**policy),
        )
        return Assignment(
            device=device,
            seq=self.seq,
            issued_at_ms=now_ms(),
            expires_at_ms=now_ms() + HOUR_MS,
            families={"digits": wanted},
        )

    def assign(self, device: str, release: Accepted, **policy: Any) -> None:
        sealed = seal(
            self.assignment(device, release, **policy), self.world.repository.assignment_key()
        )
        self.hub.retain(device_topic(device, Channel.ASSIGNMENT), sealed)

    def command(self, device: str, name: str, verb: Verb, **more: Any) -> bytes:
        """Send it; returns the bytes, to be sent again."""
        message = Command(
            device=device,
            id=name,
            verb=verb,
            issued_at_ms=now_ms(),
            expires_at_ms=more.pop("expires_at_ms", now_ms() + HOUR_MS),
            **more,
        )
        sealed = seal(message, self.world.repository.assignment_key())
        self.hub.send(device_topic(device, Channel.COMMAND), sealed)
        return sealed

    # --- what devices say

    def said(
        self, device: str, channel: Channel, kinds: tuple[type[Message], ...], by: Credentials
    ) -> list[Any]:
        """Every signed message on the channel, verified with the device's certificate."""
        certificate = x509.load_pem_x509_certificate(by.certificate.read_bytes())
        key = certificate.public_key()
        assert isinstance(key, EllipticCurvePublicKey)
        payloads = self.hub.on(device_topic(device, channel))
        return [open_sealed(kinds, data, {key_id(key): key}) for data in payloads]

    def states(self, device: str, by: Credentials) -> list[State]:
        return self.said(device, Channel.STATE, (State,), by)

    def events(self, device: str, by: Credentials) -> list[Event]:
        found = self.said(device, Channel.EVENT, (Event, Reply), by)
        return [message for message in found if isinstance(message, Event)]

    def replies(self, device: str, by: Credentials) -> list[Reply]:
        found = self.said(device, Channel.EVENT, (Event, Reply), by)
        return [message for message in found if isinstance(message, Reply)]

    def reports(self, device: str) -> list[Report]:
        return [decode(Report, d) for d in self.hub.on(device_topic(device, Channel.REPORT))]

    def acknowledge(self, device: str, by: Credentials) -> int:
        """Ack everything that was heard so far; how many rows."""
        rows: set[tuple[str, int]] = {(r.stamp.boot, r.seq) for r in self.reports(device)}
        for message in self.said(device, Channel.EVENT, (Event, Reply), by):
            rows.add((message.stamp.boot, message.seq))
        by_boot: dict[str, list[int]] = {}
        for boot, seq in sorted(rows):
            by_boot.setdefault(boot, []).append(seq)
        acked = [Acked(boot, seqs[-512:]) for boot, seqs in by_boot.items()]
        self.hub.send(
            device_topic(device, Channel.ACK), encode(Ack(device=device, acked=acked[:16]))
        )
        return len(rows)


__all__ = ["Daemon", "Fleet", "eventually", "now_ms"]
