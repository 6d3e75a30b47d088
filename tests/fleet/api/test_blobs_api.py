"""Blobs over HTTPS: for a device that proves itself, of what it is assigned, and only as asked."""

from __future__ import annotations

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx import Response
from sqlalchemy import select

from contract.blob_request import (
    HEAD_BYTES,
    MAX_DIGESTS,
    MAX_REQUEST_BYTES,
    STREAM_TYPE,
    BlobRequest,
    read_head,
    sign_blob_request,
)
from contract.renewal import TIME_HEADER
from fleet.api.blobs import MAX_STREAMS, REQUESTS_A_MINUTE
from fleet.assignments import assign
from fleet.blob_requests import WINDOW_MS
from fleet.devices import remove_device
from fleet.ports import HubServices
from fleet.releases import publish_bundle
from fleet.storage.schema import Blob, Certificate
from tests.fleet.harness import Device, HubDirectory, enrolled, wanted

ABSENT = "0" * 64


@pytest.fixture
def device(hub: HubServices, hub_directory: HubDirectory) -> Device:
    """cam-1, which is assigned digits/1 of two releases."""
    for version, weights in (("1", b"w" * 300_000), ("2", b"v" * 300_000)):
        publish_bundle(hub, hub_directory.signed("digits", version, weights), "operator")
    device = enrolled(hub, "cam-1")
    with hub.storage.session() as session:
        assign(session, "cam-1", "digits", wanted("digits/1"), hub.clock())
    return device


def digests(hub: HubServices, target: str = "digits/1") -> list[str]:
    with hub.storage.reading() as session:
        return sorted(session.scalars(select(Blob.digest).where(Blob.release == target)))


def asked(
    device: Device, at_ms: int, names: list[str], target: str = "digits/1", name: str = ""
) -> bytes:
    request = BlobRequest(device=name or device.name, target=target, digests=names, at_ms=at_ms)
    return sign_blob_request(request, device.key)


def records(answer: Response) -> list[tuple[str, bytes]]:
    assert (answer.status_code, answer.headers["content-type"]) == (200, STREAM_TYPE)
    left, found = answer.content, []
    while left:
        digest, length = read_head(left[:HEAD_BYTES])
        found.append((digest, left[HEAD_BYTES : HEAD_BYTES + length]))
        left = left[HEAD_BYTES + length :]
    return found


def code(answer: Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def test_a_device_gets_what_it_asks_for_in_that_order(
    anybody: TestClient, hub: HubServices, device: Device
) -> None:
    names = digests(hub)[::-1]
    found = records(anybody.post("blobs", content=asked(device, hub.clock(), names)))
    assert found == [(name, hub.blobs.get(name)) for name in names]


def test_what_was_not_allowed_or_asked_twice_is_empty(
    anybody: TestClient, hub: HubServices, device: Device
) -> None:
    own, other = digests(hub)[0], (set(digests(hub, "digits/2")) - set(digests(hub))).pop()
    body = asked(device, hub.clock(), [own, other, ABSENT, own])
    found = records(anybody.post("blobs", content=body))
    assert found == [(own, hub.blobs.get(own)), (other, b""), (ABSENT, b""), (own, b"")]


def test_a_blob_that_the_disk_lost_is_empty_and_the_others_come(
    anybody: TestClient, hub: HubServices, device: Device
) -> None:
    lost, *others = digests(hub)
    hub.blobs.discard(lost)
    found = dict(records(anybody.post("blobs", content=asked(device, hub.clock(), digests(hub)))))
    assert found[lost] == b""
    assert all(found[name] for name in others)


def test_a_release_that_is_not_assigned_is_refused(
    anybody: TestClient, hub: HubServices, device: Device
) -> None:
    body = asked(device, hub.clock(), digests(hub, "digits/2"), "digits/2")
    assert code(anybody.post("blobs", content=body)) == (403, "blobs-refused")


def test_nobody_asks_in_anothers_name(
    anybody: TestClient, hub: HubServices, device: Device
) -> None:
    foreign = enrolled(hub, "cam-2")
    for who, name in ((foreign, "cam-1"), (foreign, "cam-2"), (Device("nobody"), "nobody")):
        body = asked(who, hub.clock(), digests(hub), name=name)
        assert code(anybody.post("blobs", content=body)) == (403, "blobs-refused")
    assert device.name == "cam-1"


def test_what_is_not_signed_or_too_long_is_not_looked_at(
    anybody: TestClient, hub: HubServices, device: Device
) -> None:
    whole = asked(device, hub.clock(), digests(hub))
    for body in (b"", b"{}", whole[:-20], whole.replace(b'"sig":"M', b'"sig":"!')):
        assert anybody.post("blobs", content=body).status_code == 400
    assert anybody.post("blobs", content=b"x" * (MAX_REQUEST_BYTES + 1)).status_code == 413
    assert anybody.post("blobs").status_code == 400
    many = asked(device, hub.clock(), [ABSENT] * (MAX_DIGESTS + 1))
    assert anybody.post("blobs", content=many).status_code == 400


@pytest.mark.parametrize("off_ms", [-WINDOW_MS - 60_000, WINDOW_MS + 60_000])
def test_a_copy_that_comes_late_is_answered_with_the_hubs_time(
    anybody: TestClient, hub: HubServices, device: Device, off_ms: int
) -> None:
    answer = anybody.post("blobs", content=asked(device, hub.clock() + off_ms, digests(hub)))
    assert code(answer) == (409, "clock-differs")
    at_ms = int(answer.headers[TIME_HEADER])
    assert records(anybody.post("blobs", content=asked(device, at_ms, digests(hub))))


def test_a_removed_device_and_an_expired_certificate_get_nothing(
    anybody: TestClient, hub: HubServices, device: Device
) -> None:
    with hub.storage.session() as session:
        session.query(Certificate).update({"not_after_ms": hub.clock() - 1})
    body = asked(device, hub.clock(), digests(hub))
    assert code(anybody.post("blobs", content=body)) == (403, "blobs-refused")
    with hub.storage.session() as session:
        session.query(Certificate).update({"not_after_ms": hub.clock() + 60_000})
    assert anybody.post("blobs", content=body).status_code == 200
    remove_device(hub, "cam-1")
    assert code(anybody.post("blobs", content=body)) == (403, "blobs-refused")


def test_a_device_that_asks_without_end_is_stopped_and_a_stranger_cannot_stop_it(
    anybody: TestClient, hub: HubServices, device: Device
) -> None:
    app = anybody.app
    assert isinstance(app, FastAPI)
    stranger = asked(Device("x"), hub.clock(), digests(hub), name="cam-1")
    assert anybody.post("blobs", content=stranger).status_code == 403
    for _ in range(REQUESTS_A_MINUTE[0]):
        assert app.state.blob_requests.allows("cam-1")
    answer = anybody.post("blobs", content=asked(device, hub.clock(), digests(hub)))
    assert code(answer) == (429, "too-often")


def test_streams_are_bounded_and_give_their_place_back(
    anybody: TestClient, hub: HubServices, device: Device
) -> None:
    app = anybody.app
    assert isinstance(app, FastAPI)
    body = asked(device, hub.clock(), digests(hub)[:1])
    for _ in range(MAX_STREAMS + 1):
        assert anybody.post("blobs", content=body).status_code == 200
    for _ in range(MAX_STREAMS):
        assert app.state.blob_streams.acquire(blocking=False)
    answer = anybody.post("blobs", content=body)
    assert code(answer) == (503, "busy")
    assert answer.headers["Retry-After"] == "5"
