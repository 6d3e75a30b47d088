"""Renewal over HTTP: no token, bounded, and told the time where the clock is off."""

from __future__ import annotations

from fastapi.testclient import TestClient

from contract.renewal import MAX_RENEWAL_BYTES, TIME_HEADER, decode_reply
from fleet.devices import remove_device
from fleet.ports import HubServices
from tests.fleet.harness import Device, enrolled, renewal


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
