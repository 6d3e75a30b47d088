"""The fetch by itself: room, hardware, lies in a manifest, and being stopped in the middle."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from agent.deployment import fetching
from agent.deployment.fetching import FetchCancelled, FetchParts, Tally, fetch_release
from agent.errors import (
    DiskFull,
    Incompatible,
    Malformed,
    OverBudget,
    PolicyRefused,
    StaleMetadata,
    TransportFailed,
)
from agent.journal import Journal
from agent.store.install import install
from agent.store.layout import Layout, variant_files
from contract.deployments import Cause
from contract.ids import digest_of
from contract.manifest import Requirements
from contract.messages import FamilyAssignment
from model.chunks import frame
from tests.agent.deployment.device import FAMILY, HARDWARE
from tests.agent.deployment.releases import VARIANT, Released, make_release
from tests.agent.deployment.simulators import SimulatedHub


@pytest.fixture
def parts(tmp_path: Path, hub: SimulatedHub) -> FetchParts:
    layout = Layout(tmp_path)
    layout.store.mkdir()
    layout.staging.mkdir()
    journal = Journal(tmp_path / "journal.sqlite")
    return FetchParts(layout, journal, hub, hub, HARDWARE, None, lambda name: None, Tally())


def fetch(parts: FetchParts, released: Released, pinned: tuple[str, ...] = ()) -> str:
    wanted = FamilyAssignment(target=released.target, digest=released.digest, rollout="r")
    return fetch_release(parts, wanted, pinned, lambda: False, lambda: None)


def installed(parts: FetchParts, released: Released) -> Path:
    fetch(parts, released)
    return install(parts.layout, FAMILY, released.digest, VARIANT)


def test_what_is_installed_is_not_fetched_again(
    parts: FetchParts, hub: SimulatedHub, v1: Released
) -> None:
    installed(parts, v1)
    hub.asked.clear()
    assert fetch(parts, v1) == VARIANT
    assert hub.asked == []


def test_an_installed_release_that_is_damaged_is_fetched_anew(
    parts: FetchParts, hub: SimulatedHub, v1: Released
) -> None:
    directory = installed(parts, v1)
    (directory / "files" / v1.variant.model.path).write_bytes(b"damaged")
    installed(parts, v1)
    assert fetch(parts, v1) == VARIANT


def test_a_variant_that_does_not_run_here_is_incompatible_with_the_reason(
    parts: FetchParts, hub: SimulatedHub, tmp_path: Path
) -> None:
    other = make_release(tmp_path, "7", requires=Requirements(machines=["armv7l"]))
    hub.publish(other)
    with pytest.raises(Incompatible, match="needs armv7l, this is x86_64"):
        fetch(parts, other)
    assert len(hub.asked) == 1, "the manifest alone"


def test_a_manifest_of_another_release_is_malformed(
    parts: FetchParts, hub: SimulatedHub, v1: Released
) -> None:
    signed = hub.releases["digits/1"]
    hub.releases["digits/9"] = type(signed)("digits/9", v1.digest, signed.length, signed.custom)
    wanted = FamilyAssignment(target="digits/9", digest=v1.digest, rollout="r")
    with pytest.raises(Malformed, match="says that it is digits/1"):
        fetch_release(parts, wanted, (), lambda: False, lambda: None)


def test_bytes_that_are_no_manifest_are_malformed(
    parts: FetchParts, hub: SimulatedHub, v1: Released
) -> None:
    data = b'{"schema": 1}'
    signed = hub.releases["digits/1"]
    hub.releases["digits/1"] = type(signed)("digits/1", digest_of(data), len(data), signed.custom)
    hub.payloads[digest_of(data)] = frame(data)
    wanted = FamilyAssignment(target="digits/1", digest=digest_of(data), rollout="r")
    with pytest.raises(Malformed, match="manifest"):
        fetch_release(parts, wanted, (), lambda: False, lambda: None)


def test_no_room_is_said_before_anything_is_written(
    parts: FetchParts, hub: SimulatedHub, v1: Released, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.store.space.MARGIN_BYTES", 1 << 60)
    with pytest.raises(DiskFull, match="are free on this disk"):
        fetch(parts, v1)
    staged = parts.layout.staged(v1.digest)
    assert not (staged / "files").exists()


def test_releases_that_nothing_needs_make_room(
    parts: FetchParts, v1: Released, v2: Released, v3: Released, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(parts, v1)
    installed(parts, v2)
    asked: list[int] = []

    def room(directory: Path, needed: int) -> None:
        asked.append(needed)
        if len(asked) == 1:
            raise DiskFull("no room")

    monkeypatch.setattr(fetching, "require_space", room)
    fetch(parts, v3, pinned=(v1.digest,))
    assert len(asked) == 2
    assert not parts.layout.installed(FAMILY, v2.digest).exists()
    assert parts.layout.installed(FAMILY, v1.digest).exists()


def test_what_is_staged_already_is_not_asked_for_as_room_again(
    parts: FetchParts, hub: SimulatedHub, v1: Released, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch(parts, v1)
    asked: list[int] = []
    monkeypatch.setattr(fetching, "require_space", lambda directory, needed: asked.append(needed))
    os.sync()
    fetch(parts, v1)
    assert asked[0] < v1.variant.model.length


def test_a_cancelled_fetch_stops_and_keeps_what_it_has(
    parts: FetchParts, hub: SimulatedHub, v1: Released
) -> None:
    wanted = FamilyAssignment(target="digits/1", digest=v1.digest, rollout="r")
    with pytest.raises(FetchCancelled):
        fetch_release(parts, wanted, (), lambda: len(hub.asked) >= 8, lambda: None)
    fetch(parts, v1)
    assert len(hub.asked) == len(set(hub.asked))


def test_progress_is_told_once_a_fetch(parts: FetchParts, v1: Released) -> None:
    told: list[bool] = []
    wanted = FamilyAssignment(target="digits/1", digest=v1.digest, rollout="r")
    fetch_release(parts, wanted, (), lambda: False, lambda: told.append(True))
    assert told == [True]


def test_a_transfer_that_broke_is_counted_too(
    parts: FetchParts, hub: SimulatedHub, v1: Released
) -> None:
    hub.deliver_at_most = 7
    with pytest.raises(TransportFailed):
        fetch(parts, v1)
    assert parts.tally.figures()["chunks_fetched"] == 3
    assert parts.tally.figures()["bytes_fetched"] > 0


def test_stale_metadata_does_not_let_a_damaged_release_pass_offline(
    parts: FetchParts, hub: SimulatedHub, v1: Released
) -> None:
    directory = installed(parts, v1)
    hub.refresh_error = StaleMetadata("expired")
    assert fetch(parts, v1) == VARIANT
    (directory / "files" / v1.variant.model.path).write_bytes(b"damaged")
    with pytest.raises(StaleMetadata):
        fetch(parts, v1)


def on_a_metered_link(parts: FetchParts, budget: int) -> FetchParts:
    return replace(parts, budget=budget, tally=Tally())


def full(released: Released) -> int:
    return sum(ref.length for ref in variant_files(released.variant))


def test_a_release_over_the_budget_is_refused_before_its_first_chunk(
    parts: FetchParts, hub: SimulatedHub, v1: Released
) -> None:
    with pytest.raises(PolicyRefused, match=r"would cost \d+ bytes.*metered_bytes_per_release"):
        fetch(on_a_metered_link(parts, full(v1) // 2), v1)
    chunks = {c for c in v1.blobs if c != v1.digest} & set(hub.asked)
    lists = {ref.chunks.digest for ref in variant_files(v1.variant) if ref.chunks}
    assert chunks <= lists, "the manifest and the lists alone"


def test_what_is_reused_costs_nothing(
    parts: FetchParts, hub: SimulatedHub, v1: Released, v2: Released
) -> None:
    installed(parts, v1)
    metered = on_a_metered_link(parts, full(v2) - 1)
    assert fetch(metered, v2) == VARIANT
    assert metered.tally.chunks_reused > 0


def test_a_reuse_that_fails_is_no_leave_for_a_full_fetch(
    parts: FetchParts, hub: SimulatedHub, v1: Released, v2: Released
) -> None:
    directory = installed(parts, v1)
    for ref in variant_files(v1.variant):
        path = directory / "files" / ref.path
        path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(PolicyRefused):
        fetch(on_a_metered_link(parts, full(v2) - 1), v2)


def test_retries_do_not_add_up_to_more_than_the_budget(
    parts: FetchParts, hub: SimulatedHub, v1: Released
) -> None:
    hub.deliver_at_most = 7
    with pytest.raises(TransportFailed):
        fetch(parts, v1)
    hub.deliver_at_most = None
    asked = len(hub.asked)
    with pytest.raises(PolicyRefused):
        fetch(on_a_metered_link(parts, full(v1) - 1), v1)
    assert len(hub.asked) == asked
    assert fetch(on_a_metered_link(parts, 2 * full(v1)), v1) == VARIANT


def of_a_rollout(released: Released, most: int) -> FamilyAssignment:
    return FamilyAssignment(
        target=released.target, digest=released.digest, rollout="r7", metered_bytes=most
    )


def test_the_budget_of_an_assignment_is_held_before_the_first_chunk(
    parts: FetchParts, hub: SimulatedHub, v1: Released
) -> None:
    short = of_a_rollout(v1, full(v1) // 2)
    with pytest.raises(OverBudget, match="the budget of rollout r7") as refused:
        fetch_release(parts, short, (), lambda: False, lambda: None)
    assert refused.value.cause is Cause.METERED
    lists = {ref.chunks.digest for ref in variant_files(v1.variant) if ref.chunks}
    assert {c for c in v1.blobs if c != v1.digest} & set(hub.asked) <= lists
    enough = of_a_rollout(v1, 2 * full(v1))
    assert fetch_release(parts, enough, (), lambda: False, lambda: None) == VARIANT


def test_a_generous_assignment_does_not_lift_the_devices_own_bound(
    parts: FetchParts, v1: Released
) -> None:
    generous = of_a_rollout(v1, 1 << 40)
    own = on_a_metered_link(parts, full(v1) // 2)
    with pytest.raises(OverBudget, match="metered_bytes_per_release of this device"):
        fetch_release(own, generous, (), lambda: False, lambda: None)


def test_a_reuse_that_fails_is_no_leave_under_an_assignments_budget(
    parts: FetchParts, v1: Released, v2: Released
) -> None:
    directory = installed(parts, v1)
    for ref in variant_files(v1.variant):
        path = directory / "files" / ref.path
        path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(OverBudget):
        fetch_release(parts, of_a_rollout(v2, full(v2) - 1), (), lambda: False, lambda: None)
