"""Blobs from a bucket: a real S3 server behind a hub, or a lying one, before a device's source.

Everything goes through `HttpsBlobSource`, as in the daemon: what the device may rely on is told by
what reaches the sink, by what the hub was asked for, and by the error.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import socket
import ssl
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent import object_store
from agent.errors import Tampered, TransportFailed
from agent.link.https_blobs import HttpsBlobSource
from agent.object_store import StoreTrust
from agent.ports import BlobRef
from contract.blob_request import MAX_DIGESTS, MAX_STREAMED
from fleet.bucket import Bucket
from fleet.bucket_upkeep import BucketUpkeep
from fleet.packs import Pack, Shelf
from fleet.ports import HubServices
from model.chunks import frame, unframe
from tests.agent.link.test_https_blobs import TARGET, WEIGHTS, World, assigned_device, cutting
from tests.fleet.conftest import hub_directory, hub_template
from tests.fleet.harness import HubDirectory, over_https
from tests.mosquitto import Authority
from tests.s3 import KEYS, S3Server, s3_server

__all__ = ["hub_directory", "hub_template"]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[S3Server]:
    with s3_server(tmp_path / "s3") as server:
        yield server


class Wire:
    """What the hub streamed itself, and how many addresses it gave out."""

    def __init__(self, bucket: Bucket, hub: HubServices) -> None:
        self.addresses = 0
        self.instead: Callable[[str], str] | None = None
        """Makes another address of the first one."""
        self.elsewhere = ""
        """Where to send devices instead."""
        self._bucket = bucket
        self.hub = hub

    def address(self, name: str) -> str:
        self.addresses += 1
        if self.elsewhere:
            return self.elsewhere + name
        address = self._bucket.address(name)
        return self.instead(address) if self.instead and self.addresses == 1 else address


@dataclasses.dataclass
class Shop:
    """A world whose release stands in the bucket."""

    world: World
    wire: Wire
    pack: Pack
    path: Path
    trust: StoreTrust

    def source(self, trust: StoreTrust | None = None) -> HttpsBlobSource:
        source = self.world.source()
        source._store = trust or self.trust
        return source

    def only_the_bucket_has_them(self) -> None:
        """Nothing that comes after this can have come from the hub."""
        for ref in self.world.refs:
            self.world.hub.blobs.discard(ref.digest)


@contextmanager
def shop(
    hub_directory: HubDirectory,
    folder: Path,
    store: S3Server,
    weights: bytes = WEIGHTS,
    **changed: Any,
) -> Iterator[Shop]:
    with ExitStack() as stack:
        hub = stack.enter_context(hub_directory.at_rest())
        bucket = Bucket(store.config(**changed), KEYS)
        wire = Wire(bucket, hub)
        hub = dataclasses.replace(hub, shelf=Shelf(wire))
        stack.enter_context(over_https(hub))
        world = assigned_device(hub, hub_directory, folder, weights)
        assert hub.shelf is not None
        parts = (hub.storage, hub.blobs, hub.clock, lambda _: False)
        BucketUpkeep(bucket, hub.shelf, *parts).step()
        pack = hub.shelf.held[TARGET]
        yield Shop(world, wire, pack, store.packs()[0], StoreTrust(store.ca_file))


@pytest.fixture
def shelved(hub_directory: HubDirectory, tmp_path: Path, store: S3Server) -> Iterator[Shop]:
    with shop(hub_directory, tmp_path, store) as found:
        yield found


def contents(world: World) -> dict[str, bytes]:
    return {
        r.digest: unframe(world.hub.blobs.get(r.digest), r.length, r.digest) for r in world.refs
    }


def test_every_blob_comes_from_the_bucket_by_one_address(shelved: Shop) -> None:
    expected = contents(shelved.world)
    shelved.only_the_bucket_has_them()
    assert shelved.world.fetch(shelved.source()) == expected
    assert len(expected) > 20
    assert shelved.wire.addresses == 1


def test_what_is_on_the_disk_already_is_not_read(shelved: Shop) -> None:
    shelved.only_the_bucket_has_them()
    shelved.world.refs = shelved.world.refs[::5]
    found: list[str] = []
    received = shelved.source().fetch(
        TARGET, shelved.world.refs, lambda ref, _: found.append(ref.digest), lambda: False
    )
    assert sorted(found) == sorted(ref.digest for ref in shelved.world.refs)
    assert received == sum(shelved.pack.places[digest][1] for digest in found)
    assert shelved.wire.addresses == 1  # however many ranges


def test_a_device_that_does_not_ask_for_places_is_served_by_the_hub(shelved: Shop) -> None:
    source = shelved.source()
    source.leave_store_alone()
    assert shelved.world.fetch(source) == contents(shelved.world)
    assert shelved.wire.addresses == 0


def test_an_address_that_has_expired_is_asked_for_anew(shelved: Shop) -> None:
    shelved.wire.instead = lambda address: address.replace("X-Amz-Date=20", "X-Amz-Date=19")
    shelved.only_the_bucket_has_them()
    assert len(shelved.world.fetch(shelved.source())) == len(shelved.world.refs)
    assert shelved.wire.addresses == 2


def test_a_store_that_is_down_costs_two_tries_and_the_hub_gives_the_blobs(
    shelved: Shop, store: S3Server
) -> None:
    store.stop()
    source = shelved.source()
    assert shelved.world.fetch(source) == contents(shelved.world)
    assert shelved.wire.addresses == 2
    assert shelved.world.fetch(source) == contents(shelved.world)
    assert shelved.wire.addresses == 2  # it is left alone for a while


def test_a_store_that_goes_down_in_the_middle_costs_no_blob_twice(
    shelved: Shop, store: S3Server
) -> None:
    """The sink of `World.fetch` takes each blob once only."""
    found: dict[str, bytes] = {}

    def sink(ref: BlobRef, data: bytes) -> None:
        assert ref.digest not in found
        found[ref.digest] = data
        if len(found) == 10:
            shelved.path.unlink()
            store.stop()

    shelved.source().fetch(TARGET, shelved.world.refs, sink, lambda: False)
    assert found == contents(shelved.world)


def test_a_deleted_object_is_no_loss(shelved: Shop) -> None:
    shelved.path.unlink()
    assert shelved.world.fetch(shelved.source()) == contents(shelved.world)


def test_a_store_of_another_ca_is_given_up_for_the_hub(
    shelved: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert shelved.world.fetch(shelved.source(StoreTrust())) == contents(shelved.world)
    assert "object_store_ca_file" in caplog.text
    assert "X-Amz" not in caplog.text  # an address is as good as a key


@pytest.mark.parametrize("payload", [frame(b"other bytes"), b"\x07?", b""])
def test_a_tampered_object_is_tampering_after_one_retry_and_the_others_stay_good(
    shelved: Shop, payload: bytes
) -> None:
    damaged = shelved.world.refs[3]
    start, length = shelved.pack.places[damaged.digest]
    data = bytearray(shelved.path.read_bytes())
    data[start : start + length] = payload.ljust(length, b"\x00")
    shelved.path.write_bytes(data)
    found: list[str] = []
    with pytest.raises(Tampered, match="twice with wrong bytes"):
        shelved.source().fetch(
            TARGET, shelved.world.refs, lambda ref, _: found.append(ref.digest), lambda: False
        )
    assert set(found) == {ref.digest for ref in shelved.world.refs} - {damaged.digest}
    assert len(found) == len(shelved.world.refs) - 1
    assert shelved.wire.addresses == 2


def test_a_cut_costs_the_blob_that_was_under_way(
    hub_directory: HubDirectory, tmp_path: Path, store: S3Server
) -> None:
    with cutting(store.port, after=250_000, cuts=2) as (url, sizes):
        with shop(hub_directory, tmp_path, store, device_endpoint=url) as shelved:
            shelved.only_the_bucket_has_them()
            found = shelved.world.fetch(shelved.source())
        assert len(found) == len(shelved.world.refs)
        assert len(sizes) == 3
        assert sum(sizes) < len(WEIGHTS) * 1.2


def test_once_places_came_the_next_request_asks_for_more_than_a_stream_carries(
    hub_directory: HubDirectory, tmp_path: Path, store: S3Server
) -> None:
    with shop(hub_directory, tmp_path, store, weights=os.urandom(9 << 20)) as shelved:
        count = len(shelved.world.refs)
        assert 2 * MAX_STREAMED < count < MAX_STREAMED + MAX_DIGESTS
        shelved.only_the_bucket_has_them()
        assert len(shelved.world.fetch(shelved.source())) == count
        assert shelved.wire.addresses == 2


@contextmanager
def lying(
    folder: Path, answers: list[bytes], tls: bool = True, dribble: bytes = b""
) -> Iterator[tuple[str, list[bytes]]]:
    """A store that gives these answers, one a connection, whatever it is asked."""
    server = Authority(folder / "liar", "a liar's CA").server("liar")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.certificate, server.key)
    context.verify_mode = ssl.CERT_OPTIONAL  # it asks every client for a certificate
    context.load_verify_locations(server.ca)
    listener = socket.create_server(("127.0.0.1", 0))
    asked: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                plain = listener.accept()[0]
            except OSError:
                return
            try:
                connection = context.wrap_socket(plain, server_side=True) if tls else plain
                if isinstance(connection, ssl.SSLSocket):
                    assert connection.getpeercert() is None
                asked.append(connection.recv(65_536))
                connection.sendall(answers[min(len(asked), len(answers)) - 1])
                while dribble:  # until the device has had enough
                    connection.sendall(dribble)
                    time.sleep(0.02)
                connection.close()
            except OSError:
                continue

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        port = listener.getsockname()[1]
        yield f"{'https' if tls else 'http'}://localhost:{port}/", asked
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def answered(status: str, *headers: str, body: bytes = b"") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode() + body


LONG = 1 << 33


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (answered("200 OK", f"Content-Length: {LONG}"), "other bytes than it was asked for"),
        (
            answered("206 X", f"Content-Length: {LONG}", f"Content-Range: bytes 0-{LONG - 1}/*"),
            "other bytes than it was asked for",
        ),
        (
            answered("206 X", f"Content-Length: {LONG}", "Content-Range: bytes 0-RIGHT/*"),
            "announced",
        ),
        (
            answered("206 X", "Transfer-Encoding: chunked", "Content-Range: bytes 0-RIGHT/*"),
            "announced None bytes",
        ),
        (answered("206 X", "Content-Length: 1", "Content-Range: bytes 5-9/10"), "other bytes"),
        (answered("403 Forbidden", "Content-Length: 0"), "status 403"),
        (answered("500 Oops", f"X: {'y' * 70_000}"), "cannot reach"),
        (b"\xff" * 100_000, "cannot reach"),
        (b"HTTP/1.1 \x1b[2J" + b"y" * 60_000 + b"\r\n\r\n", "cannot reach"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 4_000, "more comes than a head may have"),
        (b"", "cannot reach"),
    ],
)
def test_an_over_long_or_strange_answer_is_refused_before_a_byte_of_it_is_held(
    shelved: Shop, tmp_path: Path, caplog: pytest.LogCaptureFixture, answer: bytes, why: str
) -> None:
    right = b"%d" % (shelved.pack.length - 1)
    with lying(tmp_path, [answer.replace(b"RIGHT", right)]) as (url, asked):
        shelved.wire.elsewhere = url
        tracemalloc.start()
        with caplog.at_level(logging.WARNING):
            found = shelved.world.fetch(shelved.source(liar_trust(tmp_path)))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert found == contents(shelved.world)  # from the hub
    assert len(asked) == 2
    assert why in caplog.text
    assert "\x1b" not in caplog.text
    assert len(caplog.text) < 2_000  # none of it is repeated
    assert peak < 32 << 20


def liar_trust(folder: Path) -> StoreTrust:
    return StoreTrust(folder / "liar" / "ca.pem")


def test_a_store_that_dribbles_is_given_up_for_the_hub(
    shelved: Shop,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(object_store, "BLOB_S", 0.3)
    length = shelved.pack.length
    head = answered(
        "206 X", f"Content-Length: {length}", f"Content-Range: bytes 0-{length - 1}/{length}"
    )
    with lying(tmp_path, [head], dribble=b"\x00") as (url, _):
        shelved.wire.elsewhere = url
        with caplog.at_level(logging.WARNING):
            assert shelved.world.fetch(shelved.source(liar_trust(tmp_path))) == contents(
                shelved.world
            )
    assert "is too slow" in caplog.text


@pytest.mark.parametrize(
    ("begun", "more"),
    [
        (b"HTTP/1.1 206 X\r\nX: ", b"y"),
        (b"HTTP/1.1 206 X\r\n", b"X: y\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
)
def test_an_answer_that_never_begins_is_given_up_for_the_hub(
    shelved: Shop,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    begun: bytes,
    more: bytes,
) -> None:
    monkeypatch.setattr(object_store, "HEAD_S", 0.3)
    with lying(tmp_path, [begun], dribble=more) as (url, asked):
        shelved.wire.elsewhere = url
        with caplog.at_level(logging.WARNING):
            assert shelved.world.fetch(shelved.source(liar_trust(tmp_path))) == contents(
                shelved.world
            )
    assert "is too slow" in caplog.text
    assert len(asked) == 2


def test_a_store_that_slows_down_after_each_blob_is_given_up_for_the_hub(
    shelved: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One blob in each try would be progress of a kind, for weeks."""
    monkeypatch.setattr(object_store, "BLOB_S", 0.3)
    data = shelved.path.read_bytes()
    answers = []
    for start, end in ((0, shelved.pack.starts[3]), (shelved.pack.starts[3],) * 2):
        said = f"Content-Range: bytes {start}-{len(data) - 1}/{len(data)}"
        length = f"Content-Length: {len(data) - start}"
        answers.append(answered("206 X", length, said, body=data[start:end]))
    with lying(tmp_path, answers, dribble=b"\x00") as (url, asked):
        shelved.wire.elsewhere = url
        found = shelved.world.fetch(shelved.source(liar_trust(tmp_path)))
    assert found == contents(shelved.world)
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("location", "why"),
    [
        ("http://localhost:9/a", "without TLS"),
        ("file:///etc/shadow", "no address"),
        ("", "from place to place"),
        ("/again", "from place to place"),
        ("https://user:x@localhost/", "a name in it"),
        ("https://[", "nowhere"),
    ],
)
def test_redirects_are_bounded_and_lead_to_https_only(
    shelved: Shop, tmp_path: Path, caplog: pytest.LogCaptureFixture, location: str, why: str
) -> None:
    answer = answered("307 Elsewhere", f"Location: {location}", "Content-Length: 0")
    with lying(tmp_path, [answer]) as (url, asked):
        shelved.wire.elsewhere = url
        with caplog.at_level(logging.WARNING):
            found = shelved.world.fetch(shelved.source(liar_trust(tmp_path)))
    assert found == contents(shelved.world)
    assert why in caplog.text
    assert len(asked) <= 2 * 3


