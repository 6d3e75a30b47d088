"""Whatever stands at any place of a document, nothing but the contract's errors comes out.

The other files of this folder try arbitrary bytes; here each document is a good one in which one
place, however deep, holds something else: that is what gets past the first check.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract import codec
from contract import enrolment as e
from contract.authorities import ca_policy, read_ca_policy
from contract.errors import ContractError, NoVariantFits
from contract.manifest import decode_manifest, encode_manifest
from contract.messages import Hardware
from contract.targets import (
    FamilyPolicy,
    HubKeys,
    ReleaseCustom,
    custom_from_dict,
    encode_custom,
)
from contract.trust import decode_hub_public_keys, decode_trust, encode_trust
from contract.variants import choose_variant
from tests.contract.examples_v1 import MESSAGES, golden_bytes
from tests.contract.test_enrolment import FILE, NONCE, SECRET
from tests.contract.test_manifest import manifest, variant

EDGES = st.sampled_from(
    [-1, 0, 1, 2**31, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**400, 1e308, "", "\x00", "\ud800"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | EDGES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
HARDWARE = Hardware(machine="aarch64", memory_bytes=1 << 30, runtimes={"onnxruntime": "1.23.2"})
ROOT_PEM = b"""\
-----BEGIN CERTIFICATE-----
MIIBGTCBwKADAgECAgEBMAoGCCqGSM49BAMCMAwxCjAIBgNVBAMMAXIwHhcNMjUw
MTAxMDAwMDAwWhcNNDUwMTAxMDAwMDAwWjAMMQowCAYDVQQDDAFyMFkwEwYHKoZI
zj0CAQYIKoZIzj0DAQcDQgAErF1gWGUeYazFQUE+MTr4OWGWIHCBQ8J8ABg23VZb
FUpP3Qme4kZArhHYg+hD3AmuvBEEtie2oG5M1PFQ+eU1maMTMBEwDwYDVR0TAQH/
BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiEApJRQbWr4pUUhvPFiA3bDjO4B5vWT
PQNgeo0OoYjIs94CIEOOHFjK+WVagdVsii8+/bq3gvM4GFFU5Atq0On9OJhm
-----END CERTIFICATE-----
"""
CSR = "-----BEGIN CERTIFICATE REQUEST-----\n"
REQUEST = e.EnrolmentRequest(device="cam-1", csr_pem=CSR, nonce=NONCE, mac="0" * 64)
REPLY = e.EnrolmentReply(device="cam-1", certificate_pem=CSR, mac="0" * 64)


def read_manifest(data: bytes) -> None:
    """As a device does: decode, then choose."""
    try:
        choose_variant(decode_manifest(data), HARDWARE)
    except NoVariantFits:
        return


def read_request(data: bytes) -> None:
    """As the hub does: decode, then compare."""
    found = e.decode_enrolment(e.EnrolmentRequest, data)
    mac = e.request_mac(SECRET, found.device, found.csr_pem, found.nonce)
    e.check_mac(mac, found.mac, "request")


def read_reply(data: bytes) -> None:
    """As a device does."""
    found = e.decode_enrolment(e.EnrolmentReply, data)
    e.check_mac(e.reply_mac(SECRET, found.device, found.certificate_pem, NONCE), found.mac, "reply")


def read_custom(kind: Any) -> Callable[[bytes], None]:
    """As both sides do, with what python-tuf has parsed."""

    def read(data: bytes) -> None:
        found = custom_from_dict(kind, json.loads(data), "digits/1")
        if isinstance(found, HubKeys):
            found.by_id()

    return read


DOCUMENTS: dict[str, tuple[bytes, Callable[[bytes], object]]] = {
    "manifest": (encode_manifest(manifest(variant("a"), variant("b"))), read_manifest),
    "enrolment file": (
        e.encode_enrolment(FILE),
        lambda data: e.decode_enrolment(e.EnrolmentFile, data),
    ),
    "enrolment request": (e.encode_enrolment(REQUEST), read_request),
    "enrolment reply": (e.encode_enrolment(REPLY), read_reply),
    "release custom": (
        b'{"schema":1,"family":"digits","counter":1,"device_classes":["pi"],"min_agent":"0"}',
        read_custom(ReleaseCustom),
    ),
    "hub keys": (b'{"schema":1,"keys":["%b"]}' % (b"0" * 64), read_custom(HubKeys)),
    "roots": (encode_custom(ca_policy([ROOT_PEM])), lambda d: read_ca_policy(json.loads(d))),
    "family policy": (b'{"schema":1,"min_counter":1}', read_custom(FamilyPolicy)),
    "trust": (encode_trust({"1.root.json": b"{}", "2.digits.json": b"x"}), decode_trust),
    "hub public keys": (
        json.dumps(
            {"schema": 1, "hub": "hub", "snapshot": "a" * 64, "timestamp": "b" * 64}
            | {"assignment": "c" * 64}
        ).encode(),
        decode_hub_public_keys,
    ),
    **{
        name: (golden_bytes(name), functools.partial(codec.decode, type(message)))
        for name, message in MESSAGES.items()
    },
}
PARSED = ("roots", "release custom", "hub keys", "family policy")
"""What python-tuf has parsed already when we see it."""


def places(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value, and of one more member of every object."""
    yield path
    if isinstance(document, dict):
        yield (*path, "added")
        for key, value in document.items():
            yield from places(value, (*path, key))
    elif isinstance(document, list):
        for index, value in enumerate(document):
            yield from places(value, (*path, index))


def altered(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy with another value at this place."""
    if not path:
        return value
    copy = dict(document) if isinstance(document, dict) else list(document)
    inner = document[path[0]] if path[0] != "added" else None
    copy[path[0]] = altered(inner, path[1:], value)
    return copy


@pytest.mark.parametrize("name", DOCUMENTS)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_another_value_at_any_place_raises_nothing_but_contract_errors(
    name: str, data: st.DataObject
) -> None:
    good, read = DOCUMENTS[name]
    document = json.loads(good)
    path = data.draw(st.sampled_from(list(places(document))))
    changed = altered(document, path, data.draw(JSON))
    try:
        read(json.dumps(changed).encode("utf-8", "surrogatepass"))
    except ContractError:
        return


@pytest.mark.parametrize("name", [n for n in DOCUMENTS if n not in MESSAGES])
@settings(max_examples=150, deadline=None)
@given(position=st.integers(min_value=0), junk=st.binary(max_size=4), cut=st.integers(0, 8))
def test_damaged_bytes_raise_nothing_but_contract_errors(
    name: str, position: int, junk: bytes, cut: int
) -> None:
    good, read = DOCUMENTS[name]
    at = position % len(good)
    damaged = good[:at] + junk + good[at + cut :]
    if name in PARSED:
        try:
            json.loads(damaged)
        except ValueError:
            return  # python-tuf's parser refuses it
    try:
        read(damaged)
    except ContractError:
        return


@pytest.mark.parametrize("name", [name for name in DOCUMENTS if name not in PARSED])
def test_a_document_cut_anywhere_is_refused(name: str) -> None:
    good, read = DOCUMENTS[name]
    for end in range(0, len(good.rstrip()), max(1, len(good) // 97)):
        with pytest.raises(ContractError):
            read(good[:end])
