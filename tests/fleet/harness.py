"""A real hub in a directory, and devices that are only their key and their voice.

The hub is made once a process (deriving the offline keys is slow on purpose); a test copies it and
gets ports of its own.
"""

from __future__ import annotations

import queue
import shutil
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.x509.oid import NameOID
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from contract import messages as m
from contract.codec import decode, encode
from contract.deployments import Phase
from contract.enrolment import EnrolmentFile, EnrolmentReply, EnrolmentRequest, request_mac
from contract.envelope import seal
from contract.messages import FamilyAssignment
from contract.renewal import RenewalRequest, sign_renewal
from contract.topics import Channel, device_topic
from contract.trust import decode_hub_public_keys
from converter.trust.keys import init_keys
from converter.trust.signing import sign_bundle
from fleet.assembly import system_clock
from fleet.blobs import BlobStore
from fleet.ca import Authority
from fleet.config import read_config
from fleet.devices import add_device
from fleet.enrolment import enrol
from fleet.ports import HubServices, LinkStatus
from fleet.service import _listen, _uvicorn_config
from fleet.setup import HubInit, database_url, init_hub
from fleet.storage.database import Storage, open_storage
from fleet.trust.repository import Repository
from tests.mosquitto import free_port
from tests.trust.ceremony import PASSPHRASE, write_release

BOOT = "0123456789abcdef" * 2
OTHER_BOOT = "f" * 32
DIGEST = "a" * 64


@dataclass
class SilentLink:
    """A link to nowhere that counts how often it was woken."""

    woken: int = 0
    connected_since_ms: int | None = 0

    def wake(self) -> None:
        self.woken += 1

    def status(self) -> LinkStatus:
        since_ms = self.connected_since_ms
        return LinkStatus(
            connected=since_ms is not None,
            epoch=None,
            received=0,
            queued=0,
            connected_since_ms=since_ms,
        )


@dataclass
class HubDirectory:
    """One hub on disk, with the offline keys beside it."""

    path: Path
    token: str

    @property
    def hub(self) -> Path:
        return self.path / "hub"

    def signed(self, family: str, version: str, weights: bytes = b"w" * 50_000) -> Path:
        """A bundle, signed with the offline keys."""
        path = self.path / f"{family}-{version}.bundle"
        write_release(path, family, version, weights)
        sign_bundle(path, self.path / "keys", PASSPHRASE, now_ms=system_clock())
        return path

    @contextmanager
    def at_rest(self, clock: Callable[[], int] = system_clock) -> Iterator[HubServices]:
        """The hub's services without broker and threads."""
        storage = open_storage(database_url(self.hub))
        try:
            yield services(self.hub, storage, clock)
        finally:
            storage.close()


def services(hub: Path, storage: Storage, clock: Callable[[], int]) -> HubServices:
    return HubServices(
        directory=hub,
        config=read_config(hub),
        storage=storage,
        repository=Repository(hub / "tuf", own_root=Authority(hub / "ca").root_pem),
        blobs=BlobStore(hub / "blobs"),
        link=SilentLink(),
        clock=clock,
    )


def make_template(directory: Path) -> HubInit:
    """A hub whose trust root is imported, for families `digits` and `words`."""
    made = init_hub(directory / "hub", ["localhost"], free_port(), free_port(), bind="127.0.0.1")
    keys = decode_hub_public_keys(made.hub_keys.read_bytes())
    init_keys(directory / "keys", ["digits", "words"], keys, PASSPHRASE, system_clock())
    repository = Repository(directory / "hub" / "tuf")
    repository.import_trust((directory / "keys" / "trust.json").read_bytes())
    return made


def copy_hub(template: Path, directory: Path, token: str) -> HubDirectory:
    """The template with ports that are free now."""
    shutil.copytree(template, directory, dirs_exist_ok=True)
    path = directory / "hub" / "hub.json"
    config = msgspec.json.decode(path.read_bytes())
    config["api_port"], config["broker_port"] = free_port(), free_port()
    path.write_bytes(msgspec.json.encode(config))
    return HubDirectory(directory, token)


