"""MQTT 5.0 packets as a broker writes them, for tests: the other side of `agent.link.packets`."""

from __future__ import annotations


def number(value: int) -> bytes:
    """A variable byte integer."""
    found = bytearray()
    while True:
        value, byte = value >> 7, value & 127
        found.append(byte | (128 if value else 0))
        if not value:
            return bytes(found)


def packet(kind: int, body: bytes) -> bytes:
    """A packet of this kind and flags."""
    return bytes([kind]) + number(len(body)) + body


def publish(
    topic: str | bytes,
    payload: bytes,
    kind: int = 0x30,
    properties: bytes = b"",
    identifier: int = 7,
) -> bytes:
    """A PUBLISH; above QoS 0 with its identifier."""
    name = topic.encode() if isinstance(topic, str) else topic
    body = len(name).to_bytes(2, "big") + name
    if kind & 6:
        body += identifier.to_bytes(2, "big")
    return packet(kind, body + number(len(properties)) + properties + payload)


CONNACK = packet(0x20, b"\x00\x00\x00")
SUBACK = packet(0x90, b"\x00\x01\x00\x00")
UNSUBACK = packet(0xB0, b"\x00\x01\x00\x00")
PUBACK = packet(0x40, b"\x00\x01")
PINGRESP = packet(0xD0, b"")
