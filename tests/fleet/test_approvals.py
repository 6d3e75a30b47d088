"""Enrolments that wait: nobody gets in without a word, and the word is for one key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)

from contract.enrolment import (
    Claims,
    EnrolmentFile,
    EnrolmentPending,
    EnrolmentReply,
    EnrolmentRequest,
    request_mac,
)
from contract.envelope import key_id
from fleet.approvals import approve, waiting
from fleet.assembly import system_clock
from fleet.ca import Authority
from fleet.devices import add_device, find_device, remove_device
from fleet.enrolment import LIFETIME_MS, WAITING_MS, enrol
from fleet.errors import EnrolmentRefused, NothingPending
from fleet.ports import HubServices
from tests.fleet.harness import HubDirectory, csr_pem

CLAIMS = Claims(host="cam-1.local", model="Raspberry Pi 5", serial="10000000abcdef")


@dataclass
class Gate:
    hub: HubServices
    now: list[int]
    file: EnrolmentFile
    key: EllipticCurvePrivateKey

    def request(self, key: EllipticCurvePrivateKey | None = None) -> EnrolmentRequest:
        csr, nonce = csr_pem(key or self.key, "cam-1"), "1" * 32
        mac = request_mac(self.file.secret, "cam-1", csr, nonce, CLAIMS)
        return EnrolmentRequest(device="cam-1", csr_pem=csr, nonce=nonce, mac=mac, claims=CLAIMS)

    def ask(self, request: EnrolmentRequest) -> EnrolmentReply | EnrolmentPending:
        authority = Authority(self.hub.directory / "ca")
        return enrol(self.hub.storage, authority, request, self.now[0], ask_first=True)

    def approve(self, key: str | None = None) -> None:
        with self.hub.storage.session() as session:
            approve(session, "cam-1", key or key_id(self.key.public_key()), self.now[0])

    def waiting(self) -> list[str]:
        with self.hub.storage.reading() as session:
            return [each.key_id for each in waiting(session, self.now[0])]


@pytest.fixture
def gate(hub_directory: HubDirectory) -> Iterator[Gate]:
    now = [system_clock()]
    with hub_directory.at_rest(lambda: now[0]) as hub:
        file = add_device(hub, "cam-1", "generic", {})
        yield Gate(hub, now, file, generate_private_key(SECP256R1()))


def test_a_device_waits_until_it_is_approved_and_gets_in_by_the_same_request(gate: Gate) -> None:
    request = gate.request()
    for _ in range(2):
        reply = gate.ask(request)
        assert isinstance(reply, EnrolmentPending)
        assert reply.key_id == key_id(gate.key.public_key())
    with gate.hub.storage.reading() as session:
        [shown] = waiting(session, gate.now[0])
        assert (shown.device, shown.claims, shown.approved) == ("cam-1", CLAIMS, False)
        assert find_device(session, "cam-1").status == "expected"
    gate.approve()
    assert isinstance(gate.ask(request), EnrolmentReply)
    assert gate.waiting() == []
    with gate.hub.storage.reading() as session:
        assert find_device(session, "cam-1").status == "enrolled"
    assert gate.ask(request) == gate.ask(request), "a lost reply is given again"


def test_another_key_with_the_same_secret_is_refused_while_one_waits(gate: Gate) -> None:
    gate.ask(gate.request())
    thief = generate_private_key(SECP256R1())
    with pytest.raises(EnrolmentRefused, match="another request"):
        gate.ask(gate.request(thief))
    gate.approve()
    with pytest.raises(EnrolmentRefused, match="another request"):
        gate.ask(gate.request(thief))


def test_the_word_is_for_the_key_that_was_seen(gate: Gate) -> None:
    request = gate.request()
    gate.ask(request)
    with pytest.raises(NothingPending, match="another key"):
        gate.approve("0" * 64)
    assert isinstance(gate.ask(request), EnrolmentPending)


def test_nobody_is_approved_before_they_ask(gate: Gate) -> None:
    with pytest.raises(NothingPending):
        gate.approve()


def test_a_request_that_waits_outlasts_the_file_and_not_a_week(gate: Gate) -> None:
    request = gate.request()
    gate.ask(request)
    gate.now[0] += LIFETIME_MS + 1
    assert isinstance(gate.ask(request), EnrolmentPending)
    gate.now[0] += WAITING_MS
    assert gate.waiting() == []
    with pytest.raises(NothingPending, match="too long"):
        gate.approve()
    with pytest.raises(EnrolmentRefused, match="expired"):
        gate.ask(request)


def test_changed_claims_do_not_pass(gate: Gate) -> None:
    forged = msgspec.structs.replace(gate.request(), claims=Claims(host="nice"))
    with pytest.raises(EnrolmentRefused, match="wrong HMAC"):
        gate.ask(forged)
    assert gate.waiting() == []


def test_a_strangers_tries_do_not_void_a_request_that_waits(gate: Gate) -> None:
    request = gate.request()
    gate.ask(request)
    for _ in range(20):
        with pytest.raises(EnrolmentRefused, match="wrong HMAC"):
            gate.ask(msgspec.structs.replace(request, mac="0" * 64))
    gate.approve()
    assert isinstance(gate.ask(request), EnrolmentReply)


def test_removing_the_device_refuses_its_request(gate: Gate) -> None:
    gate.ask(gate.request())
    remove_device(gate.hub, "cam-1")
    assert gate.waiting() == []
    with pytest.raises(EnrolmentRefused):
        gate.ask(gate.request())


def test_without_an_enrolment_secret_nobody_even_gets_on_the_list(gate: Gate) -> None:
    with pytest.raises(EnrolmentRefused):
        gate.ask(msgspec.structs.replace(gate.request(), mac="0" * 64))
    assert gate.waiting() == []