def csr_pem(key: EllipticCurvePrivateKey, name: str) -> str:
    """What a device sends; the name in it is of no consequence."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return csr.public_bytes(serialization.Encoding.PEM).decode()


def enrolment_request(file: EnrolmentFile, key: EllipticCurvePrivateKey) -> EnrolmentRequest:
    csr, nonce = csr_pem(key, "whatever"), "1" * 32
    mac = request_mac(file.secret, file.device, csr, nonce)
    return EnrolmentRequest(device=file.device, csr_pem=csr, nonce=nonce, mac=mac)


@dataclass
class Device:
    """A device's name and key, and what it would say."""

    name: str
    key: EllipticCurvePrivateKey = field(default_factory=lambda: generate_private_key(SECP256R1()))
    chain_pem: str = ""

    def stamp(self, mono_ms: int = 1_000, boot: str = BOOT) -> m.Stamp:
        return m.Stamp(boot=boot, mono_ms=mono_ms, at_ms=1_790_000_000_000, clock_trusted=True)

    def event(self, seq: int, boot: str = BOOT, device: str = "", **fields: Any) -> bytes:
        message = m.Event(
            device=device or self.name,
            seq=seq,
            stamp=self.stamp(boot=boot),
            family="digits",
            target="digits/1",
            digest=DIGEST,
            phase=fields.pop("phase", Phase.COMMITTED),
            **fields,
        )
        return seal(message, self.key)

    def state(self, mono_ms: int = 1_000, boot: str = BOOT, **fields: Any) -> bytes:
        message = m.State(
            device=self.name,
            stamp=self.stamp(mono_ms, boot),
            assignment_seq=fields.pop("assignment_seq", 0),
            **fields,
        )
        return seal(message, self.key)

    def report(self, seq: int, boot: str = BOOT) -> bytes:
        return encode(
            m.Report(device=self.name, seq=seq, stamp=self.stamp(boot=boot), window_ms=60_000)
        )

    def birth(self, session: str = BOOT) -> bytes:
        return encode(
            m.Birth(
                device=self.name,
                session=session,
                agent="0.1.0",
                wire=[1],
                hardware=m.Hardware(machine="aarch64"),
                stamp=self.stamp(),
            )
        )

    def topic(self, channel: Channel) -> str:
        return device_topic(self.name, channel)


def enrolled(hub: HubServices, name: str, **labels: str) -> Device:
    """A device that went through enrolment."""
    device = Device(name)
    file = add_device(hub, name, "generic", labels)
    reply = answer(hub, enrolment_request(file, device.key))
    device.chain_pem = reply.certificate_pem
    return device


def renewal(device: Device, at_ms: int, nonce: str = "2" * 32) -> bytes:
    """What a device sends when its certificate is to be renewed."""
    csr = csr_pem(device.key, device.name)
    request = RenewalRequest(device=device.name, csr_pem=csr, nonce=nonce, at_ms=at_ms)
    return sign_renewal(request, device.key)


def answer(hub: HubServices, request: EnrolmentRequest) -> EnrolmentReply:
    reply = enrol(hub.storage, Authority(hub.directory / "ca"), request, hub.clock())
    assert isinstance(reply, EnrolmentReply)
    return reply


def wanted(target: str = "digits/1", digest: str = DIGEST) -> FamilyAssignment:
    return FamilyAssignment(target=target, digest=digest, rollout="r1")


class Connection:
    """A device's connection to the hub's broker: remembers everything that it was sent."""

    def __init__(self, hub: HubServices, device: Device, folder: Path) -> None:
        self.inbox: queue.Queue[MQTTMessage] = queue.Queue()
        self.device = device
        self._ready = False
        certificate, key = folder / f"{device.name}.crt", folder / f"{device.name}.key"
        certificate.write_text(device.chain_pem)
        key.write_bytes(
            device.key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        self.client = Client(
            CallbackAPIVersion.VERSION2, client_id=device.name, protocol=MQTTProtocolVersion.MQTTv5
        )
        self.client.tls_set(
            str(hub.directory / "ca" / "root.crt"),
            str(certificate),
            str(key),
            tls_version=ssl.PROTOCOL_TLS_CLIENT,
        )
        self.client.on_message = lambda _c, _d, message: self.inbox.put(message)
        self.client.on_subscribe = lambda *_: setattr(self, "_ready", True)
        self.client.on_disconnect = lambda *_: setattr(self, "_ready", False)
        self.client.connect(hub.config.broker_host, hub.config.broker_port)
        self.client.loop_start()

    def subscribe(self, *topics: str) -> None:
        self._ready = False
        self.client.subscribe([(topic, 1) for topic in topics])
        until(lambda: self._ready)

    def say(self, channel: Channel, payload: bytes, retain: bool = False) -> None:
        topic = self.device.topic(channel)
        self.client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(5)

    def next(self, wait_s: float = 10.0) -> MQTTMessage:
        return self.inbox.get(timeout=wait_s)

    def acked(self, wait_s: float = 10.0) -> dict[str, set[int]]:
        """The next Ack, as boot -> sequence numbers."""
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            message = self.next(wait_s)
            if message.topic == self.device.topic(Channel.ACK):
                ack = decode(m.Ack, bytes(message.payload))
                return {part.boot: set(part.seqs) for part in ack.acked}
        raise AssertionError("no ack came")

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@contextmanager
def connected(hub: HubServices, device: Device, folder: Path) -> Iterator[Connection]:
    connection = Connection(hub, device, folder)
    try:
        yield connection
    finally:
        connection.close()


def until(fact: Callable[[], object], wait_s: float = 15.0) -> None:
    """Wait for a fact; fail when it does not come true."""
    deadline = time.monotonic() + wait_s
    while not fact():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


@contextmanager
def over_https(hub: HubServices) -> Iterator[None]:
    """The hub's API on its own port, with its own certificate, as `hub serve` offers it."""
    server = uvicorn.Server(_uvicorn_config(hub.directory, hub))
    server.config.lifespan = "off"
    listener = _listen(hub.config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        until(lambda: server.started)
        yield
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
