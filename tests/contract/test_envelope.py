"""DSSE envelopes: only a trusted key's signature over these very bytes opens one."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given
from hypothesis import strategies as st

from contract import messages as m
from contract.envelope import (
    PrivateKey,
    PublicKey,
    key_id,
    open_sealed,
    peek,
    pre_authentication_encoding,
    seal,
)
from contract.errors import (
    BadSignature,
    ContractError,
    MalformedMessage,
    MessageTooLong,
    UnknownKind,
)
from tests.contract.examples_v1 import MESSAGES

HUB = ed25519.Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
STRANGER = ed25519.Ed25519PrivateKey.from_private_bytes(b"\x02" * 32)
DEVICE = ec.generate_private_key(ec.SECP256R1())
ASSIGNMENT = MESSAGES["assignment"]
KINDS = (m.Assignment,)


def keys(*private: PrivateKey) -> dict[str, PublicKey]:
    return {key_id(key.public_key()): key.public_key() for key in private}


def altered(sealed: bytes, **fields: Any) -> bytes:
    return json.dumps(json.loads(sealed) | fields).encode()


@pytest.mark.parametrize("key", [HUB, DEVICE], ids=["ed25519", "ecdsa-p256"])
def test_what_was_sealed_opens_with_its_key(key: PrivateKey) -> None:
    assert open_sealed(KINDS, seal(ASSIGNMENT, key), keys(key)) == ASSIGNMENT


def test_ed25519_envelopes_have_golden_bytes() -> None:
    sealed = json.loads(seal(MESSAGES["command"], HUB))
    assert sealed["payloadType"] == "application/vnd.outrider.command+json"
    assert sealed["signatures"][0]["keyid"] == key_id(HUB.public_key())
    assert seal(MESSAGES["command"], HUB) == seal(MESSAGES["command"], HUB)


def test_the_pre_authentication_encoding_is_that_of_the_protocols_own_example() -> None:
    encoded = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world")
    assert encoded == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_a_strangers_signature_opens_nothing() -> None:
    with pytest.raises(BadSignature):
        open_sealed(KINDS, seal(ASSIGNMENT, STRANGER), keys(HUB))


def test_a_strangers_signature_under_a_trusted_key_id_opens_nothing() -> None:
    trusted = {key_id(STRANGER.public_key()): HUB.public_key()}
    with pytest.raises(BadSignature):
        open_sealed(KINDS, seal(ASSIGNMENT, STRANGER), trusted)


def test_a_changed_payload_opens_nothing() -> None:
    sealed = seal(ASSIGNMENT, HUB)
    payload = base64.b64decode(json.loads(sealed)["payload"]).replace(b'"seq":7', b'"seq":9')
    with pytest.raises(BadSignature):
        open_sealed(KINDS, altered(sealed, payload=base64.b64encode(payload).decode()), keys(HUB))


def test_a_signature_for_one_type_does_not_serve_for_another() -> None:
    sealed = altered(seal(ASSIGNMENT, HUB), payloadType="application/vnd.outrider.command+json")
    with pytest.raises(BadSignature):
        open_sealed((m.Assignment, m.Command), sealed, keys(HUB))


def test_a_signed_message_of_another_kind_is_refused_on_this_channel() -> None:
    with pytest.raises(UnknownKind):
        open_sealed(KINDS, seal(MESSAGES["command"], HUB), keys(HUB))


def test_one_good_signature_among_strangers_is_enough() -> None:
    good, bad = json.loads(seal(ASSIGNMENT, HUB)), json.loads(seal(ASSIGNMENT, STRANGER))
    both = altered(seal(ASSIGNMENT, HUB), signatures=bad["signatures"] + good["signatures"])
    assert open_sealed(KINDS, both, keys(HUB)) == ASSIGNMENT


def test_no_trusted_keys_open_nothing() -> None:
    with pytest.raises(BadSignature):
        open_sealed(KINDS, seal(ASSIGNMENT, HUB), {})


@pytest.mark.parametrize("payload", ["%%%", "AAA", 5, None])
def test_a_payload_that_is_not_base64_is_malformed(payload: object) -> None:
    with pytest.raises(MalformedMessage):
        open_sealed(KINDS, altered(seal(ASSIGNMENT, HUB), payload=payload), keys(HUB))


def test_an_envelope_without_or_with_too_many_signatures_is_malformed() -> None:
    sealed = json.loads(seal(ASSIGNMENT, HUB))
    none: list[object] = []
    for signatures in (none, sealed["signatures"] * 5):
        with pytest.raises(MalformedMessage):
            open_sealed(KINDS, altered(seal(ASSIGNMENT, HUB), signatures=signatures), keys(HUB))


def test_an_endless_envelope_is_not_parsed() -> None:
    with pytest.raises(MessageTooLong):
        open_sealed(KINDS, b" " * 200_000, keys(HUB))


def test_peek_reads_without_trust_and_says_so_by_needing_no_keys() -> None:
    assert peek(KINDS, seal(ASSIGNMENT, STRANGER)) == ASSIGNMENT


@given(st.binary(max_size=400))
def test_arbitrary_bytes_raise_nothing_but_contract_errors(data: bytes) -> None:
    with pytest.raises(ContractError):
        open_sealed(KINDS, data, keys(HUB))


@given(st.integers(min_value=0), st.integers(0, 255))
def test_no_changed_byte_opens_as_another_message(position: int, byte: int) -> None:
    sealed = bytearray(seal(ASSIGNMENT, HUB))
    sealed[position % len(sealed)] = byte
    try:
        assert open_sealed(KINDS, bytes(sealed), keys(HUB)) == ASSIGNMENT
    except ContractError:
        return
