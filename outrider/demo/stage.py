"""The demo's fleet: hub, devices, cameras, and waiting for what they report.

Owns the processes and the folders; what is shown with them is the scenes' business.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from outrider.client import HubClient
from outrider.demo.output import Narrator
from outrider.demo.processes import Child, Processes
from outrider.demo.releases import FAMILY, Workshop
from outrider.demo.traffic import Camera, Scans
from outrider.errors import CommandFailed, HubUnreachable
from outrider.operator import OperatorConfig
from outrider.pages import every_item

POLL_S = 0.1
PATIENCE_S = 60.0
OPEN = ("running", "paused", "reverting")
PASSPHRASE = b"only-for-the-demo"
"""The demo's keys live as long as the demo."""
AGENT_ENVIRONMENT = {
    "OUTRIDER_REPORT_SECONDS": "1",
    "OUTRIDER_HEARTBEAT_SECONDS": "5",
    "OUTRIDER_REFRESH_SPREAD_SECONDS": "0",
    "OUTRIDER_ACK_SECONDS": "2",
    # A device runs one model on one core; N of them share this machine.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
T = TypeVar("T")


@dataclass
class Device:
    """One device: its state directory, its processes, and the camera in front of it."""

    name: str
    state: Path
    camera: Camera
    child: Child | None = None


@dataclass
class Stage:
    """Everything that a scene may touch."""

    root: Path
    narrator: Narrator
    processes: Processes
    workshop: Workshop
    scans: Scans
    hub_dir: Path
    keys_dir: Path
    client: HubClient
    hub: Child
    operator: OperatorConfig
    devices: list[Device] = field(default_factory=list)

    def close(self) -> None:
        """Stop the cameras and the connection to the hub; the processes have another owner."""
        for device in self.devices:
            device.camera.stop()
        self.client.close()

    def wait(
        self, for_what: str, condition: Callable[[], T | None], patience_s: float = PATIENCE_S
    ) -> T:
        """Poll until `condition` gives something; raise `CommandFailed` when it never does."""
        deadline = time.monotonic() + patience_s
        with self.narrator.waiting(for_what):
            while True:
                found = condition()
                if found is not None and found is not False:
                    return found
                self.processes.require_running()
                if time.monotonic() > deadline:
                    raise CommandFailed(f"waited {patience_s:.0f} s in vain for: {for_what}")
                time.sleep(POLL_S)

    def start_agent(self, device: Device) -> None:
        """Start a device's daemon, which starts its inference server."""
        arguments = ["agent", "--state", str(device.state), "--port", "0"]
        device.child = self.processes.start(device.name, arguments, AGENT_ENVIRONMENT)

    def cut_power(self, device: Device) -> None:
        """`kill -9` of the device's whole process group."""
        if device.child is not None:
            self.processes.cut(device.child)
            device.child = None

    def device(self, name: str) -> Device:
        """The device of that name."""
        return next(device for device in self.devices if device.name == name)

    def start_rollout(self, version: str, waves: Iterable[int]) -> str:
        """Roll a version of the demo's family out to all; the rollout's id."""
        answer = self.client.post(
            "rollouts",
            {
                "release": f"{FAMILY}:{version}",
                "selector": "all",
                "waves": [str(wave) for wave in waves],
                "soak_s": 1,
                "deadline_s": 90,
                "abort_if": "failed>=1",
                "on_failure": "revert",
                "min_inferences": 40,
                "probation": {"window_s": 60, "min_inferences": 40},
            },
        )
        return str(answer["id"])

    def finish_rollout(self, rollout: str) -> dict[str, Any]:
        """Wait until a rollout has ended; what it then says of itself."""

        def ended() -> dict[str, Any] | None:
            found: dict[str, Any] = self.client.get(f"rollouts/{rollout}")
            return None if found["status"] in OPEN else found

        return self.wait(f"rollout {rollout} to end", ended, 120)

    def events(self, **query: str) -> list[dict[str, Any]]:
        """All events that the hub has stored, oldest first."""
        return every_item(self.client, "events", **query)

    def served(self) -> dict[str, str | None]:
        """Device -> the target that it reports to serve."""
        return {
            found["name"]: (found["families"] or {}).get(FAMILY, {}).get("target")
            for found in every_item(self.client, "devices")
        }


def wait_for_hub(client: HubClient, processes: Processes, patience_s: float = 30.0) -> None:
    """Until the API answers and the hub is connected to its broker."""
    deadline = time.monotonic() + patience_s
    why = "it has no connection to its broker"
    while time.monotonic() < deadline:
        processes.require_running()
        try:
            if client.get("status")["broker"]["connected"]:
                return
        except HubUnreachable as error:
            why = str(error)
        time.sleep(POLL_S)
    raise CommandFailed(f"the hub did not come up within {patience_s:.0f} s: {why}")
