"""Enrolment: a certificate for whoever knows the secret, once, in time."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from contract.enrolment import EnrolmentFile, check_mac, reply_mac, request_mac
from fleet.ca import DEVICE_DAYS
from fleet.devices import add_device, remove_device
from fleet.enrolment import LIFETIME_MS, prove
from fleet.errors import EnrolmentRefused
from fleet.issuing import public_key_pem
from fleet.ports import HubServices
from fleet.retention import Retention
from fleet.storage.schema import Certificate, Device, Enrolment
from tests.fleet.harness import (
    HubDirectory,
    answer,
    csr_pem,
    enrolled,
    enrolment_request,
)


@pytest.fixture
def file(hub: HubServices) -> EnrolmentFile:
    return add_device(hub, "cam-1", "camera", {"site": "lyon"})


@pytest.fixture
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def leaf(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificates(pem.encode())[0]


def test_the_hub_sets_the_subject_whatever_the_csr_says(
    hub: HubServices, file: EnrolmentFile, key: ec.EllipticCurvePrivateKey
) -> None:
    csr = csr_pem(key, "hub")
    mac = request_mac(file.secret, "cam-1", csr, "1" * 32)
    request = msgspec.structs.replace(enrolment_request(file, key), csr_pem=csr, mac=mac)

    certificate = leaf(answer(hub, request).certificate_pem)

    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert [name.value for name in names] == ["cam-1"]


def test_the_leaf_is_a_client_certificate_of_ninety_days_for_the_devices_own_key(
    hub: HubServices, file: EnrolmentFile, key: ec.EllipticCurvePrivateKey
) -> None:
    certificate = leaf(answer(hub, enrolment_request(file, key)).certificate_pem)

    assert certificate.public_key() == key.public_key()
    lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert lifetime.days == DEVICE_DAYS
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert not constraints.ca


def test_the_chain_leads_to_the_root_of_the_enrolment_file(
    hub: HubServices, file: EnrolmentFile, key: ec.EllipticCurvePrivateKey
) -> None:
    reply = answer(hub, enrolment_request(file, key))

    root = x509.load_pem_x509_certificate(file.ca_pem.encode())
    first, between = x509.load_pem_x509_certificates(reply.certificate_pem.encode())
    first.verify_directly_issued_by(between)
    between.verify_directly_issued_by(root)


def test_the_reply_is_bound_to_the_secret_and_the_nonce(
    hub: HubServices, file: EnrolmentFile, key: ec.EllipticCurvePrivateKey
) -> None:
    request = enrolment_request(file, key)
    reply = answer(hub, request)

    expected = reply_mac(file.secret, "cam-1", reply.certificate_pem, request.nonce)
    check_mac(expected, reply.mac, "reply")


def test_the_certificate_is_recorded_and_the_secret_is_forgotten(
    hub: HubServices, file: EnrolmentFile, key: ec.EllipticCurvePrivateKey
) -> None:
    pem = answer(hub, enrolment_request(file, key)).certificate_pem

    with hub.storage.reading() as session:
        rows = session.query(Certificate).all()
        assert [row.public_key_pem for row in rows] == [public_key_pem(key.public_key())]
        assert rows[0].serial == f"{leaf(pem).serial_number:x}"
        assert session.get_one(Enrolment, "cam-1").secret is None
        assert session.get_one(Device, "cam-1").status == "enrolled"


def test_a_spent_secret_leaves_the_disk_with_the_next_round_of_retention(
    hub: HubServices, file: EnrolmentFile, key: ec.EllipticCurvePrivateKey
) -> None:
    def on_disk() -> bool:
        files = hub.directory.glob("hub.sqlite*")
        return any(file.secret.encode() in each.read_bytes() for each in files)

    hub.storage.fold()
    assert on_disk()
    request = enrolment_request(file, key)
    reply = answer(hub, request)

    Retention(hub.storage, hub.clock, lambda _: None).step()

    assert not on_disk()
    assert answer(hub, request) == reply  # as after a reply that was lost


def test_an_exact_retry_gets_the_same_certificate(
    hub: HubServices, file: EnrolmentFile, key: ec.EllipticCurvePrivateKey
) -> None:
    request = enrolment_request(file, key)

    assert answer(hub, request) == answer(hub, request)


def test_another_key_cannot_use_the_file_again(
    hub: HubServices, file: EnrolmentFile, key: ec.EllipticCurvePrivateKey
) -> None:
    answer(hub, enrolment_request(file, key))

    thief = enrolment_request(file, ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(EnrolmentRefused, match="enrolled already"):
        answer(hub, thief)


def test_an_expired_file_is_refused_even_for_a_retry(hub_directory: HubDirectory) -> None:
    now = [1_900_000_000_000]
    with hub_directory.at_rest(lambda: now[0]) as hub:
        file = add_device(hub, "cam-1", "generic", {})
        key = ec.generate_private_key(ec.SECP256R1())
        request = enrolment_request(file, key)
        answer(hub, request)
        now[0] += LIFETIME_MS

        with pytest.raises(EnrolmentRefused, match="expired"):
            answer(hub, request)


def test_wrong_macs_void_no_file(
    hub: HubServices, file: EnrolmentFile, key: ec.EllipticCurvePrivateKey
) -> None:
    """They did once, after five: whoever knew the device's name could keep it out."""
    good = enrolment_request(file, key)
    for number in range(20):
        with pytest.raises(EnrolmentRefused, match="wrong HMAC"):
            answer(hub, msgspec.structs.replace(good, mac=f"{number:064x}"))

    assert answer(hub, good).device == "cam-1"


