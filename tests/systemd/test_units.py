"""What the units promise, checked by systemd's own tools and against what the programs do."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from agent.identity import DIRECTORY, RECORD
from agent.serving import server
from agent.serving.settings import ServingSettings
from agent.settings import STATE_DIR
from fleet.broker_files import REVOKED, SERVER, TRUSTED, revocation_file
from fleet.config import CONFIG_FILE
from tests.systemd.units import DEVICE_UNITS, FOLDER, UNITS, Unit, read_unit, seconds

EXPOSURE = 25
"""Tenths: systemd's own scale calls 2.5 and less OK; the devices' openness costs about 0.5."""


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd is not installed here")
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


@pytest.fixture(params=UNITS)
def unit(request: pytest.FixtureRequest) -> Unit:
    return read_unit(request.param)


@pytest.fixture(params=DEVICE_UNITS)
def device_unit(request: pytest.FixtureRequest) -> Unit:
    return read_unit(request.param)


def test_there_are_no_other_units() -> None:
    found = sorted(path.stem for path in FOLDER.glob("*.service"))
    assert found == sorted([*UNITS, "outrider-broker-reload"])


def test_the_broker_is_reloaded_when_the_hub_writes_what_it_reads() -> None:
    path = Unit("path", (FOLDER / "outrider-broker-reload.path").read_text(encoding="utf-8"))
    state = Path("/var/lib/outrider-hub")
    broker = revocation_file(state).parent
    read = [str(broker / name) for name in (REVOKED, TRUSTED, SERVER)]
    assert path.all("Path", "PathChanged") == read
    assert path.one("Path", "Unit") == "outrider-broker-reload.service"
    assert path.one("Install", "WantedBy") == "outrider-broker.service"
    reload = read_unit("outrider-broker-reload")
    assert reload.one("Service", "ExecStart").endswith("systemctl reload outrider-broker.service")
    assert "-HUP" in read_unit("outrider-broker").one("Service", "ExecReload")
    seen = read_unit("outrider-broker").all("Service", "BindReadOnlyPaths")
    assert str(revocation_file(state).parent) in seen, "a file of its own would stay the old one"


def test_systemd_finds_nothing_to_say_about_the_units(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for name in UNITS:
        # Only the programs are replaced: they are not installed where tests run.
        text = re.sub(r"^ExecStart=\S+", f"ExecStart={program}", read_unit(name).text, flags=re.M)
        (tmp_path / f"{name}.service").write_text(text)
    units = [str(tmp_path / f"{name}.service") for name in UNITS]
    done = analyze("verify", "--man=no", *units)
    # The machine's own units may have their faults; those are not ours.
    assert [line for line in done.stderr.splitlines() if "outrider-" in line] == []
    if "--recursive-errors" in analyze("--help").stdout:
        assert analyze("verify", "--man=no", "--recursive-errors=no", *units).returncode == 0


def test_systemd_rates_the_exposure_of_each_unit_as_ok(unit: Unit) -> None:
    if "--offline" not in analyze("--help").stdout:
        pytest.skip("this systemd cannot rate a unit that is not installed")
    path = str(FOLDER / f"{unit.name}.service")
    done = analyze("security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager", path)
    assert done.returncode == 0, done.stdout[-400:] + done.stderr


def test_sysusers_accepts_the_users_that_the_units_name(tmp_path: Path) -> None:
    program = shutil.which("systemd-sysusers")
    if program is None:
        pytest.skip("systemd is not installed here")
    files = [str(path) for path in sorted((FOLDER / "sysusers.d").glob("*.conf"))]
    done = subprocess.run(
        [program, f"--root={tmp_path}", "--dry-run", *files],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for name in UNITS:
        assert f"Creating user '{read_unit(name).one('Service', 'User')}'" in done.stderr


def test_a_unit_is_never_given_up(unit: Unit) -> None:
    assert unit.one("Unit", "StartLimitIntervalSec") == "0"
    assert unit.one("Service", "Restart") == "always"
    assert seconds(unit.one("Service", "RestartSec")) >= 1, "no busy loop"


def test_a_unit_runs_without_rights_over_a_read_only_system(unit: Unit) -> None:
    assert unit.one("Service", "User") == unit.one("Service", "Group") != "root"
    assert unit.one("Service", "CapabilityBoundingSet", "unset") == ""
    assert unit.one("Service", "NoNewPrivileges") == "yes"
    assert unit.one("Service", "ProtectSystem") == "strict"


def test_a_devices_unit_hides_no_camera_and_no_accelerator(device_unit: Unit) -> None:
    assert device_unit.one("Service", "PrivateDevices", "no") == "no"
    # DeviceAllow= and ProtectClock=, which implies one, would close every other device.
    assert device_unit.one("Service", "ProtectClock", "no") == "no"
    assert device_unit.all("Service", "DeviceAllow") == []
    assert device_unit.one("Service", "DevicePolicy") == "auto"
    assert device_unit.one("Service", "MemoryDenyWriteExecute", "no") == "no"
    groups = (FOLDER / "sysusers.d" / "outrider.conf").read_text()
    assert re.search(r"^m\s+outrider\s+video$", groups, flags=re.M)
    assert re.search(r"^m\s+outrider\s+render$", groups, flags=re.M)
    # A supplementary group that a board lacks would keep the unit from starting.
    assert device_unit.all("Service", "SupplementaryGroups") == []


@pytest.mark.parametrize("stronger", ["Requires", "Requisite", "BindsTo", "PartOf", "Upholds"])
def test_no_unit_takes_another_down_with_it(unit: Unit, stronger: str) -> None:
    assert unit.all("Unit", stronger) == []


def test_inference_knows_nothing_of_the_control_process() -> None:
    inference = read_unit("outrider-inference")
    for key in ("Wants", "After", "Before", "Conflicts"):
        assert "outrider-agent.service" not in inference.words("Unit", key)
    assert "outrider-inference.service" in read_unit("outrider-agent").words("Unit", "Wants")
    assert "outrider-inference.service" not in read_unit("outrider-agent").words("Unit", "After")


def test_nothing_of_a_device_waits_for_a_network(device_unit: Unit) -> None:
    for key in ("Wants", "After"):
        assert "network-online.target" not in device_unit.words("Unit", key)


def test_the_kernel_takes_memory_from_the_control_process_last() -> None:
    agent, inference = read_unit("outrider-agent"), read_unit("outrider-inference")
    score = [int(unit.one("Service", "OOMScoreAdjust")) for unit in (agent, inference)]
    assert score[0] < score[1] < 0
    # The default ends the unit when its trial, a child, is killed.
    assert agent.one("Service", "OOMPolicy") == "continue"
    for limit in ("MemoryMax", "MemoryHigh"):
        assert agent.all("Service", limit) == [], "a trial counts towards the unit"


def test_inference_comes_before_trials_at_the_processor() -> None:
    weights = {n: int(read_unit(n).one("Service", "CPUWeight")) for n in DEVICE_UNITS}
    assert weights["outrider-inference"] > weights["outrider-agent"]


def test_each_watchdog_is_slower_than_its_program() -> None:
    agent, inference, hub, broker = (read_unit(name) for name in UNITS)
    # The agent's loop and the hub's main thread speak once a second.
    assert seconds(agent.one("Service", "WatchdogSec")) >= 30
    assert seconds(hub.one("Service", "WatchdogSec")) >= 30
    assert seconds(inference.one("Service", "WatchdogSec")) >= 3 * server._WATCHDOG_S
    assert broker.all("Service", "WatchdogSec") == [], "Mosquitto 2.0 sends none"


def test_a_stop_leaves_time_for_requests_under_way() -> None:
    drain_s = ServingSettings(state_dir=Path("/")).drain_s
    inference = read_unit("outrider-inference")
    assert seconds(inference.one("Service", "TimeoutStopSec")) > drain_s


def test_the_directories_are_those_of_the_programs() -> None:
    agent = read_unit("outrider-agent")
    assert Path("/var/lib") / agent.one("Service", "StateDirectory") == STATE_DIR
    assert agent.one("Unit", "ConditionPathExists") == str(STATE_DIR / DIRECTORY / RECORD)
    hub = read_unit("outrider-hub")
    directory = Path("/var/lib") / hub.one("Service", "StateDirectory")
    assert hub.one("Unit", "ConditionPathExists") == str(directory / CONFIG_FILE)
    for unit in (agent, read_unit("outrider-inference"), hub):
        assert unit.one("Service", "StateDirectoryMode") == "0700"


def test_the_broker_sees_its_own_files_of_the_hub_and_no_key_besides() -> None:
    broker = read_unit("outrider-broker")
    assert broker.one("Service", "TemporaryFileSystem") == "/var/lib/outrider-hub:ro"
    seen = [Path(path) for path in broker.all("Service", "BindReadOnlyPaths")]
    assert seen == [Path("/var/lib/outrider-hub/mosquitto")]
    assert broker.all("Service", "StateDirectory") == []
