"""MQTT 5.0 packets as a device receives them: where each ends, what it may be, what it carries.

Pure: bytes in, values out, whatever stands in the buffer (OASIS MQTT 5.0, sections 2.1 and 3.3).
A message of QoS 0 is read here; answers to SUBSCRIBE and UNSUBSCRIBE say nothing that the link acts
on, and end here; every other packet is passed on whole. Refuses, by its first bytes and before any
room is made for it, what no broker may send to this device: a packet that is too long, of QoS 2,
of an unknown kind, or with other flags than the standard's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from agent.errors import TransportFailed

MAX_CONTROL_BYTES = 16_384
"""For every packet that is no PUBLISH; the longest is a refusal with its reason in words."""
_SUBACK, _UNSUBACK = 0x90, 0xB0
_CONTROL = frozenset({0x20, 0x40, _SUBACK, _UNSUBACK, 0xD0, 0xE0})
"""CONNACK, PUBACK, SUBACK, UNSUBACK, PINGRESP, DISCONNECT: all with flags of 0."""
_QOS_0 = frozenset({0x30, 0x31})
_QOS_1 = frozenset({0x32, 0x33, 0x3A, 0x3B})
_MAX_LENGTH_BYTES = 4


class MalformedPacket(TransportFailed):
    """The broker sent what is no packet of MQTT 5.0, or none that it may send to a device."""


class Message(NamedTuple):
    """What a PUBLISH carries."""

    topic: str
    payload: bytes


@dataclass
class Scanned:
    """What stands in a buffer. `end` is where the first packet begins that is not whole."""

    end: int
    messages: list[Message] = field(default_factory=list)
    others: list[bytes] = field(default_factory=list)
    """Whole packets that are passed on."""
    needed: int = 0
    """Bytes of the packet at `end`, its header counted; 0 while its length is not here either."""


def scan(buffer: bytearray, start: int, stop: int, longest: int) -> Scanned:
    """Every whole packet in `buffer[start:stop]`; `start` has to be the beginning of one.

    `longest` is the most that a PUBLISH may announce. Raises `MalformedPacket`.
    """
    found = Scanned(start)
    while stop - found.end >= 2:
        at, kind = found.end, buffer[found.end]
        limit = _limit(kind, longest)
        body, length = _variable_length(buffer, at + 1, stop)
        if length > limit:
            raise MalformedPacket(f"a packet 0x{kind:02x} of {length} bytes; at most {limit}")
        if not body:
            return found
        end = body + length
        if end > stop:
            found.needed = end - at
            return found
        _sort(found, buffer, kind, body, end)
        found.end = end
    return found


def _sort(found: Scanned, buffer: bytearray, kind: int, body: int, end: int) -> None:
    if kind in _QOS_0:
        topic, at = _topic_and_payload(buffer, body, end, identified=False)
        found.messages.append(Message(topic, bytes(memoryview(buffer)[at:end])))
    elif kind in _QOS_1:
        _topic_and_payload(buffer, body, end, identified=True)
        found.others.append(bytes(memoryview(buffer)[found.end : end]))
    elif kind not in (_SUBACK, _UNSUBACK):
        found.others.append(bytes(memoryview(buffer)[found.end : end]))


def _limit(kind: int, longest: int) -> int:
    if kind in _QOS_0 or kind in _QOS_1:
        return longest
    if kind in _CONTROL:
        return MAX_CONTROL_BYTES
    raise MalformedPacket(f"a packet begins with 0x{kind:02x}, which no broker may send")


def _variable_length(buffer: bytearray, at: int, stop: int) -> tuple[int, int]:
    """(offset behind it, the number) of a variable byte integer; (0, 0) while it is not whole."""
    number = shift = 0
    for place in range(at, min(at + _MAX_LENGTH_BYTES, stop)):
        byte = buffer[place]
        number |= (byte & 127) << shift
        if byte < 128:
            return place + 1, number
        shift += 7
    if stop - at >= _MAX_LENGTH_BYTES:
        raise MalformedPacket("a length of more than four bytes")
    return 0, 0


def _topic_and_payload(buffer: bytearray, body: int, end: int, identified: bool) -> tuple[str, int]:
    """The topic, and where the payload begins; properties are skipped.

    Topic aliases are refused with every other empty topic: the device has not allowed any.
    """
    if end - body < 2:
        raise MalformedPacket("a PUBLISH without a topic")
    at = body + 2 + (buffer[body] << 8 | buffer[body + 1])
    if not body + 2 < at < end:
        raise MalformedPacket("a PUBLISH whose topic is empty or too long")
    try:
        topic = buffer[body + 2 : at].decode()
    except UnicodeDecodeError as error:
        raise MalformedPacket("a PUBLISH whose topic is not UTF-8") from error
    if identified:
        at += 2
    after, length = _variable_length(buffer, at, end)
    if not after or after + length > end:
        raise MalformedPacket(f"a PUBLISH on {topic[:80]!r} ends before its payload")
    return topic, after + length
