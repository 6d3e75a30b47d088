"""The bytes of a connection over real TLS: to messages, to paho, and within bounds."""

from __future__ import annotations

import select
import socket
import ssl
import threading
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.link.packets import MalformedPacket, Message
from agent.link.stream import READ_BYTES, PacketReader, PacketSocket
from tests.agent.link.packets import CONNACK, PUBACK, SUBACK, publish
from tests.mosquitto import Authority, Credentials

LONGEST = 4 * READ_BYTES


@pytest.fixture
def ends(authority: Authority, device: Credentials) -> Iterator[tuple[PacketSocket, ssl.SSLSocket]]:
    """The device's end and the broker's, non-blocking as paho makes it."""
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server = authority.server("stream")
    served.load_cert_chain(str(server.certificate), str(server.key))
    context = device.context()
    context.sslsocket_class = PacketSocket
    here, there = socket.socketpair()
    made: list[ssl.SSLSocket] = []
    thread = threading.Thread(target=lambda: made.append(served.wrap_socket(there, True)))
    thread.start()
    opened = context.wrap_socket(here, server_hostname="localhost")
    assert isinstance(opened, PacketSocket)
    thread.join(10)
    opened.setblocking(False)
    with opened, made[0]:
        yield opened, made[0]


def read_all(reader: PacketReader, opened: PacketSocket, count: int) -> list[Message]:
    """Until so many messages came, or the connection's end."""
    found: list[Message] = []
    while len(found) < count and opened._ended is None:
        select.select([opened], [], [], 5.0)
        found += reader.read(opened)
    return found


def test_messages_are_taken_out_and_paho_reads_the_rest(
    ends: tuple[PacketSocket, ssl.SSLSocket],
) -> None:
    device, broker = ends
    broker.sendall(CONNACK + publish("t", b"1") + SUBACK + PUBACK)
    reader = PacketReader(LONGEST)
    assert read_all(reader, device, 1) == [Message("t", b"1")]
    assert reader.received == len(CONNACK + publish("t", b"1") + SUBACK + PUBACK)
    assert device.has_more()
    assert device.recv(1) + device.recv(100) == CONNACK + PUBACK
    assert not device.has_more()
    with pytest.raises(ssl.SSLWantReadError):
        device.recv(1)


def test_a_packet_that_is_larger_than_the_buffer_comes_whole_and_its_room_is_given_back(
    ends: tuple[PacketSocket, ssl.SSLSocket],
) -> None:
    device, broker = ends
    payloads = [b"small", b"L" * (3 * READ_BYTES), b"s" * 1000, b"M" * (READ_BYTES - 1)]
    sent = b"".join(publish(f"t/{at}", payload) for at, payload in enumerate(payloads))
    thread = threading.Thread(target=broker.sendall, args=[sent])
    thread.start()
    reader = PacketReader(LONGEST)
    assert [m.payload for m in read_all(reader, device, len(payloads))] == payloads
    thread.join(10)
    assert len(reader._buffer) <= 3 * READ_BYTES + 100
    broker.sendall(publish("t", b"after"))
    assert read_all(reader, device, 1) == [Message("t", b"after")]
    assert len(reader._buffer) == READ_BYTES


def test_a_packet_of_256_mib_costs_no_memory(ends: tuple[PacketSocket, ssl.SSLSocket]) -> None:
    device, broker = ends
    broker.sendall(b"\x30\xff\xff\xff\x7f" + b"x" * 1000)
    reader = PacketReader(LONGEST)
    with pytest.raises(MalformedPacket, match="at most"):
        read_all(reader, device, 1)
    assert len(reader._buffer) == READ_BYTES


def test_the_end_of_a_connection_is_found_by_paho_after_what_came_before(
    ends: tuple[PacketSocket, ssl.SSLSocket],
) -> None:
    device, broker = ends
    broker.sendall(PUBACK)
    broker.close()
    read_all(PacketReader(LONGEST), device, 1)
    assert device.recv(100) == PUBACK
    assert device.has_more()
    with pytest.raises(ConnectionResetError):
        device.recv(1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(min_size=1, max_size=3000))
def test_no_bytes_raise_anything_but_malformed(
    ends: tuple[PacketSocket, ssl.SSLSocket], data: bytes
) -> None:
    device, broker = ends
    reader = PacketReader(LONGEST)
    broker.sendall(data)
    left = len(data)
    while left > 0:
        select.select([device], [], [], 5.0)
        before = reader._stop
        try:
            reader.read(device)
        except MalformedPacket:
            left = 0
        left -= READ_BYTES if reader._stop != before else 1
    drain(device)


def drain(device: PacketSocket) -> None:
    """What a refused stream left behind."""
    try:
        while device.read(4096):
            pass
    except ssl.SSLWantReadError:
        device._passed_on.clear()
