"""A thousand subscribers on slow links, and what they cost the broker; and the hub's share.

The subscribers speak just enough MQTT 5.0 (OASIS, sections 3.1, 3.3, 3.8, 3.10) over mutual TLS to
ask for blobs as a device does, by its own plan and window, and read no faster than `LINK_BYTES_S`.
"""

from __future__ import annotations

import heapq
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

from agent.link.connection import MAX_TOPICS_PER_SUBSCRIBE
from agent.link.fetch_plan import FetchPlan, Patience, Step
from agent.link.packets import scan
from agent.ports import BlobRef
from benchmarks.link.goodput import Artifact
from benchmarks.link.scene import BLOBS, Scene, subscriber
from contract.topics import blob_topic, parse_topic
from tests.agent.link.packets import packet
from tests.mosquitto import Credentials

LINK_BYTES_S = 62_500
"""500 kbit/s: what LTE-M gives a device, and half a gigabit for the hub of a thousand. One process
can keep a thousand at this pace; at twice and at half of it the broker needs no more."""
SEGMENT_BYTES = 1_400
BUFFER_BYTES = 16_384
"""What a subscriber's kernel may take in advance; a real link would leave as little."""
SPAN_S = 30.0
MIB = 1 << 20


@dataclass(frozen=True)
class BrokerMemory:
    """Resident bytes of the broker."""

    idle: int
    connected: int
    """With every subscriber connected, before any has asked for anything."""
    peak: int
    bytes_read: int


@dataclass(frozen=True)
class HubCost:
    """CPU seconds of the hub's process, from a broker without memory to the last device served."""

    one_s: float
    many_s: float


def broker_memory(scene: Scene, blobs: list[BlobRef], count: int, seconds: float) -> BrokerMemory:
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
    with _crowd(scene, count) as clients:
        connected = broker.memory_info().rss
        watcher.start()
        try:
            read = _read_slowly(clients, blobs, seconds)
        finally:
            stop.set()
            watcher.join()
    return BrokerMemory(idle, connected, peak[0], read)


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


def _read_slowly(clients: list[SlowClient], blobs: list[BlobRef], seconds: float) -> int:
    """Each at the link's rate, in the order in which the next record is due."""
    began = time.monotonic()
    for number, client in enumerate(clients):
        start = number * 7 % len(blobs)
        client.want([*blobs[start:], *blobs[:start]])
    due = [(began, number) for number in range(len(clients))]
    heapq.heapify(due)
    while (now := time.monotonic()) < began + seconds:
        at, number = due[0]
        if at > now:
            time.sleep(at - now)
        taken = clients[number].read()
        again = max(at, now - 1.0) + (taken / LINK_BYTES_S if taken else 0.02)
        heapq.heapreplace(due, (again, number))
    return sum(client.taken for client in clients)


class SlowClient:
    """One subscriber over an open TLS socket; asks what a device would ask, when it would."""

    def __init__(self, opened: ssl.SSLSocket, name: str) -> None:
        self._socket = opened
        self._buffer = bytearray()
        self._packets = 0
        self._finished: list[str] = []
        self._plan = FetchPlan.of([], Patience(), 0.0)
        self.taken = 0
        """Bytes off the socket."""
        identity = name.encode()
        body = b"\x00\x04MQTT\x05\x02" + struct.pack(">HB", 600, 0)
        opened.sendall(packet(0x10, body + struct.pack(">H", len(identity)) + identity))
        answer = opened.recv(100)
        assert answer[0] == 0x20, "no CONNACK"
        assert answer[3] == 0, f"refused: {answer[3]}"
        opened.setblocking(False)

    def want(self, blobs: list[BlobRef]) -> None:
        """Begin to fetch these."""
        now = time.monotonic()
        self._plan = FetchPlan.of(blobs, Patience(), now)
        self._ask(self._plan.fill(now))

    def read(self) -> int:
        """One record of TLS, when there is any; returns its length."""
        try:
            data = self._socket.recv(1 << 14)
        except ssl.SSLWantReadError:
            return 0
        assert data, "the broker closed the connection"
        self._buffer += data
        self.taken += len(data)
        found = scan(self._buffer, 0, len(self._buffer), 1 << 20)
        del self._buffer[: found.end]
        now = time.monotonic()
        for message in found.messages:
            self._plan.arrived(parse_topic(message.topic).name, len(message.payload), now)
            self._finished.append(message.topic)
            self._ask(self._plan.fill(now))
        return len(data)

    def _ask(self, step: Step) -> None:
        said = b""
        if step.subscribe:
            said += self._topics(0x82, [blob_topic(ref.digest) for ref in step.subscribe], b"\0")
        if len(self._finished) >= MAX_TOPICS_PER_SUBSCRIBE:
            said += self._topics(0xA2, self._finished, b"")
            self._finished = []
        if said:
            self._socket.sendall(said)

    def _topics(self, kind: int, topics: list[str], options: bytes) -> bytes:
        self._packets = self._packets % 60_000 + 1
        body = struct.pack(">HB", self._packets, 0)
        for topic in topics:
            body += struct.pack(">H", len(topic)) + topic.encode() + options
        return packet(kind, body)


@contextmanager
def _crowd(scene: Scene, count: int) -> Iterator[list[SlowClient]]:
    with ExitStack() as stack:
        names = [f"slow-{n}" for n in range(count)]
        yield [
            stack.enter_context(_connected(scene, name, scene.credentials(name))) for name in names
        ]


@contextmanager
def _connected(scene: Scene, name: str, who: Credentials) -> Iterator[SlowClient]:
    with socket.socket() as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT_BYTES)
        plain.settimeout(30)
        plain.connect(("localhost", scene.port))
        with who.context().wrap_socket(plain, server_hostname="localhost") as opened:
            yield SlowClient(opened, name)


def _allow_files(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard), hard))
