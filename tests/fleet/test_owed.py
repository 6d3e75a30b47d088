"""What the broker is owed: exactly what it does not hold, until it was sent."""

from __future__ import annotations

import pytest

from contract.envelope import key_id, open_sealed
from contract.messages import Assignment, Command, Verb
from fleet import owed
from fleet.assignments import COMMAND_LIFETIME_MS, assign, command, unassign
from fleet.devices import add_device, remove_device
from fleet.ports import HubServices
from fleet.releases import find_release, publish_bundle
from fleet.storage.schema import Rollout
from tests.fleet.harness import HubDirectory, enrolled, wanted

EPOCH, OTHER = "a" * 32, "b" * 32
NOW = 1_900_000_000_000


def blobs(hub: HubServices, epoch: str = EPOCH) -> set[str]:
    with hub.storage.reading() as session:
        return set(owed.owed_blobs(session, epoch))


def give(hub: HubServices, device: str, target: str = "digits/1") -> None:
    with hub.storage.session() as session:
        assign(session, device, "digits", wanted(target), NOW)


def mark(hub: HubServices, digests: set[str], epoch: str = EPOCH) -> None:
    with hub.storage.session() as session:
        owed.mark_blobs(session, sorted(digests), epoch)


def assignments(hub: HubServices, epoch: str = EPOCH) -> list[owed.Sealed]:
    with hub.storage.reading() as session:
        return owed.owed_assignments(session, epoch, hub.repository.assignment_key())


@pytest.fixture
def released(hub: HubServices, hub_directory: HubDirectory) -> None:
    """digits/1 and digits/2 share their weights, and so most blobs."""
    for version in ("1", "2"):
        publish_bundle(hub, hub_directory.signed("digits", version), "operator")
    enrolled(hub, "cam-1")


@pytest.mark.usefixtures("released")
def test_blobs_of_an_assigned_release_are_owed_until_marked(hub: HubServices) -> None:
    assert blobs(hub) == set()
    give(hub, "cam-1")

    found = blobs(hub)
    assert found
    mark(hub, found)

    assert blobs(hub) == set()
    assert blobs(hub, OTHER) == found  # a broker that lost its memory


@pytest.mark.usefixtures("released")
def test_a_blob_that_two_releases_share_is_owed_once(hub: HubServices) -> None:
    give(hub, "cam-1", "digits/1")
    first = blobs(hub)
    mark(hub, first)
    give(hub, "cam-1", "digits/2")

    second = blobs(hub)

    assert len(second) == 1  # the manifest
    assert not second & first


@pytest.mark.usefixtures("released")
def test_blobs_of_an_open_rollout_are_owed_before_anybody_is_assigned(hub: HubServices) -> None:
    rollout = Rollout(
        id="r1",
        kind="rollout",
        family="digits",
        target="digits/1",
        digest="a" * 64,
        selector="all",
        spec={},
        status="running",
        created_at_ms=NOW,
        created_by="operator",
        updated_at_ms=NOW,
    )
    with hub.storage.session() as session:
        session.add(rollout)
    assert blobs(hub)

    with hub.storage.session() as session:
        session.get_one(Rollout, "r1").finished_at_ms = NOW
    assert blobs(hub) == set()


@pytest.mark.usefixtures("released")
def test_a_release_that_nobody_needs_is_cleared_of_what_no_other_has(hub: HubServices) -> None:
    for target in ("digits/1", "digits/2"):
        give(hub, "cam-1", target)
        mark(hub, blobs(hub))
    with hub.storage.session() as session:
        assert owed.unneeded_releases(session, EPOCH) == ["digits/1"]
        owed.start_clearing(session, ["digits/1"], EPOCH)
    with hub.storage.session() as session:
        leaving = owed.owed_blob_clearings(session)
        cleared = set(leaving) - owed.held_blobs(session, leaving, EPOCH)
        owed.mark_blobs_cleared(session, leaving)
        assert owed.owed_blob_clearings(session) == []

    assert len(cleared) == 1  # digits/1's manifest: the rest is digits/2's too
    assert blobs(hub) == set()
    give(hub, "cam-1", "digits/1")
    assert blobs(hub) == cleared


@pytest.mark.usefixtures("released")
def test_a_clearing_that_was_not_sent_stays_owed_over_a_crash(hub: HubServices) -> None:
    give(hub, "cam-1", "digits/1")
    mark(hub, blobs(hub))
    give(hub, "cam-1", "digits/2")
    with hub.storage.session() as session:
        owed.start_clearing(session, ["digits/1"], EPOCH)
    # The hub dies here; the next one looks into the database.
    with hub.storage.reading() as session:
        assert owed.unneeded_releases(session, EPOCH) == []
        assert owed.owed_blob_clearings(session)


@pytest.mark.usefixtures("released")
def test_what_is_needed_again_while_it_is_cleared_is_owed_again(hub: HubServices) -> None:
    give(hub, "cam-1", "digits/1")
    mark(hub, blobs(hub))
    with hub.storage.session() as session:
        owed.start_clearing(session, ["digits/1"], EPOCH)

    again = blobs(hub)
    assert len(again) == 1  # digits/1's manifest: the rest is held for digits/2 too
    mark(hub, again)
    with hub.storage.session() as session:
        leaving = owed.owed_blob_clearings(session)
        assert owed.held_blobs(session, leaving, EPOCH) == set(leaving)


