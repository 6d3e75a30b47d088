"""Renewal: the next certificate for the same key, also after months off, never after revocation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import pytest
from cryptography import x509
from sqlalchemy import func, select

from contract.renewal import RenewalReply, RenewalRequest, read_renewal, sign_renewal
from fleet.assembly import system_clock
from fleet.ca import DAY_MS, DEVICE_DAYS, Authority
from fleet.certificates import remember_certificate
from fleet.devices import remove_device
from fleet.errors import ClockDiffers, CsrRefused, RenewalRefused
from fleet.ports import HubServices
from fleet.renewal import GRACE_MS, WINDOW_MS, prove, renew
from fleet.rotation import Step
from fleet.setup import succession_at
from fleet.storage.schema import Certificate, Device
from tests.fleet.authorities import make
from tests.fleet.harness import Device as Voice
from tests.fleet.harness import HubDirectory, csr_pem, enrolled, renewal


@dataclass
class Later:
    """A hub whose time a test sets."""

    hub: HubServices
    now: list[int]
    device: Voice

    def days(self, count: float) -> None:
        self.now[0] += int(count * DAY_MS)

    def ask(self, at_ms: int | None = None, device: Voice | None = None) -> RenewalReply:
        self.now[0] += 1
        voice = device or self.device
        return self.send(renewal(voice, self.now[0] if at_ms is None else at_ms))

    def send(self, body: bytes) -> RenewalReply:
        authority = Authority(self.hub.directory / "ca")
        return renew(self.hub.storage, authority, read_renewal(body), self.hub.clock())

    def issued(self) -> int:
        with self.hub.storage.reading() as session:
            return session.scalar(select(func.count(Certificate.serial))) or 0


@pytest.fixture
def later(hub_directory: HubDirectory) -> Iterator[Later]:
    now = [system_clock()]
    with hub_directory.at_rest(lambda: now[0]) as hub:
        yield Later(hub, now, enrolled(hub, "cam-1"))


def leaf(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificates(pem.encode())[0]


def test_a_third_before_its_end_the_certificate_is_renewed_for_the_same_key(later: Later) -> None:
    later.days(61)
    old, new = leaf(later.device.chain_pem), leaf(later.ask().certificate_pem)

    assert new.public_key() == old.public_key() == later.device.key.public_key()
    assert new.subject == old.subject
    assert (new.not_valid_after_utc - old.not_valid_after_utc).days == 61


def test_before_that_the_very_same_certificate_is_given_again(later: Later) -> None:
    later.days(59)
    assert later.ask().certificate_pem == later.device.chain_pem
    assert later.issued() == 1


def test_one_of_another_ca_than_issues_now_is_renewed_at_once_and_but_once(
    later: Later, hub_directory: HubDirectory
) -> None:
    authority = Authority(later.hub.directory / "ca")
    assert later.ask().certificate_pem == later.device.chain_pem
    make(hub_directory)
    assert later.ask().certificate_pem == later.device.chain_pem
    with succession_at(later.hub.directory) as succession:
        succession.take(Step.SWITCH, later.now[0])
        renewed = later.ask().certificate_pem
        assert leaf(renewed).issuer == authority.signer().certificate.subject
        assert later.ask().certificate_pem == renewed
        succession.take(Step.UNDO, later.now[0])
        later.days(1)
        assert leaf(later.ask().certificate_pem).issuer == leaf(later.device.chain_pem).issuer


def test_one_that_names_no_issuer_is_the_first_ca_s(
    later: Later, hub_directory: HubDirectory
) -> None:
    """Given by a hub that ran on while its program was replaced."""
    make(hub_directory)
    with succession_at(later.hub.directory) as succession:
        succession.take(Step.SWITCH, later.now[0])
    with later.hub.storage.session() as session:
        session.query(Certificate).update({"issuer": None})
    renewed = leaf(later.ask().certificate_pem)
    assert renewed.issuer == Authority(later.hub.directory / "ca").signer().certificate.subject


def test_a_device_that_was_off_for_months_comes_back(later: Later) -> None:
    later.days(DEVICE_DAYS + 120)
    new = leaf(later.ask().certificate_pem)
    assert new.not_valid_after_utc.timestamp() * 1000 > later.now[0] + 89 * DAY_MS


def test_more_than_a_year_after_its_end_it_has_to_enrol_again(later: Later) -> None:
    later.now[0] += DEVICE_DAYS * DAY_MS + GRACE_MS
    with pytest.raises(RenewalRefused, match="--replace"):
        later.ask()


def test_a_removed_device_gets_nothing(later: Later) -> None:
    remove_device(later.hub, "cam-1")
    with pytest.raises(RenewalRefused, match="no certificate for this key"):
        later.ask()


def test_a_revoked_certificate_does_not_help_under_a_reused_name(later: Later) -> None:
    remove_device(later.hub, "cam-1")
    enrolled(later.hub, "cam-1")
    with pytest.raises(RenewalRefused):
        later.ask()


def test_another_key_gets_nothing(later: Later) -> None:
    with pytest.raises(RenewalRefused, match="no certificate for this key"):
        later.ask(device=Voice("cam-1"))


def test_a_key_of_another_device_gets_nothing_under_this_name(later: Later) -> None:
    other = enrolled(later.hub, "cam-2")
    with pytest.raises(RenewalRefused):
        later.ask(device=Voice("cam-1", other.key))


def test_a_proof_is_the_devices_signature_whatever_the_csr_and_changes_nothing(
    later: Later,
) -> None:
    storage = later.hub.storage
    for body in (renewal(later.device, later.now[0]), renewal(later.device, 5)):
        prove(storage, read_renewal(body))
    request = RenewalRequest(device="cam-1", csr_pem="x", nonce="3" * 32, at_ms=later.now[0])
    prove(storage, read_renewal(sign_renewal(request, later.device.key)))
    for key in (Voice("cam-1").key, enrolled(later.hub, "cam-2").key):
        with pytest.raises(RenewalRefused, match="no certificate for this key"):
            prove(storage, read_renewal(sign_renewal(request, key)))
    assert later.ask(at_ms=later.now[0]).device == "cam-1"


def test_a_device_that_was_off_too_long_is_told_so_and_a_removed_one_proves_nothing(
    later: Later,
) -> None:
    later.days(DEVICE_DAYS + 2 * 365)
    signed = read_renewal(renewal(later.device, later.now[0]))
    prove(later.hub.storage, signed)
    with pytest.raises(RenewalRefused, match="more than a year ago"):
        later.ask()
    remove_device(later.hub, "cam-1")
    with pytest.raises(RenewalRefused):
        prove(later.hub.storage, signed)


def test_a_csr_of_a_stolen_public_key_is_of_no_use(later: Later) -> None:
    """The CSR is public after one renewal; the envelope's signature needs the key."""
    csr = csr_pem(later.device.key, "cam-1")
    request = RenewalRequest(device="cam-1", csr_pem=csr, nonce="3" * 32, at_ms=later.now[0])
    with pytest.raises(RenewalRefused, match="not signed by this device's key"):
        later.send(sign_renewal(request, Voice("thief").key))


