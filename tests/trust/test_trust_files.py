"""The files that carry public trust: bounds, codecs, and one voice a key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import ContractError, MalformedTrust
from contract.trust import (
    MAX_ROOT_BYTES,
    HubPublicKeys,
    check_role_keys,
    decode_hub_public_keys,
    decode_trust,
    encode_hub_public_keys,
    encode_trust,
    metadata_name,
    parse_metadata_name,
)

KEYS = HubPublicKeys(snapshot="a" * 64, timestamp="b" * 64, assignment="c" * 64)
ED = ("ed25519", "ed25519")


def test_trust_comes_back_as_it_went() -> None:
    files = {"1.root.json": b"{}", "2.digits.json": b"\xff"}

    assert decode_trust(encode_trust(files)) == files


def test_hub_keys_come_back_as_they_went() -> None:
    assert decode_hub_public_keys(encode_hub_public_keys(KEYS)) == KEYS


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_input_raises_anything_but_the_contract_s_errors(data: bytes) -> None:
    for decode in (decode_trust, decode_hub_public_keys):
        with pytest.raises(ContractError):
            decode(data)


@pytest.mark.parametrize(
    "files",
    [
        {"root.json": b""},
        {"../1.root.json": b""},
        {"0.root.json": b""},
        {"1.Root.json": b""},
        {"1.root.json": b"x" * (MAX_ROOT_BYTES + 1)},
        {},
    ],
)
def test_a_trust_file_with_odd_members_is_refused(files: dict[str, bytes]) -> None:
    with pytest.raises(MalformedTrust):
        decode_trust(encode_trust(files))


def test_one_online_key_in_two_roles_is_refused() -> None:
    keys = HubPublicKeys(snapshot="a" * 64, timestamp="a" * 64, assignment="c" * 64)

    with pytest.raises(MalformedTrust, match="two roles"):
        decode_hub_public_keys(encode_hub_public_keys(keys))


def test_names_of_metadata_files() -> None:
    assert metadata_name("digits", 2) == "2.digits.json"
    assert metadata_name("timestamp", 9) == "timestamp.json"
    assert parse_metadata_name("2.digits.json") == ("digits", 2)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ([(*ED, "a" * 64), (*ED, "A" * 64)], "same key"),
        ([(*ED, "a" * 64), (*ED, " ".join(["aa"] * 32))], "same key"),
        ([("rsa", "rsassa-pss-sha256", "x"), (*ED, "a" * 64)], "not Ed25519"),
        ([(*ED, "a" * 62), (*ED, "b" * 64)], "32 bytes"),
        ([(*ED, None), (*ED, "b" * 64)], "32 bytes"),
        ([(*ED, "a" * 64)], "threshold"),
        ([], "threshold"),
    ],
)
def test_keys_that_would_count_twice_or_not_at_all_are_refused(
    keys: list[tuple[str, str, object]], words: str
) -> None:
    with pytest.raises(MalformedTrust, match=words):
        check_role_keys("root", 2, keys)
