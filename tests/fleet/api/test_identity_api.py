"""Renewal over HTTP: no token, bounded, and told the time where the clock is off."""

from __future__ import annotations

import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from fastapi import FastAPI
from fastapi.testclient import TestClient

from contract.enrolment import (
    EnrolmentFile,
    EnrolmentPending,
    decode_enrolment,
    encode_enrolment,
)
from contract.renewal import (
    MAX_RENEWAL_BYTES,
    TIME_HEADER,
    RenewalRequest,
    decode_reply,
    sign_renewal,
)
from fleet.api import create_app
from fleet.api.identity import REQUESTS_A_MINUTE
from fleet.api.limits import RateLimit
from fleet.devices import add_device, remove_device
from fleet.ports import HubServices
from tests.fleet.api.conftest import BASE
from tests.fleet.harness import (
    Device,
    HubDirectory,
    enrolled,
    enrolment_request,
    renewal,
)


def test_a_device_renews_without_a_token(anybody: TestClient, hub: HubServices) -> None:
    device = enrolled(hub, "cam-1")
    answer = anybody.post("renew", content=renewal(device, hub.clock(), "4" * 32))
    assert answer.status_code == 200
    reply = decode_reply(answer.content)
    assert (reply.device, reply.nonce) == ("cam-1", "4" * 32)
    assert reply.certificate_pem == device.chain_pem


def test_a_wrong_clock_is_answered_with_the_hubs(anybody: TestClient, hub: HubServices) -> None:
    device = enrolled(hub, "cam-1")
    answer = anybody.post("renew", content=renewal(device, 1_000))
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "clock-differs")
    at_ms = int(answer.headers[TIME_HEADER])
    assert anybody.post("renew", content=renewal(device, at_ms)).status_code == 200


def test_who_may_not_is_told_so(anybody: TestClient, hub: HubServices) -> None:
    device = enrolled(hub, "cam-1")
    remove_device(hub, "cam-1")
    for asking in (device, Device("nobody")):
        answer = anybody.post("renew", content=renewal(asking, hub.clock()))
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "renewal-refused")


def test_strangers_are_bounded(anybody: TestClient, hub: HubServices) -> None:
    assert anybody.post("renew", content=b"{}").status_code == 400
    assert anybody.post("renew", content=b"x" * (MAX_RENEWAL_BYTES + 1)).status_code == 413
    body = renewal(Device("nobody"), hub.clock())
    found = [anybody.post("renew", content=body).status_code for _ in range(7)]
    assert found == [403] * 6 + [429]


def flood(client: TestClient, path: str, body: bytes) -> None:
    """One stranger asks until nobody tells it why, and others have used up what strangers have."""
    assert client.post(path, content=body).status_code == 403
    while client.post(path, content=body).status_code == 403:
        pass
    assert isinstance(client.app, FastAPI)
    strangers: RateLimit = client.app.state.strangers
    for number in range(REQUESTS_A_MINUTE[1]):
        strangers.allows(f"192.0.2.1/cam-{number}")
    assert not strangers.allows("192.0.2.2/cam-1")


def test_strangers_keep_no_device_from_enrolling(anybody: TestClient, hub: HubServices) -> None:
    file = add_device(hub, "cam-1", "generic", {})
    request = enrolment_request(file, generate_private_key(SECP256R1()))
    guess = msgspec.structs.replace(request, mac="0" * 64)
    flood(anybody, "enrol", encode_enrolment(guess))
    assert anybody.post("enrol", content=encode_enrolment(request)).status_code == 200
    refused = anybody.post("enrol", content=encode_enrolment(guess))
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too-often")


def test_strangers_keep_no_device_from_renewing(anybody: TestClient, hub: HubServices) -> None:
    device = enrolled(hub, "cam-1")
    flood(anybody, "renew", renewal(Device("cam-1"), hub.clock()))
    assert anybody.post("renew", content=renewal(device, hub.clock())).status_code == 200


def test_a_strangers_csr_is_not_read(anybody: TestClient, hub: HubServices) -> None:
    device = enrolled(hub, "cam-1")
    request = RenewalRequest(device="cam-1", csr_pem="x", nonce="2" * 32, at_ms=hub.clock())
    answers = [
        anybody.post("renew", content=sign_renewal(request, key))
        for key in (Device("cam-1").key, device.key)
    ]
    codes = [answer.json()["error"]["code"] for answer in answers]
    assert codes == ["renewal-refused", "csr-refused"]


def test_a_device_that_asks_without_end_is_bounded_and_takes_nothing_from_others(
    anybody: TestClient, hub: HubServices
) -> None:
    restless, other = enrolled(hub, "cam-1"), enrolled(hub, "cam-2")
    for asked in range(REQUESTS_A_MINUTE[0] + 3):
        answer = anybody.post("renew", content=renewal(restless, hub.clock() + asked))
        assert answer.status_code == (200 if asked < REQUESTS_A_MINUTE[0] else 429)
    assert int(answer.headers["Retry-After"]) > 0
    assert anybody.post("renew", content=renewal(other, hub.clock())).status_code == 200


def test_a_hub_that_asks_lets_a_device_in_by_an_operators_word(
    hub_directory: HubDirectory,
) -> None:
    path = hub_directory.hub / "hub.json"
    path.write_bytes(
        msgspec.json.encode(msgspec.json.decode(path.read_bytes()) | {"approve": True})
    )
    with hub_directory.at_rest() as hub, TestClient(create_app(hub), BASE) as client:
        file = add_device(hub, "cam-1", "generic", {})
        request = encode_enrolment(enrolment_request(file, generate_private_key(SECP256R1())))
        first = client.post("enrol", content=request)
        assert first.status_code == 202
        pending = decode_enrolment(EnrolmentPending, first.content)

        client.headers["Authorization"] = f"Bearer {hub_directory.token}"
        [shown] = client.get("enrolments").json()["items"]
        assert (shown["device"], shown["key_id"]) == ("cam-1", pending.key_id)
        wrong = client.post("enrolments/cam-1/approve", json={"key_id": "0" * 64})
        assert (wrong.status_code, wrong.json()["error"]["code"]) == (404, "nothing-pending")
        good = client.post("enrolments/cam-1/approve", json={"key_id": pending.key_id})
        assert (good.status_code, good.json()["approved"]) == (200, True)
        assert client.post("enrol", content=request).status_code == 200
        actions = [entry["action"] for entry in client.get("audit").json()["items"]]
        assert actions.count("device.approve") == 2, "the attempt too"


def test_a_device_is_replaced_over_http(api: TestClient, hub: HubServices) -> None:
    enrolled(hub, "cam-1", site="lyon")
    answer = api.post("devices", json={"name": "cam-1", "replace": True, "valid_s": 600})
    assert answer.status_code == 201
    file = decode_enrolment(EnrolmentFile, answer.content)
    assert file.expires_at_ms - file.floor_ms == 600_000
    assert api.get("devices/cam-1").json()["labels"] == {"site": "lyon"}
    assert api.post("devices", json={"name": "cam-9", "replace": True}).status_code == 404
