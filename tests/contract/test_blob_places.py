"""Where blobs stand in an object, and its address: bounded, and never repeated in an error."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.blob_places import (
    MAX_ADDRESS_CHARS,
    MAX_OBJECT_BYTES,
    MAX_PLACES_BYTES,
    BlobPlaces,
    Location,
    read_address,
    read_places,
)
from contract.blob_request import MAX_DIGESTS, MAX_PAYLOAD_BYTES
from contract.errors import ContractError, MalformedMessage, MessageTooLong

ADDRESS = "https://s3.example.org/models/a.pack?X-Amz-Signature=5ec3e7"
GOLDEN = (
    b'{"schema":1,"address":"https://s3.example.org/models/a.pack?X-Amz-Signature=5ec3e7",'
    b'"places":[[0,100],[0,0],[100,7]]}'
)


def test_the_wire_form_of_version_1() -> None:
    places = BlobPlaces(address=ADDRESS, places=[(0, 100), (0, 0), (100, 7)])
    assert msgspec.json.encode(places) == GOLDEN
    assert read_places(GOLDEN, 3) == places


def test_the_largest_answer_fits() -> None:
    address = "https://s3/" + "a" * (MAX_ADDRESS_CHARS - 11)
    last = (MAX_OBJECT_BYTES, MAX_PAYLOAD_BYTES)
    places = BlobPlaces(address=address, places=[last] * MAX_DIGESTS)
    assert read_places(msgspec.json.encode(places), MAX_DIGESTS) == places


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("places", [[0, MAX_PAYLOAD_BYTES + 1]]),
        ("places", [[MAX_OBJECT_BYTES + 1, 1]]),
        ("places", [[-1, 1]]),
        ("places", []),
        ("places", [[0, 1], [1, 1]]),
        ("schema", 2),
        ("address", "ftp://s3/a"),
        ("address", "https://s3/a b"),
        ("address", "https://s3/" + "a" * MAX_ADDRESS_CHARS),
    ],
)
def test_what_is_out_of_bounds_is_refused(field: str, value: object) -> None:
    good = {"schema": 1, "address": ADDRESS, "places": [[0, 1]]}
    read_places(msgspec.json.encode(good), 1)
    with pytest.raises(MalformedMessage):
        read_places(msgspec.json.encode(good | {field: value}), 1)


def test_a_long_answer_is_not_parsed() -> None:
    with pytest.raises(MessageTooLong):
        read_places(b"[" * (MAX_PLACES_BYTES + 1), 1)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_raise_nothing_but_contract_errors(data: bytes) -> None:
    with pytest.raises(ContractError):
        read_places(data, 1)


def test_an_address_is_taken_apart() -> None:
    assert read_address(ADDRESS) == Location(
        True, "s3.example.org", 443, "/models/a.pack?X-Amz-Signature=5ec3e7"
    )
    assert read_address("http://[::1]:9000?x=1") == Location(False, "::1", 9000, "/?x=1")


@pytest.mark.parametrize(
    "address",
    [
        "",
        "file:///etc/passwd",
        "https://",
        "https:///path",
        "https://user:secret@s3/a",
        "https://s3:99999/a",
        "https://s3/a\r\nHost: other",
        "https://[::1/a",
        "//s3/a",
    ],
)
def test_what_is_no_address_is_refused_without_repeating_it(address: str) -> None:
    with pytest.raises(MalformedMessage) as refused:
        read_address(address)
    assert "secret" not in str(refused.value)


@given(st.text(max_size=200).map("https://".__add__))
def test_arbitrary_addresses_raise_nothing_else(address: str) -> None:
    with contextlib.suppress(MalformedMessage):
        assert read_address(address).host
