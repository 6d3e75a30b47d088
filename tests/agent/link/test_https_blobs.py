"""Blobs over HTTPS against the real hub: checked, resumed, refused by class."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
import zstandard
from sqlalchemy import select

from agent.enrol import enroll
from agent.errors import DiskFull, Tampered, TransportFailed
from agent.identity import Identity, load_identity
from agent.link.blobs import MqttBlobSource
from agent.link.collector import Collectors
from agent.link.connection import Connection, Endpoint, Publication
from agent.link.https_blobs import HttpsBlobSource
from agent.link.inbox import Inbox
from agent.link.rejects import Rejects
from agent.link.router import Router
from agent.link.sources import SizedBlobSource
from agent.link.tls import trust_only
from agent.ports import BlobRef
from contract.blob_request import HEAD_BYTES, record
from contract.codec import encode
from contract.enrolment import encode_enrolment
from contract.manifest import MAX_CHUNK_BYTES
from contract.messages import Death
from contract.topics import Channel, device_topic
from fleet.assembly import run_hub, system_clock
from fleet.assignments import assign
from fleet.ca import Authority
from fleet.devices import add_device
from fleet.ports import HubServices
from fleet.releases import find_release, publish_bundle
from fleet.storage.schema import Blob
from model.chunks import frame, unframe
from tests.agent.wire import FAST, SHORT
from tests.fleet.conftest import hub_directory, hub_template
from tests.fleet.harness import HubDirectory, over_https, until, wanted
from tests.mosquitto import free_port

__all__ = ["hub_directory", "hub_template"]

TARGET = "digits/1"
WEIGHTS = os.urandom(700_000)
"""About 30 chunks that no compression makes smaller."""


@dataclass
class World:
    """A hub that serves HTTPS, and an enrolled device to which digits/1 is assigned."""

    hub: HubServices
    identity: Identity
    refs: list[BlobRef]

    def source(self, url: str = "", off_ms: int = 0) -> HttpsBlobSource:
        me = self.identity
        return HttpsBlobSource(
            url or me.record.hub_url,
            me.device,
            me.key,
            lambda: trust_only(me.ca_pem, clock_is_wrong=False),
            lambda: system_clock() + off_ms,
            sleep=lambda _: None,
            monotonic=count_up(),
        )

    def fetch(self, source: HttpsBlobSource | SizedBlobSource) -> dict[str, bytes]:
        found: dict[str, bytes] = {}

        def sink(ref: BlobRef, data: bytes) -> None:
            assert ref.digest not in found
            found[ref.digest] = data

        source.fetch(TARGET, self.refs, sink, lambda: False)
        return found

    def damage(self, payload: bytes) -> None:
        """Of one blob on the hub's disk."""
        name = self.refs[3].digest
        path = self.hub.directory / "blobs" / name[:2] / name
        path.chmod(0o600)
        path.write_bytes(payload)


def count_up() -> Callable[[], float]:
    """A clock that moves a second each time that it is looked at."""
    now = [0.0]

    def read() -> float:
        now[0] += 1.0
        return now[0]

    return read


def assigned_device(
    hub: HubServices, directory: HubDirectory, folder: Path, weights: bytes = WEIGHTS
) -> World:
    publish_bundle(hub, directory.signed("digits", "1", weights), "operator")
    file = folder / "cam-1.json"
    file.write_bytes(encode_enrolment(add_device(hub, "cam-1", "generic", {})))
    file.chmod(0o600)
    enroll(file, folder / "state", clock=system_clock)
    family = wanted(TARGET, manifest_digest(hub))
    with hub.storage.session() as session:
        assign(session, "cam-1", "digits", family, hub.clock())
    with hub.storage.reading() as session:
        names = sorted(session.scalars(select(Blob.digest).where(Blob.release == TARGET)))
    refs = [BlobRef(name, unpacked_length(hub.blobs.get(name))) for name in names]
    return World(hub, load_identity(folder / "state"), refs)


def unpacked_length(payload: bytes) -> int:
    body = payload[1:]
    return len(body if payload[0] == 0 else zstandard.ZstdDecompressor().decompress(body))


