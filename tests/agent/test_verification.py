"""What the main loop may believe: real signed metadata, a refresh that the test drives."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from agent.errors import DeviceError, Malformed, PolicyRefused, RollbackDetected, Untrusted
from agent.link.backoff import Backoff
from agent.link.inbox import Received
from agent.verification import OneAtATime, Refreshed, Timing, Verifier
from contract.envelope import seal
from contract.messages import Assignment, Command, Verb
from contract.topics import Channel
from tests.agent.wire import eventually
from tests.trust.ceremony import HOUR_MS, START_MS, Device, World, new_world

TIMING = Timing(3600.0, 100.0, Backoff(first_s=2.0, most_s=8.0))


@pytest.fixture
def world(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    return new_world(tmp_path / "world", lambda: tmp_path_factory.mktemp("template"))


@pytest.fixture
def device(world: World, tmp_path: Path) -> Device:
    return Device(world, tmp_path / "tuf")


class Loop:
    """The main loop's part: it holds the clock, and takes the refreshes' results."""

    def __init__(self, device: Device, known_seq: int = 0) -> None:
        self.results: list[Refreshed] = []
        self.verifier = Verifier(
            OneAtATime(device.guard),
            "pi-1",
            lambda: known_seq,
            self.results.append,
            TIMING,
            now_s=0.0,
            chance=lambda: 1.0,
        )

    def refresh(self, now_s: float) -> tuple[list[Any], list[tuple[Channel, DeviceError]]]:
        """Let a refresh that is due happen; nothing when none is due."""
        self.verifier.tick(now_s)
        if self.verifier._thread is None:
            return [], []
        eventually(lambda: bool(self.results))
        return self.verifier.refreshed(self.results.pop(), now_s)


def assignment(world: World, seq: int = 1, device: str = "pi-1", **more: int) -> Received:
    message = Assignment(
        device=device,
        seq=seq,
        issued_at_ms=world.now_ms,
        expires_at_ms=more.get("expires_at_ms", world.now_ms + HOUR_MS),
    )
    return Received(Channel.ASSIGNMENT, seal(message, world.repository.assignment_key()))


def command(world: World, name: str = "c-1") -> Received:
    message = Command(
        device="pi-1",
        id=name,
        verb=Verb.REPORT,
        issued_at_ms=world.now_ms,
        expires_at_ms=world.now_ms + HOUR_MS,
    )
    return Received(Channel.COMMAND, seal(message, world.repository.assignment_key()))


def test_the_first_assignment_waits_for_the_first_refresh(world: World, device: Device) -> None:
    loop = Loop(device)
    assert loop.verifier.open(assignment(world)) is None
    (good,), refused = loop.refresh(0.0)
    assert (good.seq, refused) == (1, [])
    assert not loop.verifier.holds_something


def test_afterwards_no_network_is_needed(world: World, device: Device) -> None:
    loop = Loop(device)
    loop.verifier.open(assignment(world))
    loop.refresh(0.0)
    device.source.unreachable = True
    again = Loop(device)  # as after a restart
    opened = again.verifier.open(assignment(world, seq=2))
    assert isinstance(opened, Assignment)
    assert isinstance(again.verifier.open(command(world)), Command)
    assert again.verifier.versions["timestamp"] == 1


def test_without_the_hub_the_newest_assignment_is_kept_and_tried_later(
    world: World, device: Device
) -> None:
    device.source.unreachable = True
    loop = Loop(device)
    loop.verifier.open(assignment(world, seq=1))
    loop.verifier.open(assignment(world, seq=2))
    assert loop.refresh(0.0) == ([], [])
    assert "no broker" in loop.verifier.last_error
    device.source.unreachable = False
    assert loop.refresh(1.9) == ([], []), "the backoff is not over"
    (good,), _ = loop.refresh(2.0)
    assert good.seq == 2
    assert loop.verifier.last_error == ""


def test_what_only_a_stranger_signed_is_refused_after_one_refresh(
    world: World, device: Device, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    loop = Loop(device)
    loop.verifier.open(assignment(world))
    loop.refresh(0.0)
    other = World(tmp_path / "other")
    other.repository.create_online_keys()
    assert loop.verifier.open(assignment(other, seq=5)) is None
    good, refused = loop.refresh(1.0)
    assert good == []
    assert [(c, type(e)) for c, e in refused] == [(Channel.ASSIGNMENT, Untrusted)]


def test_garbage_causes_no_storm_of_refreshes(world: World, device: Device, tmp_path: Path) -> None:
    loop = Loop(device)
    loop.verifier.open(assignment(world))
    loop.refresh(0.0)
    other = World(tmp_path / "other")
    other.repository.create_online_keys()
    refreshed_at = []
    for second in range(1, 60):
        loop.verifier.open(assignment(other, seq=second))
        if loop.refresh(float(second))[1]:
            refreshed_at.append(second)
    assert refreshed_at == [1, 3, 7, 15, 23, 31, 39, 47, 55]


@pytest.mark.parametrize(
    ("received", "error"),
    [
        (lambda w: assignment(w, seq=3), RollbackDetected),
        (lambda w: assignment(w, seq=9, device="pi-2"), PolicyRefused),
        (lambda w: assignment(w, seq=9, expires_at_ms=START_MS - 1), PolicyRefused),
        (lambda _: Received(Channel.ASSIGNMENT, b"garbage"), Malformed),
        (lambda w: Received(Channel.COMMAND, assignment(w, seq=9).payload), Malformed),
    ],
    ids=["older", "another-device", "expired", "garbage", "wrong-kind"],
)
def test_genuine_is_not_enough(
    world: World, device: Device, received: Any, error: type[DeviceError]
) -> None:
    Loop(device).verifier._guard.refresh()
    loop = Loop(device, known_seq=5)
    with pytest.raises(error):
        loop.verifier.open(received(world))
    assert not loop.verifier.holds_something


def test_at_most_eight_commands_wait(world: World, device: Device) -> None:
    loop = Loop(device)
    for number in range(20):
        loop.verifier.open(command(world, f"c-{number}"))
    good, _ = loop.refresh(0.0)
    assert [c.id for c in good] == [f"c-{n}" for n in range(12, 20)]


def test_routine_refreshes_are_spread_and_come_back(world: World, device: Device) -> None:
    loop = Loop(device)
    loop.refresh(99.0)
    assert device.source.fetched == []
    loop.refresh(100.0)
    assert device.source.fetched != []
    assert loop.verifier._next_routine == 100.0 + 3600.0 * 1.25


def test_a_guard_shared_by_threads_refreshes_one_at_a_time(device: Device) -> None:
    shared = OneAtATime(device.guard)
    with shared._lock:
        loop = Loop(device)
        loop.verifier._guard = shared
        loop.verifier.tick(1e9)
        time.sleep(0.05)
        assert loop.results == []
    eventually(lambda: bool(loop.results))
    loop.verifier.stop()
