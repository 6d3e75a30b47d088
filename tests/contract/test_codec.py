"""Messages: golden bytes, bounds, versions, and that only the contract's errors come out."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract import codec
from contract import messages as m
from contract.deployments import Phase
from contract.errors import (
    ContractError,
    MalformedMessage,
    MessageTooLong,
    UnknownKind,
    UnsupportedVersion,
)
from contract.topics import Channel
from tests.contract.examples_v1 import BOOT, MESSAGES, STAMP, golden_bytes

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_version_1_still_encodes_to_its_golden_bytes(name: str) -> None:
    assert codec.encode(MESSAGES[name]) == golden_bytes(name)


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_version_1_golden_bytes_still_decode_to_the_same_message(name: str) -> None:
    message = MESSAGES[name]
    assert codec.decode(type(message), golden_bytes(name)) == message


def test_every_kind_has_a_limit_a_channel_and_an_example() -> None:
    kinds = {kind for kinds in codec.CHANNEL_KINDS.values() for kind in kinds}
    assert kinds == set(codec.MAX_BYTES) == {type(message) for message in MESSAGES.values()}


def test_unknown_fields_are_ignored_so_that_a_newer_peer_is_understood() -> None:
    data = json.loads(golden_bytes("death"))
    data["added_in_a_later_release"] = {"x": [1]}
    assert codec.decode(m.Death, json.dumps(data).encode()) == MESSAGES["death"]


def test_another_kind_on_a_channel_is_refused_by_name() -> None:
    with pytest.raises(UnknownKind, match="birth"):
        codec.decode_on(Channel.STATE, golden_bytes("birth"))


def test_two_kinds_may_share_a_channel() -> None:
    assert codec.decode_on(Channel.EVENT, golden_bytes("reply")) == MESSAGES["reply"]
    assert codec.decode_on(Channel.EVENT, golden_bytes("event")) == MESSAGES["event"]


@pytest.mark.parametrize("version", [0, 2, 99])
def test_another_version_is_refused_even_when_its_fields_fit(version: int) -> None:
    data = golden_bytes("death").replace(b'"v":1', b'"v":%d' % version)
    with pytest.raises(UnsupportedVersion, match=str(version)):
        codec.decode(m.Death, data)


def test_a_payload_above_its_kinds_limit_is_not_parsed() -> None:
    with pytest.raises(MessageTooLong, match="at most 512"):
        codec.decode(m.Death, b" " * 513)


def test_the_limit_is_that_of_the_kind_not_of_the_channels_longest() -> None:
    padded = golden_bytes("death") + b" " * 600
    with pytest.raises(MessageTooLong, match="death"):
        codec.decode_on(Channel.PRESENCE, padded)


def test_a_message_that_the_peer_would_refuse_is_not_encoded() -> None:
    reply = m.Reply(
        device="cam-1",
        seq=1,
        stamp=STAMP,
        command="c",
        ok=True,
        detail="é" * 3000,
    )
    with pytest.raises(MessageTooLong, match="reply"):
        codec.encode(reply)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("device", "Cam 1"),
        ("device", "cam-1\n"),
        ("device", "a" * 64),
        ("session", "xyz"),
        ("session", BOOT.upper()),
        ("device", None),
    ],
)
def test_a_field_out_of_its_bounds_is_malformed_and_named(field: str, value: object) -> None:
    data = json.loads(golden_bytes("death")) | {field: value}
    with pytest.raises(MalformedMessage, match=field):
        codec.decode(m.Death, json.dumps(data).encode())


def test_a_version_of_many_digits_is_unsupported_in_few_words() -> None:
    data = b'{"kind":"tuf-index","v":%b}' % (b"9" * 4000)
    with pytest.raises(UnsupportedVersion) as caught:
        codec.decode(m.TufIndex, data)
    assert len(str(caught.value)) < 100


def test_negative_counts_are_refused() -> None:
    data = golden_bytes("report").replace(b'"inferences":120', b'"inferences":-1')
    with pytest.raises(MalformedMessage, match="inferences"):
        codec.decode(m.Report, data)


def test_more_families_than_a_device_may_have_are_refused() -> None:
    data = json.loads(golden_bytes("assignment"))
    data["families"] = {f"f{i}": data["families"]["digits"] for i in range(33)}
    with pytest.raises(MalformedMessage):
        codec.decode(m.Assignment, json.dumps(data).encode())


def test_a_deeply_nested_document_is_malformed_and_not_a_crash() -> None:
    bomb = b'{"kind":"death","v":1,"x":' + b"[" * 200 + b"]" * 200 + b"}"
    assert len(bomb) <= 512
    with pytest.raises(ContractError):
        codec.decode(m.Death, bomb + b"}")
    with pytest.raises(ContractError):
        codec.decode(m.TufIndex, b"[" * 500_000)


@given(st.binary(max_size=600))
def test_arbitrary_bytes_raise_nothing_but_contract_errors(data: bytes) -> None:
    for channel in codec.CHANNEL_KINDS:
        with pytest.raises(ContractError):
            codec.decode_on(channel, data)


@given(st.sampled_from(sorted(MESSAGES)), st.text(max_size=12), JSON)
def test_arbitrary_fields_raise_nothing_but_contract_errors(
    name: str, field: str, value: object
) -> None:
    data = json.loads(golden_bytes(name))
    for key in (field, *data):
        try:
            codec.decode(type(MESSAGES[name]), json.dumps(data | {key: value}).encode())
        except ContractError:
            continue


@given(st.sampled_from(sorted(MESSAGES)), st.integers(min_value=0), st.integers(0, 255))
def test_one_changed_byte_raises_nothing_but_contract_errors(
    name: str, position: int, byte: int
) -> None:
    data = bytearray(golden_bytes(name))
    data[position % len(data)] = byte
    try:
        codec.decode(type(MESSAGES[name]), bytes(data))
    except ContractError:
        return


def test_a_budget_and_what_is_waited_for_are_absent_unless_there_is_one() -> None:
    """So peers of before these fields get the very bytes that they know."""
    wanted = m.FamilyAssignment(target="digits/2", digest="a" * 64, rollout="r1")
    assert b"metered" not in msgspec.json.encode(wanted)
    assert b"waits" not in msgspec.json.encode(m.FamilyState(phase=Phase.IDLE))


def test_an_agent_of_before_budgets_reads_an_assignment_that_has_one() -> None:
    class OldFamilyAssignment(msgspec.Struct):
        target: str
        digest: str
        rollout: str

    wanted = m.FamilyAssignment(
        target="digits/2", digest="a" * 64, rollout="r1", metered_bytes=20_000_000
    )
    data = msgspec.json.encode(wanted)
    assert msgspec.json.decode(data, type=OldFamilyAssignment).target == "digits/2"
    assert msgspec.json.decode(data, type=m.FamilyAssignment) == wanted


@pytest.mark.parametrize("most", [b"0", b"-1", b"1.5", b"2000000000000", b'"20MB"', b"null"])
def test_a_budget_that_is_none_is_malformed(most: bytes) -> None:
    good = MESSAGES["assignment"]
    data = codec.encode(good).replace(b'"rollout"', b'"metered_bytes":' + most + b',"rollout"', 1)
    with pytest.raises(MalformedMessage):
        codec.decode(m.Assignment, data)
