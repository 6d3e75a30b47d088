"""The guard over a real repository: good refreshes, and what one leaves behind."""

from __future__ import annotations

import pytest

from agent.errors import PolicyRefused, StaleMetadata, TransportFailed, Untrusted
from agent.trust.guard import TrustedView, TrustGuard
from agent.trust.local import install_root
from contract.envelope import key_id
from contract.messages import TufIndex
from tests.trust.ceremony import DAY_MS, HOUR_MS, START_MS, Device, World
from tests.trust.forgery import bump, forge, offline


def test_a_published_release_is_found_with_what_its_signer_vouches_for(
    world: World, device: Device
) -> None:
    accepted = world.publish("digits", "1")

    view = device.guard.refresh(["digits/1"])

    release = view.release("digits/1")
    assert release.digest == accepted.digest
    assert release.custom.counter == 1
    assert view.versions["digits"] == 2
    assert key_id(world.repository.assignment_key().public_key()) in view.hub_keys


def test_a_new_release_is_seen_at_the_next_refresh_and_the_old_one_stays(
    world: World, device: Device
) -> None:
    world.publish("digits", "1")
    device.guard.refresh(["digits/1"])
    world.publish("digits", "2")

    view = device.guard.refresh(["digits/2"])

    assert view.release("digits/2").custom.counter == 2
    assert view.release("digits/1").custom.counter == 1
    assert device.journal.versions["digits"] == 3


def test_a_refresh_without_targets_looks_every_family_up(world: World, device: Device) -> None:
    world.publish("digits", "1")
    world.publish("words", "1")

    view = device.guard.refresh()

    assert {"digits/1", "words/1"} == set(view.releases)


def test_a_refresh_for_one_family_fetches_no_other(world: World, device: Device) -> None:
    world.publish("digits", "1")

    device.guard.refresh(["digits/1"])

    assert not [name for name, _ in device.source.fetched if "words" in name]


def test_an_unchanged_refresh_costs_one_small_file(world: World, device: Device) -> None:
    world.publish("digits", "1")
    device.guard.refresh(["digits/1"])
    device.source.fetched.clear()

    device.guard.refresh(["digits/1"])

    assert [name for name, _ in device.source.fetched] == ["timestamp.json"]
    assert sum(size for _, size in device.source.fetched) <= 600


def test_a_release_that_nobody_signed_is_untrusted(world: World, device: Device) -> None:
    view = device.guard.refresh(["digits/9"])

    with pytest.raises(Untrusted, match="digits/9"):
        view.release("digits/9")


def test_a_family_that_nobody_may_sign_is_untrusted(world: World, device: Device) -> None:
    with pytest.raises(Untrusted, match="plants"):
        device.guard.refresh(["plants/1"])


def test_a_hub_that_cannot_be_reached_is_a_transport_failure(world: World, device: Device) -> None:
    device.source.unreachable = True

    with pytest.raises(TransportFailed, match="no broker"):
        device.guard.refresh()


def test_a_hub_without_any_timestamp_is_a_transport_failure(world: World, device: Device) -> None:
    files = world.repository.files()
    del files["timestamp.json"]
    device.source.files = lambda: files

    with pytest.raises(TransportFailed, match=r"timestamp\.json"):
        device.guard.refresh()


def test_an_index_that_lists_nothing_can_only_withhold(world: World, device: Device) -> None:
    device.source.files = lambda: {}
    assert device.source.index() == TufIndex(files={}, at_ms=0)

    with pytest.raises(TransportFailed):
        device.guard.refresh()


def test_a_device_that_was_never_enrolled_trusts_nobody(world: World, device: Device) -> None:
    (device.directory / "anchor.json").unlink()

    with pytest.raises(Untrusted, match="enrol"):
        device.guard.refresh()


def test_the_journal_is_raised_by_a_good_refresh(world: World, device: Device) -> None:
    device.guard.refresh(["digits/1"])

    assert device.journal.versions["timestamp"] == 1
    assert device.journal.versions["root"] == 1
    assert device.journal.floor_ms == START_MS


def test_the_floor_of_a_family_never_falls(world: World, device: Device) -> None:
    device.guard.refresh()
    device.journal.counters["digits"] = 5

    assert device.guard.refresh().min_counter("digits") == 5
    assert device.journal.counters["digits"] == 5


def test_a_family_in_trouble_does_not_stop_another(world: World, device: Device) -> None:
    world.publish("digits", "1")
    world.now_ms += 60 * DAY_MS
    world.publish("words", "1")
    world.now_ms += 29 * DAY_MS
    world.repository.sign_online(world.now_ms)
    _renew_targets(world)
    world.now_ms += 2 * DAY_MS
    world.repository.sign_online(world.now_ms)

    view = device.guard.refresh(["digits/1", "words/1"])

    assert view.release("words/1").custom.counter == 1
    with pytest.raises(StaleMetadata):
        view.release("digits/1")


def test_the_only_family_that_was_asked_for_is_refused_at_once(
    world: World, device: Device
) -> None:
    world.publish("digits", "1")
    world.now_ms += 89 * DAY_MS
    _renew_targets(world)
    world.now_ms += 2 * DAY_MS
    world.repository.sign_online(world.now_ms)

    with pytest.raises(StaleMetadata, match="digits"):
        device.guard.refresh(["digits/1"])