@pytest.mark.usefixtures("released")
def test_an_assignment_is_owed_until_its_number_is_held(hub: HubServices) -> None:
    give(hub, "cam-1")
    (first,) = assignments(hub)
    give(hub, "cam-1", "digits/2")  # while the first is on its way
    with hub.storage.session() as session:
        owed.mark_assignments(session, [first], EPOCH)

    (second,) = assignments(hub)
    assert (first.mark, second.mark) == (1, 2)
    with hub.storage.session() as session:
        owed.mark_assignments(session, [second], EPOCH)

    assert assignments(hub) == []
    assert [each.mark for each in assignments(hub, OTHER)] == [2]


@pytest.mark.usefixtures("released")
def test_an_assignment_is_signed_with_the_assignment_key(hub: HubServices) -> None:
    give(hub, "cam-1")
    key = hub.repository.assignment_key().public_key()

    found = open_sealed((Assignment,), assignments(hub)[0].payload, {key_id(key): key})

    assert isinstance(found, Assignment)
    assert list(found.families) == ["digits"]


def test_a_device_that_has_not_enrolled_is_owed_nothing_yet(hub: HubServices) -> None:
    add_device(hub, "cam-1", "generic", {})
    give(hub, "cam-1")

    assert assignments(hub) == []


@pytest.mark.usefixtures("released")
def test_a_removed_device_is_owed_the_clearing_of_its_topics_once_an_epoch(
    hub: HubServices,
) -> None:
    give(hub, "cam-1")
    remove_device(hub, "cam-1")
    with hub.storage.session() as session:
        assert owed.owed_clearings(session, EPOCH) == ["cam-1"]
        owed.mark_cleared(session, ["cam-1"], EPOCH)

        assert owed.owed_clearings(session, EPOCH) == []
        assert owed.owed_clearings(session, OTHER) == ["cam-1"]
    assert assignments(hub) == []


@pytest.mark.usefixtures("released")
def test_a_command_is_owed_until_it_was_sent_or_expired(hub: HubServices) -> None:
    key = hub.repository.assignment_key()
    with hub.storage.session() as session:
        for _ in range(2):
            command(session, "cam-1", Verb.REPORT, None, NOW)
    with hub.storage.session() as session:
        sent = owed.owed_commands(session, key, NOW)
        owed.mark_commands(session, sent[:1], NOW)
        left = owed.owed_commands(session, key, NOW)

        assert (len(sent), [each.mark for each in left]) == (2, [sent[1].mark])
        assert owed.owed_commands(session, key, NOW + COMMAND_LIFETIME_MS) == []
    public = key.public_key()
    found = open_sealed((Command,), sent[0].payload, {key_id(public): public})
    assert isinstance(found, Command)


@pytest.mark.usefixtures("released")
def test_a_device_may_have_what_it_is_assigned_and_nothing_else(hub: HubServices) -> None:
    give(hub, "cam-1", "digits/1")
    digests = sorted(blobs(hub))
    enrolled(hub, "cam-2")

    with hub.storage.reading() as session:
        assert sorted(owed.allowed_blobs(session, "cam-1", "digits/1", digests)) == digests
        assert owed.allowed_blobs(session, "cam-1", "digits/1", ["0" * 64]) == []
        assert owed.allowed_blobs(session, "cam-1", "digits/2", digests) == []
        assert owed.allowed_blobs(session, "cam-2", "digits/1", digests) == []
    with hub.storage.session() as session:
        unassign(session, "cam-1", "digits", NOW)
    with hub.storage.reading() as session:
        assert owed.allowed_blobs(session, "cam-1", "digits/1", digests) == []


@pytest.mark.usefixtures("released")
def test_of_a_release_too_large_for_the_broker_only_the_manifest_is_retained(
    hub: HubServices,
) -> None:
    give(hub, "cam-1", "digits/1")
    every = sorted(blobs(hub))
    with hub.storage.reading() as session:
        release = find_release(session, "digits/1")
        at, below = release.bundle_bytes, release.bundle_bytes - 1

        assert sorted(owed.owed_blobs(session, EPOCH, at)) == every
        assert owed.owed_blobs(session, EPOCH, below) == [release.digest]
        asked = ("cam-1", "digits/1", every)
        assert sorted(owed.allowed_blobs(session, *asked, at)) == every
        assert owed.allowed_blobs(session, *asked, below) == [release.digest]


@pytest.mark.usefixtures("released")
def test_what_a_small_release_shares_with_a_large_one_is_retained(hub: HubServices) -> None:
    give(hub, "cam-1", "digits/1")
    first = blobs(hub)
    give(hub, "cam-1", "digits/2")
    with hub.storage.session() as session:
        find_release(session, "digits/1").bundle_bytes = 1 << 40
        assert set(owed.owed_blobs(session, EPOCH, 1 << 30)) & first


@pytest.mark.usefixtures("released")
def test_a_device_removed_while_its_assignment_was_sent_is_still_owed_a_clearing(
    hub: HubServices,
) -> None:
    give(hub, "cam-1")
    sent = assignments(hub)

    remove_device(hub, "cam-1")
    with hub.storage.session() as session:
        owed.mark_assignments(session, sent, EPOCH)

    with hub.storage.reading() as session:
        assert owed.owed_clearings(session, EPOCH) == ["cam-1"]