@pytest.fixture
def world(hub_directory: HubDirectory, tmp_path: Path) -> Iterator[World]:
    with hub_directory.at_rest() as hub, over_https(hub):
        yield assigned_device(hub, hub_directory, tmp_path)


def test_every_blob_comes_once_and_is_what_the_hub_holds(world: World) -> None:
    found = world.fetch(world.source())
    assert len(world.refs) > 20
    assert found == {
        ref.digest: unframe(world.hub.blobs.get(ref.digest), ref.length, ref.digest)
        for ref in world.refs
    }


def test_what_was_received_is_told_in_payload_bytes(world: World) -> None:
    received = world.source().fetch(TARGET, world.refs, lambda *_: None, lambda: False)
    assert received == sum(len(world.hub.blobs.get(ref.digest)) for ref in world.refs)


def test_a_wrong_clock_goes_by_the_hubs_time(world: World) -> None:
    assert len(world.fetch(world.source(off_ms=-90 * 86_400_000))) == len(world.refs)


def test_a_release_that_is_not_assigned_does_not_come(world: World) -> None:
    with pytest.raises(TransportFailed, match="is not to have these blobs"):
        world.source().fetch("digits/2", world.refs, lambda *_: None, lambda: False)


def test_a_cancelled_fetch_ends_without_an_error(world: World) -> None:
    found: list[BlobRef] = []
    world.source().fetch(
        TARGET, world.refs, lambda ref, _: found.append(ref), lambda: len(found) >= 3
    )
    assert len(found) == 3


def test_a_sink_that_fails_is_not_taken_for_the_network(world: World) -> None:
    def full(_ref: BlobRef, _data: bytes) -> None:
        raise DiskFull("no room")

    with pytest.raises(DiskFull):
        world.source().fetch(TARGET, world.refs, full, lambda: False)


def bomb() -> bytes:
    """A frame that unpacks to a gigabyte."""
    zeros = zstandard.ZstdCompressor(level=19).compressobj()
    packed = b"".join(zeros.compress(bytes(1 << 24)) for _ in range(64)) + zeros.flush()
    assert len(packed) < MAX_CHUNK_BYTES
    return b"\x01" + packed


@pytest.mark.parametrize("payload", [frame(b"other bytes"), b"\x07?", bomb()])
def test_wrong_bytes_are_tampering_and_the_others_stay_good(world: World, payload: bytes) -> None:
    world.damage(payload)
    found: dict[str, bytes] = {}
    with pytest.raises(Tampered, match="twice with wrong bytes"):
        world.source().fetch(
            TARGET, world.refs, lambda r, d: found.update({r.digest: d}), lambda: False
        )
    assert len(found) == len(world.refs) - 1


def test_a_blob_that_the_hub_lost_ends_the_fetch_after_the_others_came(world: World) -> None:
    world.hub.blobs.discard(world.refs[3].digest)
    found: list[str] = []
    with pytest.raises(TransportFailed, match="no more blobs of digits/1"):
        world.source().fetch(
            TARGET, world.refs, lambda ref, _: found.append(ref.digest), lambda: False
        )
    assert len(found) == len(world.refs) - 1


def test_no_hub_is_worth_a_retry(world: World) -> None:
    with pytest.raises(TransportFailed, match="cannot reach the hub"):
        world.fetch(world.source(f"https://localhost:{free_port()}"))


@contextmanager
def cutting(port: int, after: int, cuts: int) -> Iterator[tuple[str, list[int]]]:
    """A way to the hub that is cut off `cuts` times, after so many bytes each."""
    listener = socket.create_server(("127.0.0.1", 0))
    sizes: list[int] = []

    def serve() -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", port))
            limit = after if len(sizes) < cuts else 1 << 40
            up = threading.Thread(target=pump, args=(near, far, 1 << 40), daemon=True)
            up.start()
            sizes.append(pump(far, near, limit))
            up.join(5)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"https://localhost:{listener.getsockname()[1]}", sizes
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def pump(source: socket.socket, sink: socket.socket, limit: int) -> int:
    """Carry bytes until the limit or the end, then close both; how many there were."""
    carried = 0
    try:
        while carried < limit and (data := source.recv(min(16_384, limit - carried))):
            sink.sendall(data)
            carried += len(data)
    except OSError:
        pass  # the other direction has closed both
    for end in (source, sink):
        with suppress(OSError):  # it is closed already
            end.shutdown(socket.SHUT_RDWR)
        end.close()
    return carried