def test_no_redirect_leads_off_tls_where_stores_without_it_are_allowed(
    shelved: Shop, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    answer = answered("307 Elsewhere", "Location: http://localhost:9/a", "Content-Length: 0")
    with lying(tmp_path, [answer]) as (url, _):
        shelved.wire.elsewhere = url
        trust = dataclasses.replace(liar_trust(tmp_path), plain=True)
        with caplog.at_level(logging.WARNING):
            assert shelved.world.fetch(shelved.source(trust)) == contents(shelved.world)
    assert "sends this device off TLS" in caplog.text


def test_a_redirect_within_https_is_followed_and_tells_no_more_than_the_range(
    shelved: Shop, store: S3Server, tmp_path: Path
) -> None:
    direct = shelved.wire.address(shelved.pack.name)
    answer = answered("307 Elsewhere", f"Location: {direct}", "Content-Length: 0")
    shelved.only_the_bucket_has_them()
    with lying(tmp_path, [answer]) as (url, asked):
        shelved.wire.elsewhere = url
        both = tmp_path / "both.pem"
        liar = (tmp_path / "liar" / "ca.pem").read_text()
        both.write_text(liar + store.ca_file.read_text())
        found = shelved.world.fetch(shelved.source(StoreTrust(both)))
    assert len(found) == len(shelved.world.refs)
    lines = asked[0].decode().splitlines()
    names = {line.split(":")[0].lower() for line in lines[1:] if line}
    assert names == {"host", "range", "accept-encoding"}


def test_an_address_without_tls_is_used_only_where_it_was_allowed(
    shelved: Shop, tmp_path: Path
) -> None:
    data = shelved.path.read_bytes()
    whole = f"Content-Range: bytes 0-{len(data) - 1}/{len(data)}"
    answer = answered("206 X", f"Content-Length: {len(data)}", whole, body=data)
    with lying(tmp_path, [answer], tls=False) as (url, asked):
        shelved.wire.elsewhere = url
        assert shelved.world.fetch(shelved.source()) == contents(shelved.world)
        assert asked == []
        shelved.only_the_bucket_has_them()
        found = shelved.world.fetch(shelved.source(StoreTrust(plain=True)))
    assert len(found) == len(shelved.world.refs)
    assert len(asked) == 1


def test_a_hub_whose_places_cannot_be_read_is_a_failing_hub(
    shelved: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    shelved.wire.elsewhere = "gopher://s3/"
    with caplog.at_level(logging.WARNING), pytest.raises(TransportFailed, match="cannot be read"):
        shelved.world.fetch(shelved.source())
