"""Devices and their enrolment over HTTP."""

from __future__ import annotations

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from fastapi.testclient import TestClient
from sqlalchemy import select

from contract.enrolment import (
    EnrolmentFile,
    EnrolmentReply,
    check_mac,
    decode_enrolment,
    encode_enrolment,
    reply_mac,
)
from fleet.ports import HubServices
from fleet.storage.schema import AuditEntry, Device, OutgoingCommand
from tests.fleet.harness import enrolled, enrolment_request


def test_a_device_is_expected_enrols_and_is_shown(api: TestClient) -> None:
    added = api.post(
        "devices", json={"name": "cam-1", "device_class": "pi-5", "labels": {"site": "lyon"}}
    )
    assert added.status_code == 201
    assert added.headers["Cache-Control"] == "no-store"
    file = decode_enrolment(EnrolmentFile, added.content)
    assert api.get("devices/cam-1").json()["status"] == "expected"

    request = enrolment_request(file, generate_private_key(SECP256R1()))
    token = api.headers.pop("Authorization")
    answer = api.post("enrol", content=encode_enrolment(request))
    assert answer.status_code == 200
    reply = decode_enrolment(EnrolmentReply, answer.content)
    expected = reply_mac(file.secret, "cam-1", reply.certificate_pem, request.nonce)
    check_mac(expected, reply.mac, "reply")

    api.headers["Authorization"] = token
    found = api.get("devices/cam-1").json()
    assert (found["status"], found["alive"], found["assigned"]) == ("enrolled", False, {})
    assert (found["device_class"], found["labels"]) == ("pi-5", {"site": "lyon"})
    assert file.secret not in api.get("audit").text


def test_a_name_is_taken_once_it_is_enrolled(api: TestClient, hub: HubServices) -> None:
    enrolled(hub, "cam-1")
    answer = api.post("devices", json={"name": "cam-1"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "device-exists")


def test_devices_are_listed_by_name_selected_and_paged(api: TestClient, hub: HubServices) -> None:
    for n in range(3):
        enrolled(hub, f"cam-{n}", site="lyon" if n else "paris")
    first = api.get("devices", params={"limit": 2}).json()
    assert [item["name"] for item in first["items"]] == ["cam-0", "cam-1"]
    rest = api.get("devices", params={"limit": 2, "after": first["next"]}).json()
    assert ([item["name"] for item in rest["items"]], rest["next"]) == (["cam-2"], None)
    lyon = api.get("devices", params={"selector": "site=lyon"}).json()
    assert [item["name"] for item in lyon["items"]] == ["cam-1", "cam-2"]
    assert api.get("devices", params={"selector": "x"}).status_code == 422


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "many"])
def test_pages_are_bounded(api: TestClient, limit: str) -> None:
    for path in ("devices", "events", "reports", "releases", "rollouts", "audit"):
        assert api.get(path, params={"limit": limit}).status_code == 422


def test_a_device_that_spoke_lately_is_alive(api: TestClient, hub: HubServices) -> None:
    enrolled(hub, "cam-1")
    with hub.storage.session() as session:
        row = session.get_one(Device, "cam-1")
        row.last_seen_ms, row.heartbeat_s = hub.clock() - 20_000, 10
    assert api.get("devices/cam-1").json()["alive"] is True
    with hub.storage.session() as session:
        session.get_one(Device, "cam-1").last_seen_ms = hub.clock() - 26_000
    assert api.get("devices/cam-1").json()["alive"] is False


def test_a_removed_device_is_gone(api: TestClient, hub: HubServices) -> None:
    enrolled(hub, "cam-1")
    assert api.delete("devices/cam-1").json() == {"name": "cam-1", "status": "revoked"}
    assert api.get("devices/cam-1").status_code == 404
    assert api.get("devices").json()["items"] == []
    assert api.delete("devices/cam-1").status_code == 404


def test_a_hold_is_released_by_a_command(api: TestClient, hub: HubServices) -> None:
    enrolled(hub, "cam-1")
    answer = api.post("devices/cam-1/release-hold", json={"family": "digits"})
    assert answer.status_code == 202
    with hub.storage.reading() as session:
        row = session.get_one(OutgoingCommand, answer.json()["command"])
        assert (row.device, row.verb, row.family) == ("cam-1", "release-hold", "digits")
    assert api.post("devices/cam-9/release-hold", json={"family": "digits"}).status_code == 404
    assert api.post("devices/cam-1/release-hold", json={"family": "A b"}).status_code == 400


def test_a_wrong_secret_is_refused_and_says_no_more(api: TestClient, hub: HubServices) -> None:
    file = decode_enrolment(EnrolmentFile, api.post("devices", json={"name": "cam-1"}).content)
    forged = msgspec.structs.replace(file, secret="0" * 64)
    request = enrolment_request(forged, generate_private_key(SECP256R1()))
    answer = api.post("enrol", content=encode_enrolment(request))
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "enrolment-refused")
    assert file.secret not in answer.text


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"device": "cam-1"}', b"\xff" * 100])
def test_what_is_no_enrolment_is_400(anybody: TestClient, body: bytes) -> None:
    answer = anybody.post("enrol", content=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "malformed-message")


def test_enrolments_of_one_device_are_rate_limited(anybody: TestClient, hub: HubServices) -> None:
    key = generate_private_key(SECP256R1())
    file = EnrolmentFile(
        device="cam-1",
        hub_url="https://hub.test",
        ca_pem="",
        broker_host="hub.test",
        broker_port=1,
        root_json="",
        floor_ms=0,
        secret="0" * 64,
        expires_at_ms=0,
    )
    body = encode_enrolment(enrolment_request(file, key))
    statuses = [anybody.post("enrol", content=body).status_code for _ in range(8)]
    assert statuses[0] == 403
    assert statuses[-1] == 429
    assert int(anybody.post("enrol", content=body).headers["Retry-After"]) > 0
    with hub.storage.reading() as session:
        assert session.scalars(select(AuditEntry)).all() == []
