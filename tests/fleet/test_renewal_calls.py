"""Calling devices to their next certificate: who is called, when, and how many at once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from contract.messages import Verb
from fleet.assembly import system_clock
from fleet.ports import HubServices
from fleet.renewal_calls import BATCH, call_for_renewal
from fleet.rotation import Rotation, Stage, Step
from fleet.setup import succession_at
from fleet.storage.schema import Device, OutgoingCommand
from fleet.succession import Succession
from tests.fleet.authorities import make, name_roots
from tests.fleet.harness import HubDirectory, enrolled

NOW = system_clock()


@pytest.fixture
def switched(hub_directory: HubDirectory, hub: HubServices) -> Iterator[Succession]:
    """The next CA issues, and two devices that are there hang on the former one."""
    for name in ("cam-1", "cam-2"):
        enrolled(hub, name)
        tell(hub, name)
    make(hub_directory)
    with succession_at(hub_directory.hub) as succession:
        succession.take(Step.SWITCH, NOW)
        yield succession


def tell(hub: HubServices, name: str, seen_ms: int = NOW, targets: int = 2) -> None:
    with hub.storage.session() as session:
        device = session.get_one(Device, name)
        device.last_seen_ms, device.tuf_versions = seen_ms, {"targets": targets}
        device.heartbeat_s = 900


def call(hub: HubServices, succession: Succession, now_ms: int = NOW) -> list[str]:
    rotation = succession.observe()
    assert rotation is not None
    issuer = succession.authority.signer().fingerprint
    return call_for_renewal(hub.storage, rotation, issuer, now_ms)


def test_who_hangs_on_the_former_ca_is_called_once(hub: HubServices, switched: Succession) -> None:
    assert call(hub, switched) == ["cam-1", "cam-2"]
    assert call(hub, switched, NOW + 60_000) == []
    with hub.storage.reading() as session:
        rows = session.query(OutgoingCommand).all()
        assert {(row.device, row.verb) for row in rows} == {
            ("cam-1", Verb.RENEW.value),
            ("cam-2", Verb.RENEW.value),
        }


def test_who_did_not_come_is_called_again_when_the_call_has_run_out(
    hub: HubServices, switched: Succession
) -> None:
    call(hub, switched)
    for name in ("cam-1", "cam-2"):
        tell(hub, name, NOW + 3_600_000)
    assert call(hub, switched, NOW + 3_600_000) == ["cam-1", "cam-2"]


@pytest.mark.parametrize("told", [{"seen_ms": NOW - 3_000_000}, {"targets": 1}])
def test_who_is_away_or_does_not_know_the_root_is_not_called(
    hub: HubServices, switched: Succession, told: dict[str, int]
) -> None:
    tell(hub, "cam-1", **told)
    assert call(hub, switched) == ["cam-2"]


def test_nobody_is_called_while_no_policy_names_the_next_root(
    hub: HubServices, switched: Succession
) -> None:
    issuer = switched.authority.signer().fingerprint
    rotation = Rotation(stage=Stage.SWITCHED, began_ms=1)
    assert call_for_renewal(hub.storage, rotation, issuer, NOW) == []


def test_who_has_a_certificate_of_the_next_ca_is_not_called(
    hub: HubServices, switched: Succession
) -> None:
    enrolled(hub, "cam-3")
    tell(hub, "cam-3")
    assert "cam-3" not in call(hub, switched)


def test_after_the_way_back_those_of_the_next_ca_are_called(
    hub: HubServices, switched: Succession
) -> None:
    enrolled(hub, "cam-3")
    tell(hub, "cam-3")
    switched.take(Step.UNDO, NOW)
    assert call(hub, switched) == ["cam-3"]


def test_they_are_called_also_when_the_policy_names_the_former_root_alone_again(
    hub_directory: HubDirectory, hub: HubServices, switched: Succession
) -> None:
    """As it should then: the next CA goes, once nobody hangs on it."""
    enrolled(hub, "cam-3")
    switched.take(Step.UNDO, NOW)
    name_roots(hub_directory, "root.crt")
    tell(hub, "cam-3", targets=3)
    assert call(hub, switched) == ["cam-3"]


def test_a_look_at_the_fleet_that_finds_nobody_holds_up_no_writer(
    hub: HubServices, switched: Succession
) -> None:
    call(hub, switched)
    with hub.storage.session():
        assert call(hub, switched) == []


def test_a_fleet_is_called_a_few_at_a_time(hub: HubServices, switched: Succession) -> None:
    switched.take(Step.UNDO, NOW)
    names = [f"d-{number:02}" for number in range(BATCH + 2)]
    for name in names:
        enrolled(hub, name)
        tell(hub, name)
    switched.take(Step.SWITCH, NOW)
    first = call(hub, switched)
    assert len(first) == BATCH
    assert sorted(first + call(hub, switched)) == ["cam-1", "cam-2", *names]