def test_a_secret_is_too_long_to_be_guessed(hub: HubServices, file: EnrolmentFile) -> None:
    others = {add_device(hub, f"cam-{n}", "camera", {}).secret for n in range(2, 6)}
    assert len({bytes.fromhex(secret) for secret in others | {file.secret}}) == 5
    assert all(len(bytes.fromhex(secret)) == 32 for secret in others | {file.secret})


def test_a_proof_is_of_the_file_and_changes_nothing(
    hub: HubServices, file: EnrolmentFile, key: ec.EllipticCurvePrivateKey
) -> None:
    good = enrolment_request(file, key)
    wrong = msgspec.structs.replace(good, mac="0" * 64)
    for _ in range(2):
        prove(hub.storage, good, hub.clock())
        with pytest.raises(EnrolmentRefused, match="wrong HMAC"):
            prove(hub.storage, wrong, hub.clock())
    answer(hub, good)
    prove(hub.storage, good, hub.clock())
    with pytest.raises(EnrolmentRefused, match="enrolled already"):
        prove(hub.storage, wrong, hub.clock())
    with pytest.raises(EnrolmentRefused, match="expired"):
        prove(hub.storage, good, file.expires_at_ms)


def test_a_request_of_another_device_is_refused(
    hub: HubServices, file: EnrolmentFile, key: ec.EllipticCurvePrivateKey
) -> None:
    add_device(hub, "cam-2", "generic", {})

    stolen = msgspec.structs.replace(enrolment_request(file, key), device="cam-2")
    with pytest.raises(EnrolmentRefused, match="wrong HMAC"):
        answer(hub, stolen)


def test_an_unknown_device_is_refused(
    hub: HubServices, file: EnrolmentFile, key: ec.EllipticCurvePrivateKey
) -> None:
    stranger = msgspec.structs.replace(enrolment_request(file, key), device="cam-9")
    with pytest.raises(EnrolmentRefused, match="no enrolment of cam-9 is open"):
        answer(hub, stranger)


def test_a_newer_file_makes_the_older_one_void(
    hub: HubServices, file: EnrolmentFile, key: ec.EllipticCurvePrivateKey
) -> None:
    add_device(hub, "cam-1", "camera", {})

    with pytest.raises(EnrolmentRefused):
        answer(hub, enrolment_request(file, key))


@pytest.mark.parametrize("kind", ["rubbish", "p384", "ed25519"])
def test_a_csr_without_a_p256_key_is_refused(
    hub: HubServices, file: EnrolmentFile, key: ec.EllipticCurvePrivateKey, kind: str
) -> None:
    makers: dict[str, Callable[[], str]] = {
        "rubbish": lambda: "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n",
        "p384": lambda: csr_pem(ec.generate_private_key(ec.SECP384R1()), "x"),
        "ed25519": _ed25519_csr,
    }
    csr = makers[kind]()
    mac = request_mac(file.secret, "cam-1", csr, "1" * 32)
    request = msgspec.structs.replace(enrolment_request(file, key), csr_pem=csr, mac=mac)

    with pytest.raises(EnrolmentRefused, match="CSR"):
        answer(hub, request)


def _ed25519_csr() -> str:
    from cryptography.hazmat.primitives.serialization import Encoding

    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    csr = builder.sign(ed25519.Ed25519PrivateKey.generate(), None)
    return csr.public_bytes(Encoding.PEM).decode()


def test_a_removed_device_can_be_added_and_enrolled_anew(hub: HubServices) -> None:
    enrolled(hub, "cam-1")
    remove_device(hub, "cam-1")

    enrolled(hub, "cam-1")

    with hub.storage.reading() as session:
        revoked = [row.revoked_at_ms is not None for row in session.query(Certificate)]
        assert sorted(revoked) == [False, True]