def test_every_refresh_that_succeeds_is_told_and_no_other(world: World, device: Device) -> None:
    told: list[TrustedView] = []
    guard = TrustGuard(
        device.directory, device.journal, device.source, device.now_ms, 0, learned=told.append
    )
    world.publish("digits", "1")
    routine, asked = guard.refresh(), guard.refresh(["digits/1"])
    assert told == [routine, asked]

    device.source.unreachable = True
    with pytest.raises(TransportFailed):
        guard.refresh()
    assert len(told) == 2


def test_a_refused_family_does_not_hide_what_the_fleet_says(world: World, device: Device) -> None:
    """The roots of policy/ca are followed all the same."""
    told: list[TrustedView] = []
    guard = TrustGuard(
        device.directory, device.journal, device.source, device.now_ms, 0, learned=told.append
    )
    world.publish("digits", "1")
    world.now_ms += 89 * DAY_MS
    _renew_targets(world)
    world.now_ms += 2 * DAY_MS
    world.repository.sign_online(world.now_ms)

    with pytest.raises(StaleMetadata, match="digits"):
        guard.refresh(["digits/1"])
    assert [view.versions["targets"] for view in told] == [2]


# Without the network


def test_the_last_good_view_needs_no_network(world: World, device: Device) -> None:
    world.publish("digits", "1")
    seen = device.guard.refresh(["digits/1"])
    device.source.unreachable = True
    world.now_ms += 400 * DAY_MS

    view = device.guard.cached_view()

    assert view is not None
    assert view.release("digits/1") == seen.release("digits/1")
    assert view.hub_keys.keys() == seen.hub_keys.keys()
    assert view.now_ms == world.now_ms


def test_before_the_first_refresh_there_is_no_view(world: World, device: Device) -> None:
    assert device.guard.cached_view() is None


@pytest.mark.parametrize("damage", [b"", b"torn", b"0" * 64 + b"\n{}"])
def test_a_torn_record_is_no_view(world: World, device: Device, damage: bytes) -> None:
    device.guard.refresh()
    (device.directory / "last-good.view").write_bytes(damage)

    assert device.guard.cached_view() is None
    assert device.guard.refresh().hub_keys


def test_a_record_older_than_the_journal_is_no_view(world: World, device: Device) -> None:
    device.guard.refresh()
    old = (device.directory / "last-good.view").read_bytes()
    world.now_ms += 7 * HOUR_MS
    world.repository.sign_online(world.now_ms)
    device.guard.refresh()
    (device.directory / "last-good.view").write_bytes(old)

    assert device.guard.cached_view() is None


def test_the_view_keeps_a_family_that_this_refresh_did_not_ask_for(
    world: World, device: Device
) -> None:
    world.publish("digits", "1")
    world.publish("words", "1")
    device.guard.refresh(["digits/1"])

    device.guard.refresh(["words/1"])

    view = device.guard.cached_view()
    assert view is not None
    assert view.release("digits/1").custom.family == "digits"


def test_the_view_forgets_a_family_that_has_changed_since(world: World, device: Device) -> None:
    world.publish("digits", "1")
    device.guard.refresh(["digits/1"])
    world.publish("digits", "2")

    device.guard.refresh(["words/1"])

    view = device.guard.cached_view()
    assert view is not None
    with pytest.raises(Untrusted):
        view.release("digits/1")


# Enrolment


def test_enrolling_again_starts_from_the_new_root(world: World, device: Device) -> None:
    device.guard.refresh()

    install_root(device.directory, world.repository.files()["1.root.json"])

    assert [path.name for path in device.directory.iterdir() if path.is_file()] == ["anchor.json"]
    assert device.guard.refresh().versions["root"] == 1


def test_a_root_with_too_few_signatures_is_not_installed(world: World, device: Device) -> None:
    root = world.repository.files()["1.root.json"]
    forged = forge(root, lambda signed: None, offline(world, "root-1"))

    with pytest.raises(Untrusted):
        install_root(device.directory, forged)
    assert (device.directory / "anchor.json").read_bytes() == root


def test_admission_uses_the_view_s_words(world: World, device: Device) -> None:
    from agent.trust.guard import admit
    from contract.messages import FamilyAssignment

    world.publish("digits", "1")
    release = device.guard.refresh(["digits/1"]).release("digits/1")
    wanted = FamilyAssignment(target="digits/1", digest=release.digest, rollout="r1")

    admit(release, wanted, "pi4", 1)
    with pytest.raises(PolicyRefused, match="floor is 2"):
        admit(release, wanted, "pi4", 2)


def _renew_targets(world: World) -> None:
    """A new targets.json that lasts another 90 days, handed to the hub."""
    from contract.trust import encode_trust
    from converter.trust.metadata import expiry

    files = world.repository.files()
    name = next(n for n in files if n.endswith(".targets.json"))

    def renew(signed: object) -> None:
        bump(signed)
        signed.expires = expiry(world.now_ms, 90 * DAY_MS)  # type: ignore[attr-defined]  # Targets

    files[f"{int(name.split('.')[0]) + 1}.targets.json"] = forge(
        files.pop(name), renew, offline(world, "targets-1")
    )
    offered = {n: d for n, d in files.items() if n != "timestamp.json" and "snapshot" not in n}
    world.repository.import_trust(encode_trust(offered))
    world.repository.sign_online(world.now_ms)
