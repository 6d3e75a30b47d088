"""The reader of MQTT packets: whole packets whatever the cuts, and nothing but its own error."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.link.packets import MAX_CONTROL_BYTES, MalformedPacket, Message, Scanned, scan
from tests.agent.link.packets import (
    CONNACK,
    PINGRESP,
    PUBACK,
    SUBACK,
    UNSUBACK,
    number,
    packet,
    publish,
)

LONGEST = 100_000
TOPICS = st.text(min_size=1, max_size=20).filter(lambda text: text.isprintable())
MESSAGES = st.builds(
    lambda topic, payload, retain, properties: publish(
        topic, payload, 0x31 if retain else 0x30, properties
    ),
    TOPICS,
    st.binary(max_size=400),
    st.booleans(),
    st.binary(max_size=200),
)
PACKETS = st.one_of(
    MESSAGES,
    st.sampled_from([CONNACK, PINGRESP, PUBACK, SUBACK, UNSUBACK, publish("q", b"1", 0x32)]),
)


def scanned(data: bytes, longest: int = LONGEST) -> Scanned:
    return scan(bytearray(data), 0, len(data), longest)


def test_a_message_is_read_with_its_topic_and_payload() -> None:
    found = scanned(publish("outrider/v1/blob/ä", b"\x00bytes", properties=b"\x01\x01"))
    assert found.messages == [Message("outrider/v1/blob/ä", b"\x00bytes")]
    assert (found.others, found.needed) == ([], 0)


def test_an_empty_payload_is_a_message() -> None:
    assert scanned(publish("t", b"", 0x31)).messages == [Message("t", b"")]


def test_what_is_not_read_here_is_passed_on_whole_and_in_order() -> None:
    with_identifier = publish("t", b"payload", 0x33)
    data = CONNACK + with_identifier + publish("t", b"now") + PUBACK + PINGRESP
    found = scanned(data)
    assert found.others == [CONNACK, with_identifier, PUBACK, PINGRESP]
    assert found.messages == [Message("t", b"now")]


def test_answers_that_nobody_acts_on_end_here() -> None:
    found = scanned(SUBACK + UNSUBACK)
    assert (found.messages, found.others, found.end) == ([], [], len(SUBACK + UNSUBACK))


def test_a_begun_packet_says_how_long_it_will_be() -> None:
    whole, begun = publish("t", b"1"), publish("t", b"x" * 300)
    found = scanned(whole + begun[:50])
    assert (found.end, found.needed) == (len(whole), len(begun))
    assert scanned(begun[:2]).needed == 0, "its length is of two bytes"


def test_scanning_begins_and_ends_where_it_is_told() -> None:
    data = bytearray(b"\xff\xff" + publish("t", b"1") + b"\xff\xff")
    found = scan(data, 2, len(data) - 2, LONGEST)
    assert found.messages == [Message("t", b"1")]


@pytest.mark.parametrize(
    "data",
    [
        b"\x30\xff\xff\xff\x7f",
        b"\x30" + number(LONGEST + 1),
        b"\x20" + number(MAX_CONTROL_BYTES + 1),
        b"\x30\xff\xff\xff\xff\x01",
        b"\x30\x80\x80\x80\x80",
        b"\x00\x00",
        b"\x10\x00",
        b"\xf0\x00",
        b"\x21\x00",
        b"\x34\x05\x00\x01t\x00\x01",
        b"\x36\x05\x00\x01t\x00\x01",
        b"\x38\x04\x00\x01t\x00",
        b"\x50\x02\x00\x01",
        b"\x30\x00",
        b"\x30\x01\x00",
        b"\x30\x05\x00\xff\xff\xff\xff",
        b"\x30\x03\x00\x00\x00",
        b"\x30\x06\x00\x02\xff\xfe\x00\xff",
        b"\x30\x03\x00\x01t",
        b"\x30\x04\x00\x01t\x05",
        b"\x30\x05\x00\x01t\x80\x80",
        b"\x32\x04\x00\x01t\x00",
    ],
    ids=[
        "256-MiB",
        "message-too-long",
        "control-too-long",
        "five-length-bytes",
        "endless-length",
        "kind-0",
        "connect",
        "auth",
        "flags-of-connack",
        "qos-2",
        "qos-3",
        "duplicate-of-qos-0",
        "pubrec",
        "no-body",
        "half-a-topic-length",
        "topic-too-long",
        "topic-empty",
        "topic-not-utf8",
        "no-properties",
        "properties-too-long",
        "properties-endless",
        "identifier-missing",
    ],
)
def test_what_no_broker_may_send_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedPacket):
        scanned(data)


@pytest.mark.parametrize("kind", range(256))
def test_a_length_is_refused_before_any_of_its_bytes_came(kind: int) -> None:
    with pytest.raises(MalformedPacket):
        scanned(bytes([kind]) + b"\xff\xff\xff\x7f")


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_but_malformed(data: bytes) -> None:
    with contextlib.suppress(MalformedPacket):
        found = scanned(data)
        assert 0 <= found.end <= len(data)


@given(st.lists(PACKETS, max_size=6).map(b"".join), st.data())
def test_no_damage_raises_anything_but_malformed(data: bytes, draw: st.DataObject) -> None:
    damaged = bytearray(data or b"\x30")
    at = draw.draw(st.integers(0, len(damaged) - 1))
    damaged[at] = draw.draw(st.integers(0, 255))
    with contextlib.suppress(MalformedPacket):
        scanned(bytes(damaged))


@given(st.lists(PACKETS, max_size=8), st.lists(st.integers(1, 300), max_size=40))
def test_cuts_change_nothing(packets: list[bytes], cuts: list[int]) -> None:
    data = b"".join(packets)
    whole = scanned(data)
    messages, others, start, stop = [], [], 0, 0
    for size in [*cuts, len(data)]:
        stop = min(stop + size, len(data))
        found = scan(bytearray(data), start, stop, LONGEST)
        assert found.needed == 0 or found.end + found.needed > stop
        messages += found.messages
        others += found.others
        start = found.end
    assert start == len(data)
    assert (messages, others) == (whole.messages, whole.others)


def test_the_longest_packet_is_as_long_as_is_allowed() -> None:
    whole = publish("t", b"x" * (LONGEST - 4))
    assert len(scanned(whole).messages) == 1
    with pytest.raises(MalformedPacket, match="at most"):
        scanned(packet(0x30, b"x" * (LONGEST + 1)))
