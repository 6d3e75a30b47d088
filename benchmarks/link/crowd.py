"""A thousand subscribers that read slowly, and what they cost the broker; and the hub's share.

The subscribers speak just enough MQTT 5.0 (OASIS, sections 3.1, 3.3, 3.4, 3.8) over mutual TLS to
keep a window of eight open: one thread reads one chunk of each in turn, which is slow for all.
"""

from __future__ import annotations

import resource
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from benchmarks.link.goodput import Artifact
from benchmarks.link.scene import BLOBS, Scene, subscriber
from contract.topics import blob_topic
from tests.mosquitto import Credentials

WINDOW = 8
SPAN_S = 30.0
MIB = 1 << 20


@dataclass(frozen=True)
class BrokerMemory:
    """Resident bytes of the broker."""

    idle: int
    peak: int
    chunks_read: int


@dataclass(frozen=True)
class HubCost:
    """CPU seconds of the hub's process, from a broker without memory to the last device served."""

    one_s: float
    many_s: float


def broker_memory(scene: Scene, digests: list[str], count: int, seconds: float) -> BrokerMemory:
    """Before and while `count` subscribers read slowly for so long."""
    _allow_files(count + 200)
    scene.lose_memory()
    broker = scene.broker()
    idle = broker.memory_info().rss
    peak, stop = [idle], threading.Event()

    def watch() -> None:
        while not stop.wait(0.05):
            peak[0] = max(peak[0], broker.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        read = _read_slowly(scene, digests, count, seconds)
    finally:
        stop.set()
        watcher.join()
    return BrokerMemory(idle, peak[0], read)


def hub_cost(scene: Scene, artifact: Artifact, count: int) -> HubCost:
    """The broker forgets, the hub fills it, devices read everything: for one, then for many.

    Both take `SPAN_S`, since an idle hub uses a little too.
    """
    everyone = [scene.credentials(f"sim-{n}") for n in range(count)]
    costs = []
    for devices in (everyone[:1], everyone):
        before, end = scene.hub_cpu_s(), time.monotonic() + SPAN_S
        scene.lose_memory()
        commands = [subscriber(scene, who, BLOBS, artifact.messages) for who in devices]
        readers = [subprocess.Popen(c, stdout=subprocess.DEVNULL) for c in commands]
        assert all(reader.wait(150) == 0 for reader in readers)
        time.sleep(max(0.0, end - time.monotonic()))
        costs.append(scene.hub_cpu_s() - before)
    return HubCost(*costs)


def _read_slowly(scene: Scene, digests: list[str], count: int, seconds: float) -> int:
    names = [f"slow-{n}" for n in range(count)]
    with ExitStack() as stack:
        clients = [
            stack.enter_context(_connected(scene, name, scene.credentials(name))) for name in names
        ]
        for number, client in enumerate(clients):
            client.subscribe(digests, number * WINDOW)
        deadline = time.monotonic() + seconds
        read = 0
        while time.monotonic() < deadline:
            for client in clients:
                read += client.read_one()
                if client.taken % WINDOW == 0:
                    client.subscribe(digests, client.taken + read)
        return read


class SlowClient:
    """One subscriber over an open TLS socket."""

    def __init__(self, opened: ssl.SSLSocket, name: str) -> None:
        self._file = opened.makefile("rb", buffering=1 << 16)
        self._socket = opened
        self._packet = 0
        self.taken = 0
        identity = name.encode()
        body = b"\x00\x04MQTT\x05\x02" + struct.pack(">H", 600)
        body += b"\x03\x21" + struct.pack(">H", WINDOW)
        body += struct.pack(">H", len(identity)) + identity
        opened.sendall(b"\x10" + _length(len(body)) + body)
        kind, answer = self._read()
        assert kind >> 4 == 2, "no CONNACK"
        assert answer[1] == 0, f"refused: {answer[1]}"

    def subscribe(self, digests: list[str], start: int) -> None:
        """One SUBSCRIBE for the next window of blobs, again from the first after the last."""
        self._packet = self._packet % 60_000 + 1
        body = struct.pack(">HB", self._packet, 0)
        for at in range(start, start + WINDOW):
            topic = blob_topic(digests[at % len(digests)]).encode()
            body += struct.pack(">H", len(topic)) + topic + b"\x01"
        self._socket.sendall(b"\x82" + _length(len(body)) + body)

    def read_one(self) -> int:
        """Take one chunk and acknowledge it; the broker may then send another."""
        while True:
            kind, body = self._read()
            if kind >> 4 == 3:
                start = 2 + int.from_bytes(body[:2], "big")
                self._socket.sendall(b"\x40\x02" + body[start : start + 2])
                self.taken += 1
                return 1

    def _read(self) -> tuple[int, bytes]:
        kind = self._file.read(1)[0]
        length, shift = 0, 0
        while True:
            byte = self._file.read(1)[0]
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return kind, self._file.read(length)


@contextmanager
def _connected(scene: Scene, name: str, who: Credentials) -> Iterator[SlowClient]:
    with (
        socket.create_connection(("localhost", scene.port), timeout=30) as plain,
        who.context().wrap_socket(plain, server_hostname="localhost") as opened,
    ):
        yield SlowClient(opened, name)


def _length(number: int) -> bytes:
    found = bytearray()
    while True:
        number, byte = number >> 7, number & 127
        found.append(byte | (128 if number else 0))
        if not number:
            return bytes(found)


def _allow_files(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard), hard))
