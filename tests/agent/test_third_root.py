"""A hub whose files were replaced shows a third root, which `policy/ca` does not name."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fleet.assembly import run_hub, system_clock
from fleet.ca import Authority
from fleet.config import read_config
from fleet.rotation import Stage, Step
from fleet.setup import certificate_hosts, succession_at
from tests.agent.daemon import Daemon, eventually
from tests.agent.test_renewal import enrol_here
from tests.fleet.authorities import make
from tests.fleet.conftest import hub_directory, hub_template
from tests.fleet.harness import HubDirectory, over_https, until

__all__ = ["hub_directory", "hub_template"]


@pytest.fixture
def state(hub_directory: HubDirectory, tmp_path: Path) -> Path:
    """A device that holds both roots of a rotation, and was connected once."""
    make(hub_directory)
    with run_hub(hub_directory.hub) as running, over_https(running.services):
        until((hub_directory.hub / "run" / "epoch").exists)
        enrol_here(running.services, tmp_path, system_clock())
        daemon = Daemon(tmp_path / "state", "--no-server", OUTRIDER_REFRESH_SECONDS="0.5")
        eventually(daemon.connected, 30)
        assert daemon.stop() == 0
    return tmp_path / "state"


def usurp(directory: Path) -> Authority:
    """The thief's own CA stands where the next one stood, and has taken over."""
    thief = directory / "thief"
    thief.mkdir()
    Authority(thief).create("hub", certificate_hosts(read_config(directory)), system_clock())
    (thief / "bridge.crt").unlink(missing_ok=True)
    with succession_at(directory) as succession:
        succession.take(Step.SWITCH, system_clock(), force=True)
    following = directory / "ca" / "next"
    shutil.rmtree(following)
    shutil.copytree(thief, following)
    assert Authority(directory / "ca").stage() is Stage.SWITCHED
    return Authority(directory / "ca")


def test_a_device_leaves_a_hub_under_a_root_that_no_policy_names(
    hub_directory: HubDirectory, state: Path
) -> None:
    before = (state / "identity" / "ca.pem").read_bytes()
    certificate = (state / "identity" / "device.crt").read_bytes()
    third = usurp(hub_directory.hub)
    with run_hub(hub_directory.hub) as running, over_https(running.services):
        assert third.root_pem() not in before.decode()
        daemon = Daemon(state, "--no-server", OUTRIDER_REFRESH_SECONDS="0.5")
        try:
            eventually(lambda: "verify failed" in daemon.status().get("connection_error", ""), 30)
            assert not daemon.connected()
        finally:
            daemon.stop()
    assert (state / "identity" / "ca.pem").read_bytes() == before
    assert (state / "identity" / "device.crt").read_bytes() == certificate
