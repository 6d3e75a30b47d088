"""Rollouts over HTTP: the shapes of docs/api.md, from a fleet that really moves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from fleet.api import create_app
from fleet.assembly import system_clock
from fleet.storage.schema import AssignedFamily, RolloutDevice
from tests.fleet.api.conftest import BASE
from tests.fleet.harness import HubDirectory, SilentLink
from tests.fleet.rollouts.simulated_fleet import FAILS, ROLLS_BACK
from tests.fleet.rollouts.stored_fleet import HandClock, StoredFleet, names

BODY = {
    "release": "digits:2",
    "waves": ["1", "3", "6"],
    "soak_s": 10,
    "deadline_s": 100,
    "min_inferences": 100,
}


@pytest.fixture
def stored(hub_directory: HubDirectory) -> Iterator[StoredFleet]:
    """Six devices that serve digits:1, and digits:2 published."""
    clock = HandClock(system_clock())
    with hub_directory.at_rest(clock) as hub:
        stored = StoredFleet(hub, hub_directory, clock)
        stored.bad = stored.publish("1", "2")["2"].digest
        stored.enrol(*names(6))
        assert stored.run(stored.start("1", waves=["100%"], soak_s=0)) == "completed"
        yield stored


@pytest.fixture
def client(stored: StoredFleet) -> Iterator[TestClient]:
    """The API over that fleet."""
    headers = {"Authorization": f"Bearer {stored.directory.token}"}
    with TestClient(create_app(stored.hub), BASE, headers=headers) as found:
        yield found


def error(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def test_a_dry_run_says_who_when_and_against_what_and_changes_nothing(
    client: TestClient,
) -> None:
    answer = client.post("rollouts", json=BODY | {"dry_run": True})
    assert answer.status_code == 200
    plan = answer.json()
    assert (plan["cohort"], plan["control"], plan["comparison"]) == (6, 5, "own-previous")
    assert [wave["cumulative"] for wave in plan["waves"]] == [1, 3, 6]
    assert sum(len(wave["devices"]) for wave in plan["waves"]) == 6
    assert any("only 5 devices held back" in line for line in plan["words"])
    assert plan["conflict"] is None
    assert len(client.get("rollouts").json()["items"]) == 1


def test_a_started_rollout_is_shown_wave_by_wave_and_device_by_device(
    client: TestClient, stored: StoredFleet
) -> None:
    answer = client.post("rollouts", json=BODY)
    assert answer.status_code == 201
    begun = answer.json()
    assert (begun["status"], begun["counts"]["waiting"], begun["counts"]["total"]) == (
        "running",
        6,
        6,
    )
    stored.run(begun["id"])
    found = client.get(f"rollouts/{begun['id']}").json()
    assert (found["status"], found["counts"]["succeeded"]) == ("completed", 6)
    assert [wave["state"] for wave in found["waves"]] == ["passed"] * 3
    assert [wave["size"] for wave in found["waves"]] == [1, 2, 3]
    assert {device["previous_target"] for device in found["devices"]} == {"digits/1"}
    assert found["spec"]["waves"] == ["1", "3", "6"]
    assert found["created_by"]


def test_a_dry_run_says_when_a_soak_ends_before_a_report_is_there(
    client: TestClient, stored: StoredFleet
) -> None:
    stored.report("cam-1", stored.bad)
    told = "\n".join(client.post("rollouts", json=BODY | {"dry_run": True}).json()["words"])
    assert "report every 60 s: a soak of 10 s ends before" in told
    longer = client.post("rollouts", json=BODY | {"dry_run": True, "soak_s": 60}).json()
    assert "report every" not in "\n".join(longer["words"])


def test_a_wave_says_until_when_it_soaks(client: TestClient, stored: StoredFleet) -> None:
    rollout = client.post("rollouts", json=BODY | {"soak_s": 1_000}).json()["id"]
    waves = client.get(f"rollouts/{rollout}").json()["waves"]
    assert [wave["soak_until_ms"] for wave in waves] == [None] * 3
    stored.step()
    stored.step()
    now_ms = stored.clock()
    first, *rest = client.get(f"rollouts/{rollout}").json()["waves"]
    assert now_ms < first["soak_until_ms"] <= now_ms + 1_000_000
    assert [wave["soak_until_ms"] for wave in rest] == [None] * 2


def test_a_rollback_of_what_reached_nobody_is_its_abort(client: TestClient) -> None:
    begun = client.post("rollouts", json=BODY).json()["id"]
    answer = client.post("rollback", json={"family": "digits"})
    assert answer.status_code == 200
    found = answer.json()
    assert (found["id"], found["kind"], found["status"]) == (begun, "rollout", "aborted")


def test_a_rollout_that_was_taken_back_answers_why_in_words(
    client: TestClient, stored: StoredFleet
) -> None:
    for device in stored.devices.values():
        device.behaviour = ROLLS_BACK
    rollout = client.post("rollouts", json=BODY).json()["id"]
    stored.run(rollout, after_s=2)

    found = client.get(f"rollouts/{rollout}").json()
    assert found["status"] == "reverted"
    assert found["counts"]["untouched"] == found["counts"]["skipped"] == 5
    assert (found["counts"]["failed"], found["counts"]["reverted"]) == (1, 1)
    assert [wave["state"] for wave in found["waves"]] == ["failed", "stopped", "stopped"]
    timings = found["timings"]
    assert 0 < timings["first_failure_s"] <= timings["restored_s"]
    assert timings["restored_at_ms"] >= timings["revert_at_ms"]

    why = client.get(f"rollouts/{rollout}/why").json()
    assert [item["action"] for item in why["items"]] == [
        "start",
        "assign",
        "device-failed",
        "revert",
        "restored",
    ]
    told = "\n".join(line for item in why["items"] for line in item["words"])
    for part in ("class-collapse", "97 % are class 3", "5 never touched", "1 failed"):
        assert part in told
    assert why["rollout"]["status"] == "reverted"
    first = client.get(f"rollouts/{rollout}/why", params={"limit": 2}).json()
    assert len(first["items"]) == 2
    rest = client.get(f"rollouts/{rollout}/why", params={"after": first["next"]}).json()
    assert len(rest["items"]) == 3


def test_a_second_rollout_is_a_conflict_that_names_the_first(client: TestClient) -> None:
    first = client.post("rollouts", json=BODY).json()["id"]
    answer = client.post("rollouts", json=BODY)
    assert error(answer) == (409, "rollout-open")
    assert first in answer.json()["error"]["message"]


def test_pause_resume_abort_say_what_they_mean(client: TestClient, stored: StoredFleet) -> None:
    rollout = client.post("rollouts", json=BODY).json()["id"]
    stored.step()
    paused = client.post(f"rollouts/{rollout}/pause").json()
    assert paused["rollout"]["status"] == "paused"
    assert paused["effects"]["under_way"]["count"] == 1
    assert paused["effects"]["unaware"]["words"] == (
        "are assigned nothing until the rollout is resumed"
    )
    assert error(client.post(f"rollouts/{rollout}/pause")) == (409, "rollout-state")
    assert client.post(f"rollouts/{rollout}/resume", json={}).status_code == 200
    assert client.post(f"rollouts/{rollout}/abort", json={}).json()["rollout"]["status"] == (
        "aborted"
    )
    assert error(client.post(f"rollouts/{rollout}/abort")) == (409, "rollout-state")
    assert error(client.post("rollouts/r99/abort")) == (404, "rollout-not-found")


def test_resume_can_accept_unproven_devices(client: TestClient, stored: StoredFleet) -> None:
    for device in stored.devices.values():
        device.behaviour = FAILS
    rollout = client.post("rollouts", json=BODY | {"on_failure": "pause"}).json()["id"]
    stored.run(rollout)
    answer = client.post(f"rollouts/{rollout}/resume", json={"accept_unproven": True}).json()
    assert answer["rollout"]["spec"]["accept_unproven"] is True
    assert "1 failure accepted" in answer["effects"]["words"]


def test_rollback_is_a_rollout_to_what_each_device_had(
    client: TestClient, stored: StoredFleet
) -> None:
    begun = client.post("rollouts", json=BODY).json()["id"]
    stored.run(begun)
    answer = client.post("rollback", json={"family": "digits"})
    assert answer.status_code == 201
    rollback = answer.json()
    assert (rollback["kind"], rollback["status"], rollback["counts"]["total"]) == (
        "rollback",
        "reverting",
        6,
    )
    stored.run(rollback["id"])
    assert set(stored.served().values()) == {"digits/1"}
    found = client.get(f"rollouts/{rollback['id']}").json()
    assert (found["status"], found["counts"]["succeeded"]) == ("completed", 6)
    assert error(client.post("rollback", json={"family": "digits"})) == (
        409,
        "nothing-to-roll-back",
    )


def test_rollouts_are_listed_newest_first_filtered_and_paged(client: TestClient) -> None:
    client.post("rollouts", json=BODY)
    first = client.get("rollouts", params={"limit": 1}).json()
    assert [item["id"] for item in first["items"]] == ["r2"]
    assert "devices" not in first["items"][0]
    rest = client.get("rollouts", params={"limit": 1, "after": first["next"]}).json()
    assert ([item["id"] for item in rest["items"]], rest["next"]) == (["r1"], None)
    completed = client.get("rollouts", params={"status": "completed"}).json()["items"]
    assert [item["id"] for item in completed] == ["r1"]
    assert client.get("rollouts", params={"family": "words"}).json()["items"] == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"release": "digits"}, (422, "invalid-rollout")),
        ({"release": "digits:9"}, (404, "release-not-found")),
        ({"selector": "a b"}, (422, "invalid-selector")),
        ({"selector": "name=x"}, (422, "empty-cohort")),
        ({"waves": []}, (422, "invalid")),
        ({"waves": ["50%", "5%"]}, (422, "invalid-rollout")),
        ({"waves": [0]}, (422, "invalid")),
        ({"waves": [True]}, (422, "invalid")),
        ({"abort_if": "x"}, (422, "invalid-rollout")),
        ({"on_failure": "pray"}, (422, "invalid")),
        ({"deadline_s": 0}, (422, "invalid")),
        ({"min_inferences": 0}, (422, "invalid")),
        ({"soak_s": 1e12}, (422, "invalid")),
        ({"probation": {"patience": 1}}, (422, "invalid-rollout")),
        ({"probation": {"window_s": "long"}}, (422, "invalid-rollout")),
        ({"probation": {"max_error_rate": -0.5}}, (422, "invalid-rollout")),
        ({"probation": {"evidence": "hope"}}, (422, "invalid-rollout")),
        ({"speed": "fast"}, (422, "invalid")),
    ],
)
def test_what_cannot_be_started_is_refused_in_one_line(
    client: TestClient, change: dict[str, Any], expected: tuple[int, str]
) -> None:
    answer = client.post("rollouts", json=BODY | change)
    assert error(answer) == expected
    assert "\n" not in answer.json()["error"]["message"]


def test_numbers_of_devices_may_be_integers(client: TestClient) -> None:
    answer = client.post("rollouts", json=BODY | {"waves": [1, 3, "100%"]})
    assert answer.json()["spec"]["waves"] == ["1", "3", "100%"]


def test_probation_overrides_reach_the_devices(client: TestClient) -> None:
    body = BODY | {"probation": {"evidence": "probe", "window_s": 30}, "min_inferences": 7}
    spec = client.post("rollouts", json=body).json()["spec"]
    assert spec["probation"]["evidence"] == "probe"
    assert (spec["probation"]["window_s"], spec["probation"]["min_inferences"]) == (30, 7)


def test_events_and_reports_are_read_on_from_a_cursor(
    client: TestClient, stored: StoredFleet
) -> None:
    for _ in range(3):
        stored.report("cam-1", stored.bad, 10)
    stored.report("cam-2", stored.bad, 10)
    first = client.get("reports", params={"limit": 2}).json()
    assert [item["device"] for item in first["items"]] == ["cam-1", "cam-1"]
    assert first["items"][0]["inference"]["digits"]["inferences"] == 10
    rest = client.get("reports", params={"after": first["next"]}).json()
    assert [item["device"] for item in rest["items"]] == ["cam-1", "cam-2"]
    assert len(client.get("reports", params={"device": "cam-2"}).json()["items"]) == 1
    assert client.get("events").json() == {"items": [], "next": None}


def test_status_tells_an_operator_what_is_wrong(client: TestClient, stored: StoredFleet) -> None:
    for device in stored.devices.values():
        device.behaviour = FAILS
    rollout = client.post("rollouts", json=BODY | {"on_failure": "pause"}).json()["id"]
    stored.run(rollout)
    stored.clock.now_ms += 10**7
    assert isinstance(stored.hub.link, SilentLink)
    stored.hub.link.connected_since_ms = None
    found = client.get("status").json()
    assert found["devices"] == {
        "total": 6,
        "expected": 0,
        "enrolled": 6,
        "alive": 0,
        "silent": 6,
        "on_hold": 0,
        "behind": 0,
        "ahead": 0,
    }
    assert [row["id"] for row in found["rollouts"]["open"]] == [rollout]
    assert found["releases"] == 2
    assert found["tuf"]["versions"]["digits"] >= 2
    assert found["storage"]["blobs"] > 0
    told = "\n".join(found["problems"])
    for part in ("no connection to its broker", f"rollout {rollout}", "6 of 6 devices are silent"):
        assert part in told


def test_a_metered_budget_reaches_the_devices_and_why_names_who_waits(
    client: TestClient, stored: StoredFleet
) -> None:
    body = BODY | {"metered_bytes": 20_000_000}
    plan = client.post("rollouts", json=body | {"dry_run": True}).json()
    assert any("cost more than 20000000 bytes waits" in line for line in plan["words"])
    found = client.post("rollouts", json=body).json()
    assert found["spec"]["metered_bytes"] == 20_000_000
    stored.step()
    with stored.hub.storage.session() as session:
        given = list(session.scalars(select(AssignedFamily).where(AssignedFamily.rollout == "r2")))
        assert [row.metered_bytes for row in given] == [20_000_000]
        row = session.get_one(RolloutDevice, ("r2", given[0].device))
        row.status, row.cause, row.detail = "assigned", "metered", "it would cost too much"
    why = client.get("rollouts/r2/why").json()
    assert why["rollout"]["waiting"] == [
        {"device": row.device, "cause": "metered", "detail": "it would cost too much"}
    ]
    assert client.get("rollouts/r1/why").json()["rollout"]["waiting"] == []


def test_why_says_how_many_inferences_a_device_on_probation_lacks(
    client: TestClient, stored: StoredFleet
) -> None:
    assert client.post("rollouts", json=BODY).json()["id"] == "r2"
    stored.step()
    with stored.hub.storage.session() as session:
        given = session.scalars(select(AssignedFamily).where(AssignedFamily.rollout == "r2")).one()
        row = session.get_one(RolloutDevice, ("r2", given.device))
        row.status, row.good_inferences, row.cause, row.detail = "serving", 3, None, ""
    told = [
        {"device": row.device, "cause": "inferences", "detail": "3 of 100 good inferences so far"}
    ]
    assert client.get("rollouts/r2/why").json()["rollout"]["waiting"] == told
    with stored.hub.storage.session() as session:
        session.get_one(RolloutDevice, ("r2", row.device)).good_inferences = 100
    assert client.get("rollouts/r2/why").json()["rollout"]["waiting"] == []


@pytest.mark.parametrize("most", [-1, 1 << 41, "20MB"])
def test_a_budget_that_is_none_is_refused(client: TestClient, most: object) -> None:
    assert client.post("rollouts", json=BODY | {"metered_bytes": most}).status_code == 422
