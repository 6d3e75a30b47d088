"""A whole device keeps to the budget of a rollout: hub, broker and daemon are real."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from fleet.assembly import run_hub
from fleet.assignments import assign
from fleet.ports import HubServices
from fleet.storage.schema import Device
from tests.agent.daemon import Daemon, eventually
from tests.agent.link.test_https_blobs import TARGET, WEIGHTS, assigned_device, manifest_digest
from tests.agent.test_large_releases import said
from tests.fleet.conftest import hub_directory, hub_template
from tests.fleet.harness import HubDirectory, over_https, until, wanted

__all__ = ["hub_directory", "hub_template"]


def budget(hub: HubServices, most: int) -> None:
    wished = msgspec.structs.replace(wanted(TARGET, manifest_digest(hub)), metered_bytes=most)
    with hub.storage.session() as session:
        assign(session, "cam-1", "digits", wished, hub.clock())
    hub.link.wake()


def state(hub: HubServices) -> dict[str, Any]:
    with hub.storage.reading() as session:
        families: dict[str, Any] = session.get_one(Device, "cam-1").families
        return dict(families.get("digits", {}))


def test_a_device_waits_within_the_budget_and_goes_on_with_a_larger_one(
    hub_directory: HubDirectory, tmp_path: Path
) -> None:
    with run_hub(hub_directory.hub) as running, over_https(running.services):
        until((hub_directory.hub / "run" / "epoch").exists)
        hub = running.services
        assigned_device(hub, hub_directory, tmp_path)
        budget(hub, 100_000)
        daemon = Daemon(tmp_path / "state", "--no-server")
        try:
            eventually(lambda: "waits" in state(hub), 60)
            waits = state(hub)["waits"]
            assert waits["cause"] == "metered"
            assert "allowed are 100000 (the budget of rollout r1)" in waits["detail"]
            assert not any(event.figures.get("chunks_fetched") for event in said(hub))
            budget(hub, 2 * len(WEIGHTS))
            eventually(lambda: any(event.cause == "trial-failed" for event in said(hub)), 60)
            eventually(lambda: "waits" not in state(hub), 30)
        finally:
            daemon.stop()
    told = [(event.phase, event.outcome) for event in said(hub) if event.cause == "metered"]
    assert told == [("fetching", None)]
