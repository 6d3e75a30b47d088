"""The worker threads: order within one, and no download in the way of a way back."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path

from agent.deployment import effects as do
from agent.deployment import events as on
from agent.deployment.dispatch import Dispatch
from agent.deployment.fetching import FetchParts
from agent.deployment.performing import Tools
from agent.deployment.state import Attempt, Deployment, Serving, Stage
from agent.deployment.switching import SwitchParts
from agent.deployment.worker import Worker, WorkerResult
from agent.journal import Journal
from agent.store.layout import Layout
from contract.messages import FamilyAssignment
from tests.agent.deployment.device import HARDWARE, Device
from tests.agent.deployment.releases import Released
from tests.agent.deployment.simulators import SimulatedHub, SimulatedServer, SimulatedTrial

PATIENCE_S = 30.0


def test_jobs_are_done_in_order_and_the_rest_is_dropped_by_stop() -> None:
    worker = Worker("test")
    done: list[int] = []
    first, go = threading.Event(), threading.Event()

    def hold() -> None:
        first.set()
        go.wait(PATIENCE_S)
        done.append(0)

    worker.submit(hold)
    for n in range(1, 4):
        worker.submit(partial(done.append, n))
    first.wait(PATIENCE_S)
    stopper = threading.Thread(target=worker.stop)
    stopper.start()
    while not worker._stopping.is_set():
        pass
    go.set()
    stopper.join(PATIENCE_S)
    assert done == [0]


def test_a_download_that_hangs_does_not_delay_a_way_back(
    tmp_path: Path, hub: SimulatedHub, v1: Released, v2: Released
) -> None:
    Device(tmp_path, hub).serve(v1, seq=1)
    results: list[WorkerResult] = []
    restored = threading.Event()

    def inbox(result: WorkerResult) -> None:
        results.append(result)
        if isinstance(result.event, on.Restored):
            restored.set()

    hanging, release = threading.Event(), threading.Event()

    def hang() -> None:
        hanging.set()
        release.wait(PATIENCE_S)

    hub.on_blob = hang
    dispatch = Dispatch(tools(tmp_path, hub), None, inbox, lambda name: None)
    try:
        fetching = Deployment(family="digits", attempt=attempt_for(v2, 2), run=1)
        dispatch.send(fetching, do.Fetch(), [])
        assert hanging.wait(PATIENCE_S)
        serving = Serving(digest=v1.digest, target="digits/1", variant="onnx-fp32")
        back = Deployment(
            family="digits",
            stage=Stage.RESTORING,
            attempt=attempt_for(v2, 2),
            serving=serving,
            run=7,
        )
        dispatch.send(back, do.Restore(), [])
        assert restored.wait(PATIENCE_S), "while the download still hangs"
        assert [r.run for r in results if isinstance(r.event, on.Restored)] == [7]
    finally:
        release.set()
        dispatch.stop()


def test_stop_ends_a_download(tmp_path: Path, hub: SimulatedHub, v1: Released) -> None:
    started = threading.Event()
    hub.on_blob = started.set
    dispatch = Dispatch(tools(tmp_path, hub), None, lambda result: None, lambda name: None)
    dispatch.send(Deployment(family="digits", attempt=attempt_for(v1, 1)), do.Fetch(), [])
    assert started.wait(PATIENCE_S)
    dispatch.stop()
    assert not any(t.name in ("preparing", "switching") for t in threading.enumerate())


def attempt_for(released: Released, seq: int) -> Attempt:
    wanted = FamilyAssignment(target=released.target, digest=released.digest, rollout="r")
    return Attempt(seq, wanted)


def tools(state_dir: Path, hub: SimulatedHub) -> Tools:
    layout = Layout(state_dir)
    layout.store.mkdir(exist_ok=True)
    layout.staging.mkdir(exist_ok=True)
    journal = Journal(state_dir / "journal.sqlite")
    server = SimulatedServer(state_dir)
    fetch = FetchParts(layout, journal, hub, hub, HARDWARE, None, lambda name: None)
    switch = SwitchParts(layout, server, lambda name: None, patience_s=0.0)
    return Tools(fetch, switch, SimulatedTrial(), lambda: 1 << 40)
