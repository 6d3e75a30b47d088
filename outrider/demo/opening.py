"""The first scene: a hub with its broker, offline keys, and devices that enrol by themselves."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from outrider.client import HubClient
from outrider.demo.options import DemoOptions
from outrider.demo.output import Narrator
from outrider.demo.processes import Processes
from outrider.demo.releases import FAMILY, Workshop
from outrider.demo.stage import PASSPHRASE, Device, Stage, wait_for_hub
from outrider.demo.traffic import Camera, Scans
from outrider.operator import OperatorConfig, write_private


def open_stage(
    root: Path,
    options: DemoOptions,
    narrator: Narrator,
    processes: Processes,
    workshop: Workshop,
) -> Stage:
    """Set everything up and start it."""
    hub_dir, keys_dir = root / "hub", root / "keys"
    operator = _make_hub(hub_dir, options.port)
    trust = _make_keys(keys_dir, hub_dir)
    client = HubClient(operator)
    stage = Stage(
        root=root,
        narrator=narrator,
        processes=processes,
        workshop=workshop,
        scans=_scans(),
        hub_dir=hub_dir,
        keys_dir=keys_dir,
        client=client,
        hub=processes.start("hub", ["outrider", "hub", "serve", str(hub_dir)], {}),
        operator=operator,
    )
    with narrator.waiting("the hub and its broker"):
        wait_for_hub(client, processes)
    client.upload("trust", trust, "application/json")
    began = time.monotonic()
    for number in range(1, options.agents + 1):
        stage.devices.append(_enrol(stage, f"cam-{number}"))
    for device in stage.devices:
        stage.start_agent(device)
    stage.wait("every device to report", lambda: _all_alive(stage) or None)
    seconds = time.monotonic() - began
    status = client.get("status")
    narrator.tell(
        f"1 hub (API {status['api_port']}), 1 Mosquitto with mTLS ({status['broker_port']}),"
        f" {len(stage.devices)} devices enrolled and connected in {seconds:.1f} s:"
        " keys made on the devices, certificates from the hub",
        f"{len(stage.devices)} devices up in {seconds:.1f} s",
    )
    return stage


def _make_hub(directory: Path, port: int) -> OperatorConfig:
    from fleet.setup import init_hub

    made = init_hub(directory, ["127.0.0.1"], port, 0, bind="127.0.0.1")
    return OperatorConfig(url=made.config.api_url, token=made.token, ca_pem=made.ca_pem)


def _make_keys(directory: Path, hub_dir: Path) -> Path:
    from contract.trust import decode_hub_public_keys
    from converter.trust.keys import init_keys

    public = decode_hub_public_keys((hub_dir / "hub-keys.json").read_bytes())
    now_ms = time.time_ns() // 1_000_000
    return init_keys(directory, [FAMILY], public, PASSPHRASE, now_ms).trust_file


def _scans() -> Scans:
    from examples.digits import data

    live = data.load_splits().live
    return Scans(live.image, live.labels)


def _enrol(stage: Stage, name: str) -> Device:
    """As an operator and a device would: a file from the hub, then enrolment over HTTPS."""
    from agent.enrol import enroll

    state = stage.root / name
    file = stage.root / f"{name}.enrol.json"
    answer = stage.client.post("devices", {"name": name, "device_class": "camera"})
    write_private(file, msgspec.json.encode(answer))
    enroll(file, state)
    return Device(name, state, Camera(name, state, FAMILY, stage.scans))


def _all_alive(stage: Stage) -> bool:
    return bool(stage.client.get("status")["devices"]["alive"] == len(stage.devices))
