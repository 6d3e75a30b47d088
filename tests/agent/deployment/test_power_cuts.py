"""Power goes at every named point of an update, forward and back; the device always comes right.

Each cut is a real process that ends without a word (`os._exit`) in the middle of what it does; the
next life finds only what is on disk. What a file system loses that was not synced is not shown
here.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from agent.deployment.drafts import EventDraft, encode_draft
from agent.deployment.state import RUNNING, Stage
from agent.errors import DeviceError, OutOfMemory
from agent.store.serving_file import read_serving
from contract.deployments import Outcome
from model.installed import open_installed
from tests.agent.deployment.device import FAMILY, Device
from tests.agent.deployment.releases import Released
from tests.agent.deployment.simulators import SimulatedHub

POWER_CUT = 42
Scenario = Callable[[Device, Released, Released], None]


class Outbox:
    """Rows in a file, one a line; a key that is there already is not taken again."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def take(self, draft: EventDraft) -> None:
        line = encode_draft(draft) + b"\n"
        if self.path.exists() and line in self.path.read_bytes().splitlines(keepends=True):
            return
        with self.path.open("ab") as file:
            file.write(line)
            file.flush()

    def rows(self) -> list[EventDraft]:
        lines = self.path.read_bytes().splitlines()
        return [msgspec.json.decode(line, type=EventDraft) for line in lines]


def update(device: Device, v1: Released, v2: Released) -> None:
    """v2 over v1, up to its commit."""
    device.assign(v2, seq=2)
    device.settle()
    if device.state().stage is Stage.PROBATION:
        device.model.answer(100)
        device.tick()


def collapse(device: Device, v1: Released, v2: Released) -> None:
    """v2 over v1, and back, since its answers collapse."""
    device.assign(v2, seq=2)
    device.settle()
    if device.state().stage is Stage.PROBATION:
        device.model.answer(60)
        device.model.classes = [0, 0, 60]
        device.tick()


def refused(device: Device, v1: Released, v2: Released) -> None:
    """v2 passes its trial and then cannot be loaded beside v1."""
    error: DeviceError = OutOfMemory("no memory")
    device.server.refuses[v2.digest] = error
    device.assign(v2, seq=2)
    device.settle()


SCENARIOS: dict[str, tuple[Scenario, Outcome, bool]] = {
    "update": (update, Outcome.SUCCEEDED, True),
    "collapse": (collapse, Outcome.ROLLED_BACK, False),
    "refused": (refused, Outcome.ROLLED_BACK, False),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_power_cut_at_any_point_leaves_a_whole_release_serving_and_the_end_is_reached(
    name: str, tmp_path: Path, hub: SimulatedHub, v1: Released, v2: Released
) -> None:
    scenario, expected, serves_new = SCENARIOS[name]
    points = count_points(tmp_path / "count", hub, scenario, v1, v2)
    assert len(points) > 25, points
    for cut in range(1, len(points) + 1):
        directory = tmp_path / f"cut-{cut}"
        prepare(directory, hub, v1)
        code = in_a_process(lambda: run_until(directory, hub, scenario, v1, v2, cut))  # noqa: B023 - called at once
        where = f"{name}, cut {cut} at {points[cut - 1]}"
        assert code == POWER_CUT, where
        require_whole(directory, {v1.digest, v2.digest}, where)
        outbox = Outbox(directory / "outbox")
        device = Device(directory, hub, emit=outbox.take)
        require_whole(directory, {v1.digest, v2.digest}, where)
        for _ in range(4):
            scenario(device, v1, v2)
            if device.state().seq == 2 and device.state().stage not in RUNNING:
                break
        wanted = v2.digest if serves_new else v1.digest
        assert device.model.digest == wanted, where
        entry = device.entry
        assert entry is not None
        assert (entry.digest, entry.probation) == (wanted, False), where
        ends = [row for row in outbox.rows() if row.assignment_seq == 2 and row.outcome]
        assert [row.outcome for row in ends] == [expected], where
        device.journal.close()


def prepare(directory: Path, hub: SimulatedHub, v1: Released) -> None:
    """A device that serves v1, in a process of its own, so that no lock or thread is inherited."""
    directory.mkdir()

    def serve() -> None:
        device = Device(directory, hub, emit=Outbox(directory / "outbox").take)
        device.serve(v1, seq=1)
        device.settle()
        device.journal.close()

    assert in_a_process(serve) == 0


def count_points(
    directory: Path, hub: SimulatedHub, scenario: Scenario, v1: Released, v2: Released
) -> list[str]:
    """The names of all points that a run passes, in order."""
    prepare(directory, hub, v1)
    points: list[str] = []
    device = Device(directory, hub, points.append, Outbox(directory / "outbox").take)
    scenario(device, v1, v2)
    device.journal.close()
    return points


def run_until(
    directory: Path,
    hub: SimulatedHub,
    scenario: Scenario,
    v1: Released,
    v2: Released,
    cut: int,
) -> None:
    """Run, and end at the `cut`-th point as a power cut does."""
    passed = 0

    def checkpoint(name: str) -> None:
        nonlocal passed
        passed += 1
        if passed == cut:
            os._exit(POWER_CUT)

    device = Device(directory, hub, checkpoint, Outbox(directory / "outbox").take)
    scenario(device, v1, v2)


def in_a_process(work: Callable[[], None]) -> int:
    """Fork, do it there, and give the exit code back."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001 - the child must never return into pytest
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def require_whole(directory: Path, known: set[str], where: str) -> None:
    """Serving.json names a present, digest-correct release, and so does what is behind it."""
    entry = read_serving(directory).families.get(FAMILY)
    assert entry is not None, where
    for named in (entry, entry.previous):
        if named is not None:
            assert named.digest in known, where
            open_installed(Path(named.directory), named.variant, named.digest)
