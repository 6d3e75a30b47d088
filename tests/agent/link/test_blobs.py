"""Blobs over a real broker: what arrives, what is lacking, what is wrong, what is cut off."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import pytest

from agent.errors import DiskFull, Tampered, TransportFailed
from agent.link.rate import TokenBucket
from agent.ports import BlobRef
from contract.codec import decode
from contract.ids import digest_of
from contract.messages import Want
from contract.topics import Channel, blob_topic, device_topic
from model.chunks import frame
from tests.agent.wire import DEVICE, Hub, Link, eventually
from tests.mosquitto import Credentials, Mosquitto

TARGET = "digits/2"
WANT = device_topic(DEVICE, Channel.WANT)


def some_blobs(count: int, length: int = 20_000, seed: int = 7) -> list[bytes]:
    chance = random.Random(seed)  # noqa: S311 - test data
    return [chance.randbytes(length) for _ in range(count)]


def ref(data: bytes) -> BlobRef:
    return BlobRef(digest_of(data), len(data))


class Sink:
    def __init__(self) -> None:
        self.taken: dict[str, bytes] = {}
        self.calls = 0

    def __call__(self, blob: BlobRef, data: bytes) -> None:
        self.calls += 1
        self.taken[blob.digest] = data


def never() -> bool:
    return False


def republish(hub: Hub, blobs: list[bytes]) -> None:
    """Answer every `want` as the hub does."""
    known = {digest_of(data): data for data in blobs}

    def answer(payload: bytes) -> None:
        for digest in decode(Want, payload).blobs:
            if digest in known:
                hub.post(blob_topic(digest), frame(known[digest]))

    hub.answer(WANT, answer)


def test_every_wanted_blob_is_given_once_and_verified(hub: Hub, link: Link) -> None:
    blobs = some_blobs(40)
    for data in blobs:
        hub.post(blob_topic(digest_of(data)), frame(data))
    sink = Sink()
    received = link.blobs.fetch(TARGET, [ref(b) for b in blobs], sink, never)
    assert sink.taken == {digest_of(data): data for data in blobs}
    assert sink.calls == 40
    assert received == sum(len(frame(data)) for data in blobs)
    assert hub.on(WANT) == []


def test_a_blob_asked_for_twice_is_given_once(hub: Hub, link: Link) -> None:
    (data,) = some_blobs(1)
    hub.retain(blob_topic(digest_of(data)), frame(data))
    sink = Sink()
    link.blobs.fetch(TARGET, [ref(data), ref(data)], sink, never)
    assert sink.calls == 1


def test_the_largest_blob_passes(hub: Hub, link: Link) -> None:
    (data,) = some_blobs(1, 120 * 1024)
    hub.retain(blob_topic(digest_of(data)), frame(data))
    sink = Sink()
    link.blobs.fetch(TARGET, [ref(data)], sink, never)
    assert sink.taken[digest_of(data)] == data


def test_blobs_that_the_broker_lacks_are_asked_of_the_hub(hub: Hub, link: Link) -> None:
    held, lacking = some_blobs(6), some_blobs(12, seed=8)
    for data in held:
        hub.post(blob_topic(digest_of(data)), frame(data))
    republish(hub, lacking)
    sink = Sink()
    link.blobs.fetch(TARGET, [ref(b) for b in [*held, *lacking]], sink, never)
    assert set(sink.taken.values()) == {*held, *lacking}
    wanted = {d for payload in hub.on(WANT) for d in decode(Want, payload).blobs}
    assert wanted == {digest_of(data) for data in lacking}
    assert all(decode(Want, payload).target == TARGET for payload in hub.on(WANT))


def test_an_empty_payload_means_not_held_and_never_tampered(hub: Hub, link: Link) -> None:
    (data,) = some_blobs(1)
    topic = blob_topic(digest_of(data))
    republish(hub, [data])
    hub.answer(WANT, lambda _: None)
    sink, failures = Sink(), []

    def fetch() -> None:
        try:
            link.blobs.fetch(TARGET, [ref(data)], sink, never)
        except TransportFailed as error:
            failures.append(error)

    worker = threading.Thread(target=fetch)
    worker.start()
    eventually(lambda: bool(hub.on(WANT)))
    hub.post(topic, b"")
    hub.post(topic, frame(data))
    worker.join(10)
    assert sink.taken == {digest_of(data): data}
    assert failures == []


def test_a_blob_that_nobody_has_fails_as_transport_and_keeps_the_others(
    hub: Hub, link: Link
) -> None:
    held, (missing,) = some_blobs(3), some_blobs(1, seed=9)
    for data in held:
        hub.post(blob_topic(digest_of(data)), frame(data))
    sink = Sink()
    with pytest.raises(TransportFailed, match="hub did not send it"):
        link.blobs.fetch(TARGET, [ref(b) for b in [*held, missing]], sink, never)
    assert set(sink.taken.values()) == set(held)
    assert len(hub.on(WANT)) >= 2, "it has to ask again"


@pytest.mark.parametrize(
    "payload",
    [b"\x00wrong bytes", b"\x01not zstd", b"\x07unknown tag", frame(b"z" * 100_000)],
    ids=["digest", "zstd", "tag", "length"],
)
def test_wrong_bytes_twice_are_tampering(hub: Hub, link: Link, payload: bytes) -> None:
    (data,) = some_blobs(1)
    hub.retain(blob_topic(digest_of(data)), payload)
    sink = Sink()
    with pytest.raises(Tampered, match="twice with wrong bytes"):
        link.blobs.fetch(TARGET, [ref(data)], sink, never)
    assert sink.calls == 0


def test_a_failing_sink_ends_the_fetch_and_leaves_no_subscription(hub: Hub, link: Link) -> None:
    (data,) = some_blobs(1)
    hub.retain(blob_topic(digest_of(data)), frame(data))

    def full(_blob: BlobRef, _data: bytes) -> None:
        raise DiskFull("no room")

    with pytest.raises(DiskFull):
        link.blobs.fetch(TARGET, [ref(data)], full, never)
    sink = Sink()
    link.blobs.fetch(TARGET, [ref(data)], sink, never)
    assert sink.calls == 1


def test_cancelling_ends_early_without_an_error(hub: Hub, link: Link) -> None:
    (missing,) = some_blobs(1)
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    assert link.blobs.fetch(TARGET, [ref(missing)], Sink(), stop.is_set) == 0


def test_a_broker_restarted_in_mid_fetch_is_waited_for(
    hub: Hub, link: Link, broker: Mosquitto
) -> None:
    blobs = some_blobs(60)
    for data in blobs:
        hub.post(blob_topic(digest_of(data)), frame(data))
    republish(hub, blobs)
    sink = Sink()
    restarted = threading.Event()

    def take(blob: BlobRef, data: bytes) -> None:
        sink(blob, data)
        if sink.calls == 20:
            broker.restart()  # and all that it held is gone
            restarted.set()

    link.blobs.fetch(TARGET, [ref(b) for b in blobs], take, never)
    assert restarted.is_set()
    assert set(sink.taken.values()) == set(blobs)
    assert sink.calls == 60, "a blob was given twice"


def test_a_broker_that_stays_away_fails_as_transport(link: Link, broker: Mosquitto) -> None:
    broker.kill()
    eventually(lambda: not link.connection.connected)
    (data,) = some_blobs(1)
    started = time.monotonic()
    link.blobs._patience = type(link.blobs._patience)(reconnect_s=0.5)
    with pytest.raises(TransportFailed, match="no connection"):
        link.blobs.fetch(TARGET, [ref(data)], Sink(), never)
    assert time.monotonic() > started


def test_a_link_cut_in_mid_fetch_brings_at_most_one_blob_twice(hub: Hub, link: Link) -> None:
    blobs = some_blobs(60)
    for data in blobs:
        hub.post(blob_topic(digest_of(data)), frame(data))
    route, came = link.connection._on_message, Counter[str]()

    def counted(topic: str, payload: bytes) -> None:
        came[topic] += 1
        route(topic, payload)

    link.connection._on_message = counted
    sink = Sink()

    def take(blob: BlobRef, data: bytes) -> None:
        sink(blob, data)
        if sink.calls == 30:
            client = link.connection._client
            opened = client.socket() if client else None
            assert isinstance(opened, socket.socket)
            opened.shutdown(socket.SHUT_RDWR)

    link.blobs.fetch(TARGET, [ref(b) for b in blobs], take, never)
    assert sink.calls == 60
    assert sum(times - 1 for times in came.values()) <= 1


def test_a_fetch_keeps_to_its_rate(hub: Hub, link: Link) -> None:
    blobs = some_blobs(12)
    for data in blobs:
        hub.post(blob_topic(digest_of(data)), frame(data))
    asked: list[int] = []
    subscribe = link.connection.subscribe

    def listen_in(topics: Sequence[str], qos: int = 1) -> bool:
        asked.append(len(topics))
        return subscribe(topics, qos)

    link.connection.subscribe = listen_in  # type: ignore[method-assign]  # counts what is asked
    link.blobs._rate = TokenBucket(rate=120_000.0)
    sink = Sink()
    link.blobs.fetch(TARGET, [ref(b) for b in blobs], sink, never)
    assert sink.calls == 12
    assert asked[0] == 6, "one second's bytes at once, and then as they come in"


@contextmanager
def slow_link(port: int, rate: int) -> Iterator[tuple[int, list[int]]]:
    """A way to the broker that carries so many bytes a second to the device: (port, what came)."""
    listener = socket.create_server(("127.0.0.1", 0))
    came: list[int] = []

    def carry(source: socket.socket, sink: socket.socket, rate: int) -> None:
        with suppress(OSError):
            while data := source.recv(rate // 50 if rate else 65_536):
                sink.sendall(data)
                if rate:
                    came.append(len(data))
                    time.sleep(len(data) / rate)
        for end in (source, sink):
            with suppress(OSError):  # the other direction has closed it
                end.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        with suppress(OSError):
            while True:
                near = listener.accept()[0]
                far = socket.create_connection(("127.0.0.1", port))
                for ends in ((far, near, rate), (near, far, 0)):
                    threading.Thread(target=carry, args=ends, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1], came
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def test_on_a_slow_link_a_blob_comes_once_and_the_connection_outlives_the_keepalive(
    broker: Mosquitto, device: Credentials, hub: Hub
) -> None:
    """A blob takes four times as long as one is waited for, and both longer than the keepalive."""
    blobs = some_blobs(2, 120 * 1024)
    for data in blobs:
        hub.retain(blob_topic(digest_of(data)), frame(data))
    republish(hub, blobs)
    with slow_link(broker.port, 50_000) as (port, came):
        link = Link(broker, device, port=port, keepalive_s=2).up()
        sink = Sink()
        link.blobs.fetch(TARGET, [ref(b) for b in blobs], sink, never)
        generation = link.connection.generation
        link.connection.stop()
    assert set(sink.taken.values()) == set(blobs)
    assert sum(came) < 1.2 * sum(len(data) for data in blobs)
    assert hub.on(WANT) == []
    assert generation == 1
