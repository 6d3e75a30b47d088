"""Who may ask: every route wants a token but two, and what is refused says no more than it must."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from fleet.api import create_app
from fleet.api.errors import STATUSES, code_of, status_of
from fleet.api.limits import MAX_BODY_BYTES, MAX_REMEMBERED, RateLimit
from fleet.errors import DeviceNotFound, FleetError, TokenRefused
from fleet.ports import HubServices
from fleet.rollouts.errors import RolloutOpen
from fleet.storage.schema import AuditEntry
from fleet.tokens import new_token, revoke_token
from fleet.trust.errors import TrustForAnotherHub
from tests.fleet.api.conftest import BASE
from tests.fleet.harness import HubDirectory

BODY = {"name": "x", "release": "a:1", "family": "a"}
OPEN_PATHS = {"/api/v1/healthz", "/api/v1/enrol", "/api/v1/renew", "/api/v1/blobs"}


def described(client: TestClient) -> dict[str, list[str]]:
    paths = client.get("openapi.json").json()["paths"]
    return {path: [method.upper() for method in methods] for path, methods in paths.items()}


def test_every_route_but_four_wants_a_token(anybody: TestClient) -> None:
    asked = 0
    for path, methods in described(anybody).items():
        for method in methods:
            if path in OPEN_PATHS:
                continue
            url = path.replace("{", "").replace("}", "").removeprefix("/api/v1/")
            answer = anybody.request(
                method, url, json={"name": "x", "release": "a:1", "family": "a"}
            )
            assert answer.status_code == 401, (method, path)
            assert answer.json()["error"]["code"] == "token-refused"
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            asked += 1
    assert asked > 20


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Bearer wrong", "Basic abc", "Bearer " + "x" * 5_000, "ort_1"],
)
def test_no_other_header_is_a_token(anybody: TestClient, header: str) -> None:
    answer = anybody.get("status", headers={"Authorization": header})
    assert answer.status_code == 401
    assert "x" * 100 not in answer.text


def test_a_revoked_token_is_refused(anybody: TestClient, hub: HubServices) -> None:
    with hub.storage.session() as session:
        token = new_token(session, "night-shift", 1)
    headers = {"Authorization": f"bearer {token}"}
    assert anybody.get("status", headers=headers).status_code == 200
    with hub.storage.session() as session:
        revoke_token(session, "night-shift", 2)
    assert anybody.get("status", headers=headers).status_code == 401


def test_anybody_may_ask_whether_the_hub_is_there(anybody: TestClient) -> None:
    assert anybody.get("healthz").json() == {"status": "ok"}


def test_a_body_that_is_too_long_is_413_whether_or_not_it_says_so(api: TestClient) -> None:
    announced = api.post("devices", content=b" " * (MAX_BODY_BYTES + 1))
    streamed = api.post("devices", content=iter([b" " * MAX_BODY_BYTES, b" "]))
    for answer in (announced, streamed):
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "too-large"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "malformed"),
        (b"\xff\xfe", 400, "malformed"),
        (b"[]", 422, "invalid"),
        (b"{}", 422, "invalid"),
        (b'{"name": 5}', 422, "invalid"),
        (b'{"name": "cam-1", "colour": "red"}', 422, "invalid"),
        (b'{"name": "Cam 1"}', 422, "invalid-device"),
        (b'{"name": "hub-2"}', 422, "invalid-device"),
        (b'{"name": "cam-1", "labels": {"all": "x"}}', 422, "invalid-device"),
    ],
)
def test_broken_bodies_are_refused_in_one_line(
    api: TestClient, body: bytes, status: int, code: str
) -> None:
    answer = api.post("devices", content=body, headers={"Content-Type": "application/json"})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code)
    assert "\n" not in error["message"]


def test_unknown_paths_and_methods_have_the_same_form(api: TestClient) -> None:
    assert api.get("nothing").json()["error"]["code"] == "not-found"
    assert api.put("devices").json()["error"]["code"] == "method-not-allowed"


def test_an_unforeseen_error_answers_with_a_reference_and_no_trace(
    hub: HubServices, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ZeroDivisionError("the secret is 42")

    app = create_app(hub)
    app.add_api_route("/api/v1/fail", fail)
    with TestClient(app, BASE, raise_server_exceptions=False) as client:
        answer = client.get("fail")
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (500, "internal")
    assert "Traceback" not in answer.text
    assert "42" not in answer.text
    assert f"reference {error['message'].split()[-1]}" in caplog.text


def test_every_error_of_the_fleet_has_a_status() -> None:
    assert status_of(DeviceNotFound("x")) == 404
    assert status_of(TrustForAnotherHub("x")) == 422
    assert status_of(FleetError("x")) == 500
    assert code_of(RolloutOpen("x")) == "rollout-open"
    assert code_of(TokenRefused("x")) == "token-refused"
    assert len({kind for kind, _ in STATUSES}) == len(STATUSES)


def test_changes_are_audited_with_their_actor_refused_ones_too(
    api: TestClient, hub: HubServices, hub_directory: HubDirectory
) -> None:
    api.post("devices", json={"name": "cam-1"})
    api.delete("devices/cam-9")
    with hub.storage.reading() as session:
        rows = [(r.action, r.subject, r.detail) for r in session.scalars(select(AuditEntry))]
        actors = set(session.scalars(select(AuditEntry.actor)))
    assert rows[0][:2] == ("device.add", "cam-1")
    assert rows[1] == ("device.remove", "cam-9", {"refused": "device-not-found"})
    assert len(actors) == 1
    listed = api.get("audit").json()["items"]
    assert [entry["action"] for entry in listed] == ["device.add", "device.remove"]
    assert hub_directory.token not in str(listed)


def test_a_rate_limit_is_per_name_and_refills() -> None:
    now_ms = 0
    limit = RateLimit(2, 100, lambda: now_ms)
    assert [limit.allows("a") for _ in range(3)] == [True, True, False]
    assert limit.allows("b")
    now_ms = 30_000
    assert [limit.allows("a") for _ in range(2)] == [True, False]


def test_a_name_that_is_over_its_limit_takes_nothing_from_all() -> None:
    limit = RateLimit(1, 3, lambda: 0)
    assert [limit.allows("a") for _ in range(5)] == [True, False, False, False, False]
    assert limit.allows("b")


def test_a_rate_limit_holds_over_all_names_and_remembers_a_bounded_number() -> None:
    limit = RateLimit(1, 3, lambda: 0)
    assert [limit.allows(str(n)) for n in range(5)] == [True, True, True, False, False]
    roomy = RateLimit(1, 10**9, lambda: 0)
    for n in range(MAX_REMEMBERED + 50):
        roomy.allows(str(n))
    assert len(roomy._buckets) <= MAX_REMEMBERED
