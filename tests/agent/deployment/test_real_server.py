"""The deployment with everything real but the network: server process, trial child, worker thread.

A release comes into service under traffic, the next one collapses on it and goes back by itself.
"""

from __future__ import annotations

import http.client
import json
import queue
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from agent.deployment.drafts import EventDraft
from agent.deployment.driver import Deployer
from agent.deployment.worker import WorkerResult
from agent.journal import Journal
from agent.serving.client import ServerClient
from agent.serving.process import Launch, ServerProcess
from agent.serving.protocol import control_socket
from contract.deployments import Outcome
from contract.messages import Assignment, FamilyAssignment, ProbationPolicy
from tests.agent.deployment.device import FAMILY, HARDWARE
from tests.agent.deployment.releases import WIDTH, Released, make_release
from tests.agent.deployment.simulators import SimulatedHub

PATIENCE_S = 90.0


class RealDevice:
    """A main loop as the control process runs it, small."""

    def __init__(self, state_dir: Path, hub: SimulatedHub) -> None:
        self.events: list[EventDraft] = []
        self.journal = Journal(state_dir / "journal.sqlite")
        self.process = ServerProcess(Launch(state_dir, port=0))
        self.inbox: queue.Queue[WorkerResult] = queue.Queue()
        self.status = self.process.start()
        self.random = np.random.default_rng(3)
        self.deployer = Deployer(
            state_dir=state_dir,
            journal=self.journal,
            guard=hub,
            blobs=hub,
            server=ServerClient(control_socket(state_dir)),
            hardware=HARDWARE,
            emit=self.events.append,
            clock=lambda: time.time_ns() // 1_000_000,
            inbox=self.inbox.put,
        )
        self.deployer.resume()

    def assign(self, released: Released, seq: int) -> None:
        wanted = FamilyAssignment(
            target=released.target,
            digest=released.digest,
            rollout=f"r{seq}",
            probation=ProbationPolicy(min_inferences=60, max_latency_ratio=1e6),
        )
        self.deployer.assigned(
            Assignment(
                device="cam-1",
                seq=seq,
                issued_at_ms=0,
                expires_at_ms=1 << 50,
                families={FAMILY: wanted},
            )
        )

    def run_until(self, done: Callable[[], bool]) -> None:
        """Loop with traffic until `done`."""
        deadline = time.monotonic() + PATIENCE_S
        while not done():
            assert time.monotonic() < deadline, self.events[-1]
            try:
                self.deployer.post(self.inbox.get(timeout=0.02))
            except queue.Empty:
                self.traffic()
            self.deployer.tick(time.time_ns() // 1_000_000)

    def traffic(self) -> None:
        """A few requests, when anything serves."""
        if self.deployer.family_states().get(FAMILY) is None:
            return
        if self.deployer.family_states()[FAMILY].serving is not None:
            for _ in range(5):
                self.ask()

    def ask(self) -> int:
        """One request over HTTP; returns the class."""
        data = self.random.normal(size=WIDTH).astype(np.float32)
        tensor = {"name": "x", "shape": [1, WIDTH], "datatype": "FP32", "data": data.tolist()}
        connection = http.client.HTTPConnection("127.0.0.1", self.status.port, timeout=30)
        try:
            path = f"/v2/models/{FAMILY}/infer"
            connection.request("POST", path, json.dumps({"inputs": [tensor]}))
            response = connection.getresponse()
            answer = json.loads(response.read())
            assert response.status == 200, answer
        finally:
            connection.close()
        return int(np.argmax(answer["outputs"][0]["data"]))

    def outcome(self, seq: int) -> Outcome | None:
        """How the assignment ended, when it has."""
        ends = [e.outcome for e in self.events if e.assignment_seq == seq and e.outcome]
        return ends[-1] if ends else None

    def close(self) -> None:
        self.deployer.stop()
        self.process.stop()
        self.journal.close()


@pytest.fixture
def device(tmp_path: Path, hub: SimulatedHub) -> Iterator[RealDevice]:
    device = RealDevice(tmp_path, hub)
    yield device
    device.close()


def test_a_release_is_served_and_one_that_collapses_goes_back(
    device: RealDevice, hub: SimulatedHub, v1: Released, tmp_path: Path
) -> None:
    device.assign(v1, seq=1)
    device.run_until(lambda: device.outcome(1) is not None)
    assert device.outcome(1) is Outcome.SUCCEEDED
    reported = device.deployer.family_states()[FAMILY]
    assert reported.serving == v1.digest
    assert reported.good_inferences >= 60
    assert len({device.ask() for _ in range(40)}) > 1

    collapsed = make_release(tmp_path, "4", collapsed=True)
    hub.publish(collapsed, counter=4)
    device.assign(collapsed, seq=2)
    device.run_until(lambda: device.outcome(2) is not None)
    assert device.outcome(2) is Outcome.ROLLED_BACK
    told = device.events[-1]
    assert "class 2 gets 100 %" in told.detail
    assert "the previous gave it" in told.detail
    assert told.figures["restore_ms"] > 0
    assert told.figures["trial_peak_rss_bytes"] > 0
    device.run_until(lambda: device.deployer.family_states()[FAMILY].serving == v1.digest)
    assert device.deployer.family_states()[FAMILY].hold
    assert len({device.ask() for _ in range(40)}) > 1
