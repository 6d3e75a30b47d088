"""Assignments: numbers only grow, times are renewed, messages say what the rows say."""

from __future__ import annotations

import msgspec
import pytest

from agent.trust.admission import MAX_SEQ_LEAP
from contract.messages import FamilyAssignment, ProbationPolicy, Verb
from fleet import assignments
from fleet.assignments import (
    LIFETIME_MS,
    MAX_AHEAD,
    REISSUE_MS,
    assign,
    command,
    command_message,
    message,
    reissue_due,
    unassign,
)
from fleet.devices import remove_device
from fleet.errors import DeviceNotFound
from fleet.ports import HubServices
from fleet.storage.schema import AssignedFamily, Device
from tests.fleet.harness import DIGEST, enrolled, wanted

NOW = 1_900_000_000_000


@pytest.fixture(autouse=True)
def cam(hub: HubServices) -> None:
    enrolled(hub, "cam-1")


def test_the_message_says_what_was_assigned(hub: HubServices) -> None:
    policy = ProbationPolicy(min_inferences=50, max_latency_ratio=2.0)
    wished = FamilyAssignment(
        target="digits/2", digest=DIGEST, rollout="r7", deadline_ms=5, probation=policy
    )
    with hub.storage.session() as session:
        assign(session, "cam-1", "digits", wished, NOW)

    with hub.storage.reading() as session:
        found = message(session, session.get_one(Device, "cam-1"))
    assert found.families == {"digits": wished}
    assert (found.device, found.seq, found.issued_at_ms) == ("cam-1", 1, NOW)
    assert found.expires_at_ms == NOW + LIFETIME_MS


def test_a_budget_is_assigned_and_gone_with_the_next_assignment(hub: HubServices) -> None:
    metered = msgspec.structs.replace(wanted(), metered_bytes=20_000_000)
    for wished in (metered, wanted("digits/2")):
        with hub.storage.session() as session:
            assign(session, "cam-1", "digits", wished, NOW)
        with hub.storage.reading() as session:
            found = message(session, session.get_one(Device, "cam-1"))
        assert found.families == {"digits": wished}


def test_each_change_takes_the_next_number(hub: HubServices) -> None:
    with hub.storage.session() as session:
        first = assign(session, "cam-1", "digits", wanted(), NOW)
        second = assign(session, "cam-1", "words", wanted("words/1"), NOW)
        third = unassign(session, "cam-1", "words", NOW)

    assert (first, second, third) == (1, 2, 3)
    with hub.storage.reading() as session:
        assert list(message(session, session.get_one(Device, "cam-1")).families) == ["digits"]
        assert session.get_one(AssignedFamily, ("cam-1", "digits")).seq == 1


def test_a_device_that_lies_does_not_use_up_the_numbers_of_its_name(hub: HubServices) -> None:
    """A machine that comes in its place knows none, and refuses one that leaps."""
    for lies in range(1, 11):
        with hub.storage.session() as session:
            session.get_one(Device, "cam-1").reported_seq = 1 << 53
            seq = assign(session, "cam-1", "digits", wanted(), NOW)
            assert seq == lies * (MAX_AHEAD + 1)
    assert seq < MAX_SEQ_LEAP


def test_a_hub_restored_from_a_backup_goes_on_above_what_the_device_reports(
    hub: HubServices,
) -> None:
    with hub.storage.session() as session:
        session.get_one(Device, "cam-1").reported_seq = 40
        assert assign(session, "cam-1", "digits", wanted(), NOW) == 41


def test_assigning_again_replaces_what_the_family_had(hub: HubServices) -> None:
    with hub.storage.session() as session:
        assign(session, "cam-1", "digits", wanted("digits/1"), NOW)
        session.flush()
        assign(session, "cam-1", "digits", wanted("digits/2"), NOW)

    with hub.storage.reading() as session:
        found = message(session, session.get_one(Device, "cam-1"))
    assert [family.target for family in found.families.values()] == ["digits/2"]


def test_a_removed_device_is_assigned_nothing(hub: HubServices) -> None:
    remove_device(hub, "cam-1")

    with hub.storage.session() as session, pytest.raises(DeviceNotFound):
        assign(session, "cam-1", "digits", wanted(), NOW)


def test_an_assignment_is_issued_anew_under_the_same_number_before_it_expires(
    hub: HubServices,
) -> None:
    with hub.storage.session() as session:
        assign(session, "cam-1", "digits", wanted(), NOW)
    later = NOW + LIFETIME_MS - REISSUE_MS + 1

    with hub.storage.session() as session:
        assert reissue_due(session, NOW) == 0
        assert reissue_due(session, later) == 1
        assert reissue_due(session, later) == 0

    with hub.storage.reading() as session:
        row = session.get_one(Device, "cam-1")
        assert (row.assignment_seq, row.assignment_expires_at_ms) == (1, later + LIFETIME_MS)


def test_a_device_that_was_assigned_nothing_is_not_issued_anew(hub: HubServices) -> None:
    with hub.storage.session() as session:
        assert reissue_due(session, NOW) == 0


def test_a_command_expires_and_has_an_id_of_its_own(hub: HubServices) -> None:
    with hub.storage.session() as session:
        rows = [command(session, "cam-1", Verb.ROLLBACK, "digits", NOW) for _ in range(2)]
        first, second = map(command_message, rows)

    assert first.id != second.id
    assert (first.verb, first.family, first.device) == (Verb.ROLLBACK, "digits", "cam-1")
    assert first.issued_at_ms == NOW < first.expires_at_ms


def test_a_large_fleet_is_issued_anew_in_parts(
    hub: HubServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assignments, "REISSUED_AT_ONCE", 2)
    for name in ("cam-2", "cam-3"):
        enrolled(hub, name)
    with hub.storage.session() as session:
        for name in ("cam-1", "cam-2", "cam-3"):
            assign(session, name, "digits", wanted(), NOW)

    with hub.storage.session() as session:
        assert [reissue_due(session, NOW + LIFETIME_MS) for _ in range(3)] == [2, 1, 0]