def test_a_broken_csr_is_refused(later: Later) -> None:
    request = RenewalRequest(device="cam-1", csr_pem="x", nonce="3" * 32, at_ms=later.now[0])
    with pytest.raises(CsrRefused):
        later.send(sign_renewal(request, later.device.key))


@pytest.mark.parametrize("off_ms", [-200 * DAY_MS, -WINDOW_MS - 10, WINDOW_MS + 10])
def test_a_device_with_a_wrong_clock_is_told_the_hubs_time(later: Later, off_ms: int) -> None:
    later.days(61)
    with pytest.raises(ClockDiffers) as caught:
        later.ask(at_ms=later.now[0] + off_ms)
    assert caught.value.now_ms == later.now[0]
    assert later.ask(at_ms=caught.value.now_ms).device == "cam-1"


def test_a_replayed_request_yields_nothing(later: Later) -> None:
    later.days(61)
    body = renewal(later.device, later.now[0])
    later.send(body)
    issued = later.issued()

    with pytest.raises(ClockDiffers):
        later.send(body)
    later.days(30)
    with pytest.raises(ClockDiffers):
        later.send(body)
    assert later.issued() == issued


def test_a_lost_reply_costs_nothing(later: Later) -> None:
    later.days(61)
    assert later.ask().certificate_pem == later.ask().certificate_pem
    assert later.issued() == 2


def test_a_last_request_from_the_future_does_not_lock_the_device_out(later: Later) -> None:
    """The hub's clock stood in the future once, and was put right."""
    later.days(400)
    with suppress(RenewalRefused):
        later.ask()
    with later.hub.storage.session() as session:
        session.get_one(Device, "cam-1").renewal_at_ms = later.now[0]
    later.days(-330)
    assert later.ask().device == "cam-1"


def test_a_certificate_of_an_older_hub_is_renewed_at_once(later: Later) -> None:
    """Its chain was not kept, so it cannot be given again."""
    with later.hub.storage.session() as session:
        for row in session.query(Certificate):
            row.chain_pem = None
    assert later.ask().certificate_pem != later.device.chain_pem


def test_every_leaf_is_remembered_with_its_chain(later: Later) -> None:
    later.days(1)
    issued = Authority(later.hub.directory / "ca").issue_device(
        "cam-1", later.device.key.public_key(), later.now[0]
    )
    with later.hub.storage.session() as session:
        remember_certificate(session, "cam-1", issued)
    assert later.ask().certificate_pem == issued.chain_pem