def test_a_connection_that_is_cut_goes_on_with_the_outstanding_ones(world: World) -> None:
    with cutting(world.hub.config.api_port, after=250_000, cuts=2) as (url, sizes):
        found = world.fetch(world.source(url))
    assert len(found) == len(world.refs)
    assert len(sizes) == 3
    assert sum(sizes) < len(WEIGHTS) * 1.5  # what had come was not fetched again


@contextmanager
def lying(hub: HubServices, answer: bytes, head: bytes = b"200 OK") -> Iterator[str]:
    """A server with the hub's certificate that answers every request with these bytes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*Authority(hub.directory / "ca").pair("api"))
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                opened = listener.accept()[0]
            except OSError:  # the listener was shut down
                return
            # The device leaves as soon as it knows enough: that ends one connection, not the rest.
            with suppress(OSError), context.wrap_socket(opened, server_side=True) as connection:
                asked = b""
                while not asked.endswith(b"]}") and (more := connection.recv(65_536)):
                    asked += more
                connection.sendall(b"HTTP/1.1 " + head + b"\r\nConnection: close\r\n\r\n" + answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"https://localhost:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "cut off"),
        (b"x" * (HEAD_BYTES - 1), "cut off"),
        (b"\xff" * 1_000_000, "announced with a payload of 4294967295 bytes"),
        (record("f" * 64, b"whatever"), "was not asked for it"),
    ],
)
def test_an_answer_that_cannot_be_read_is_held_in_no_memory(
    world: World, answer: bytes, why: str
) -> None:
    with lying(world.hub, answer) as url, pytest.raises(TransportFailed, match=why):
        world.fetch(world.source(url))


@pytest.mark.parametrize("time", [b"\xb2", b"1\xb9", b"-5", b"1e9", b"9" * 17, b""])
def test_a_time_that_is_no_number_moves_no_clock(world: World, time: bytes) -> None:
    """`\u00b2` is a digit to Python, and no number."""
    head = b"409 Conflict\r\nOutrider-Time-Ms: " + time
    with lying(world.hub, b"", head) as url:
        source = world.source(url)
        with pytest.raises(TransportFailed, match="no blobs"):
            world.fetch(source)
    assert source._ahead_ms == 0


def test_a_release_that_is_kept_off_the_broker_comes_all_the_same(
    hub_directory: HubDirectory, tmp_path: Path
) -> None:
    config = hub_directory.hub / "hub.json"
    settings = msgspec.json.decode(config.read_bytes())
    config.write_bytes(msgspec.json.encode(settings | {"retain_at_most_bytes": 0}))
    with run_hub(hub_directory.hub) as running, over_https(running.services):
        until((hub_directory.hub / "run" / "epoch").exists)
        world = assigned_device(running.services, hub_directory, tmp_path)
        connection, broker = broker_source(world)
        try:
            found = world.fetch(SizedBlobSource(broker, world.source(), 1 << 40))
        finally:
            connection.stop()
        with running.services.storage.reading() as session:
            held = session.scalars(select(Blob.digest).where(Blob.published_epoch.is_not(None)))
            assert list(held) == [manifest_digest(running.services)]
    assert len(found) == len(world.refs)


def manifest_digest(hub: HubServices) -> str:
    with hub.storage.reading() as session:
        return find_release(session, TARGET).digest


def broker_source(world: World) -> tuple[Connection, MqttBlobSource]:
    me, collectors = world.identity, Collectors()
    router = Router(me.device, Inbox(), collectors, Rejects())
    death = encode(Death(device=me.device, session="0" * 32))
    will = Publication(device_topic(me.device, Channel.PRESENCE), death, retain=True)
    endpoint = Endpoint(
        me.record.broker_host,
        me.record.broker_port,
        me.device,
        lambda: me.tls_context(clock_is_wrong=False),
        will,
        backoff=FAST,
    )
    connection = Connection(endpoint, router.route, lambda: None)
    connection.start()
    assert connection.wait_connected(10), connection.last_error
    return connection, MqttBlobSource(connection, collectors, me.device, SHORT)
