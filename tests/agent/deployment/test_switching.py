"""Switching by itself: its order, its repetition, and a server that is not there for a while."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import structs

from agent.deployment import switching
from agent.deployment.state import Attempt, Deployment, Serving, Stage
from agent.deployment.switching import SwitchParts
from agent.errors import Crashed, OutOfMemory, Tampered
from agent.store.layout import Layout
from agent.store.serving_file import ServingEntry, set_family
from contract.messages import FamilyAssignment
from tests.agent.deployment.device import FAMILY, Device
from tests.agent.deployment.releases import VARIANT, Released
from tests.agent.deployment.simulators import SimulatedHub, SimulatedServer


class Bench:
    """Both releases installed, v1 serving; switches without a Deployer."""

    def __init__(self, state_dir: Path, hub: SimulatedHub, v1: Released, v2: Released) -> None:
        device = Device(state_dir, hub)
        device.serve(v2, seq=1)
        device.serve(v1, seq=2)
        device.settle()
        self.old, self.new = serving(v1), serving(v2)
        self.server: SimulatedServer = device.server
        self.server.calls.clear()
        self.slept = 0
        self.parts = SwitchParts(
            Layout(state_dir), self.server, self.note, patience_s=30.0, sleep=self.sleep
        )
        self.device = device
        wanted = FamilyAssignment(target=v2.target, digest=v2.digest, rollout="r")
        self.activating = Deployment(
            family=FAMILY,
            stage=Stage.ACTIVATING,
            attempt=Attempt(3, wanted),
            variant=VARIANT,
            serving=self.old,
        )
        self.restoring = Deployment(
            family=FAMILY, stage=Stage.RESTORING, attempt=Attempt(3, wanted), serving=self.old
        )

    def note(self, point: str) -> None:
        self.server.calls.append(point)

    def sleep(self, seconds: float) -> None:
        """While somebody waits, the server is started again."""
        self.slept += 1
        if not self.server.up:
            self.server.start()

    @property
    def named(self) -> str | None:
        """The digest in serving.json."""
        entry = self.device.entry
        return None if entry is None else entry.digest


def serving(released: Released) -> Serving:
    return Serving(digest=released.digest, target=released.target, variant=VARIANT, proven=True)


@pytest.fixture
def bench(tmp_path: Path, hub: SimulatedHub, v1: Released, v2: Released) -> Bench:
    return Bench(tmp_path, hub, v1, v2)


def test_forward_is_load_then_write_then_switch(bench: Bench) -> None:
    switching.activate(bench.parts, bench.activating)
    steps = [call.split()[0] for call in bench.server.calls if call not in ("status", "counters")]
    assert steps == [
        "load",
        "activate:loaded",
        "activate:written",
        "activate",
        "activate:switched",
    ]


def test_back_is_write_then_switch(bench: Bench) -> None:
    switching.activate(bench.parts, bench.activating)
    bench.server.calls.clear()
    switching.restore(bench.parts, bench.restoring)
    assert bench.server.calls[0] == "restore:written"
    assert bench.named == bench.old.digest
    assert bench.server.models[FAMILY].digest == bench.old.digest


def test_either_way_twice_is_as_good_as_once(bench: Bench) -> None:
    first = switching.activate(bench.parts, bench.activating)
    again = switching.activate(bench.parts, bench.activating)
    assert first.figures["swap_ms"] == 1.5
    assert again.figures == {}
    assert bench.server.models[FAMILY].digest == bench.new.digest
    for _ in range(2):
        switching.restore(bench.parts, bench.restoring)
        assert bench.server.models[FAMILY].digest == bench.old.digest


@pytest.mark.parametrize("error", [OutOfMemory("no memory"), Tampered("bad digest")])
def test_a_candidate_that_cannot_be_loaded_changes_nothing(
    bench: Bench, error: OutOfMemory | Tampered
) -> None:
    bench.server.refuses[bench.new.digest] = error
    with pytest.raises(type(error)):
        switching.activate(bench.parts, bench.activating)
    assert bench.named == bench.old.digest
    assert bench.server.models[FAMILY].digest == bench.old.digest


def test_a_server_that_is_being_started_is_waited_for(bench: Bench) -> None:
    bench.server.die()
    switching.activate(bench.parts, bench.activating)
    assert bench.slept == 1
    assert bench.server.models[FAMILY].digest == bench.new.digest


def test_a_server_that_dies_of_the_candidate_comes_back_with_the_old_one(bench: Bench) -> None:
    bench.server.crashes_on.add(bench.new.digest)
    with pytest.raises(Crashed):
        switching.activate(bench.parts, bench.activating)
    switching.restore(bench.parts, bench.restoring)
    assert bench.server.models[FAMILY].digest == bench.old.digest
    assert bench.named == bench.old.digest


def test_a_server_that_dies_on_the_way_back_is_waited_for_too(bench: Bench) -> None:
    switching.activate(bench.parts, bench.activating)
    bench.server.crashes_on.add(bench.old.digest)
    switching.restore(bench.parts, bench.restoring)
    assert bench.slept == 1
    assert bench.server.models[FAMILY].digest == bench.old.digest


def test_nobody_waits_while_the_process_is_ending(bench: Bench) -> None:
    bench.server.die()
    parts = SwitchParts(
        bench.parts.layout,
        bench.server,
        bench.note,
        patience_s=30.0,
        sleep=bench.sleep,
        stopping=lambda: True,
    )
    with pytest.raises(Crashed):
        switching.restore(parts, bench.restoring)
    assert bench.slept == 0
    assert bench.named == bench.old.digest


def test_settling_forgets_a_candidate_and_keeps_what_serves(bench: Bench) -> None:
    switching.load_beside(bench.parts, bench.activating)
    assert FAMILY in bench.server.candidates
    switching.settle(bench.parts, bench.restoring)
    assert FAMILY not in bench.server.candidates
    assert bench.server.models[FAMILY].digest == bench.old.digest


def test_settling_needs_no_server(bench: Bench) -> None:
    bench.server.die()
    switching.settle(bench.parts, bench.restoring)
    assert bench.named == bench.old.digest


def test_a_fallback_that_is_wanted_from_now_on_is_no_fallback_any_more(bench: Bench) -> None:
    switching.activate(bench.parts, bench.activating)
    bench.server.refuses[bench.new.digest] = Tampered("bad digest")
    entry = bench.device.entry
    assert entry is not None
    set_family(
        bench.parts.layout.state_dir, FAMILY, structs.replace(entry, previous=behind(bench, entry))
    )
    bench.server.start()
    assert bench.server.status().families[FAMILY].fallback
    switching.restore(bench.parts, bench.restoring)
    served = bench.server.status().families[FAMILY]
    assert (served.digest, served.fallback) == (bench.old.digest, False)


def behind(bench: Bench, entry: ServingEntry) -> ServingEntry:
    directory = bench.parts.layout.installed(FAMILY, bench.old.digest)
    return structs.replace(
        entry, digest=bench.old.digest, directory=str(directory), target=bench.old.target
    )
