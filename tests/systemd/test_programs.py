"""The four units' own command lines, run as systemd runs them, but for the paths.

Real broker, hub, inference server with a model, and agent, each with a notification socket of its
own and within its unit's limits (tests/systemd/sandbox.py). What the units promise of each other is
tried with SIGKILL.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from agent import __main__ as agent_main
from agent.deployment.trial_process import run_trial
from agent.enrol import enroll
from agent.errors import DeviceError
from agent.serving import __main__ as serving_main
from agent.serving.client import ServerClient
from agent.serving.protocol import control_socket
from agent.status import read_status
from contract.enrolment import encode_enrolment
from fleet.broker import write_broker_files
from fleet.config import read_config
from fleet.devices import add_device
from tests.agent.serving import tiny_models as tiny
from tests.fleet.harness import HubDirectory, make_template
from tests.mosquitto import mosquitto_path
from tests.systemd.sandbox import can_filter
from tests.systemd.units import ROOT, UNITS, read_unit

PATIENCE_S = 60.0
SANDBOX = Path(__file__).with_name("sandbox.py")


class Service:
    """One unit's program, and what it tells the service manager."""

    def __init__(self, unit: str, folder: Path, paths: Mapping[str, str]) -> None:
        self.unit = read_unit(unit)
        self._heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        address = folder / f"{unit}.notify"
        self._heard.bind(str(address))
        self._said: list[str] = []
        self._log = folder / f"{unit}.log"
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command(paths),
                cwd=ROOT,
                env={**os.environ, "NOTIFY_SOCKET": str(address), "WATCHDOG_USEC": "30000000"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _command(self, paths: Mapping[str, str]) -> list[str]:
        command = self.unit.command(OUTRIDER_HTTP_PORT="0")
        for ours, here in paths.items():
            command = [word.replace(ours, here) for word in command]
        if command[0] == "/opt/outrider/bin/outrider":
            command[:1] = [sys.executable, "-m", "outrider"]
        elif command[0] == "/opt/outrider/bin/python":
            command[0] = sys.executable
        else:
            command[0] = mosquitto_path()
        return [sys.executable, str(SANDBOX), self.unit.name, *command]

    def await_word(self, word: str) -> None:
        """Until the program has told the service manager this."""
        deadline = time.monotonic() + PATIENCE_S
        while word not in self._said:
            assert self.process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, f"{self.unit.name} never said {word}"
            self._heard.settimeout(0.5)
            try:
                self._said += self._heard.recv(4096).decode().splitlines()
            except TimeoutError:
                continue

    def kill(self) -> None:
        """The worst that can happen to it."""
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        """As `systemctl stop`; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(int(self.unit.one("Service", "TimeoutStopSec")))
        finally:
            self.process.kill()
            self._heard.close()


def until(fact: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not fact():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short path: a notification socket's address holds about 100 bytes."""
    return tmp_path_factory.mktemp("u")


@pytest.fixture(scope="module")
def hub_directory(place: Path) -> HubDirectory:
    """A hub with its broker's configuration, as `outrider hub init` leaves it."""
    made = make_template(place)
    write_broker_files(made.directory, read_config(made.directory))
    return HubDirectory(place, made.token)


@pytest.fixture(scope="module")
def release(place: Path) -> tiny.Release:
    """What serves at boot."""
    (place / "state").mkdir()
    release = tiny.install(place / "state", "1", tiny.scaled(1.0))
    tiny.serve_at_boot(place / "state", release)
    return release


@pytest.fixture(scope="module")
def services(
    release: tiny.Release, place: Path, hub_directory: HubDirectory
) -> Iterator[dict[str, Service]]:
    """All four, started in an order that no unit asks for; stopped in none either."""
    paths = {
        "/var/lib/outrider-hub": str(hub_directory.hub),
        "/var/lib/outrider": str(place / "state"),
    }
    started: dict[str, Service] = {}
    try:
        for unit in ("outrider-inference", "outrider-hub", "outrider-broker"):
            started[unit] = Service(unit, place, paths)
        for service in started.values():
            service.await_word("READY=1")
        enrol(hub_directory, place)
        started["outrider-agent"] = Service("outrider-agent", place, paths)
        started["outrider-agent"].await_word("READY=1")
        yield started
    finally:
        for service in started.values():
            service.stop()


def enrol(hub_directory: HubDirectory, place: Path) -> None:
    """Through the running hub's API address, as the device's own command does."""
    with hub_directory.at_rest() as services:
        file = add_device(services, "pi-1", "generic", {})
    path = place / "pi-1.enrol.json"
    path.touch(mode=0o600)
    path.write_bytes(encode_enrolment(file))
    enroll(path, place / "state")


def status(place: Path) -> dict[str, Any]:
    try:
        return read_status(place / "state")
    except DeviceError:
        return {}


def test_every_program_says_that_it_is_ready(services: dict[str, Service]) -> None:
    for service in services.values():
        service.await_word("READY=1")
        assert service.process.poll() is None


@pytest.mark.parametrize("unit", ["outrider-agent", "outrider-hub"])
def test_the_watchdog_is_fed(services: dict[str, Service], unit: str) -> None:
    services[unit].await_word("WATCHDOG=1")


def test_the_agent_leaves_inference_to_its_unit(services: dict[str, Service], place: Path) -> None:
    until(lambda: status(place).get("connected"))
    assert status(place)["server"] == "its own unit's"
    served = ServerClient(control_socket(place / "state")).status()
    assert served.pid == services["outrider-inference"].process.pid


def test_a_model_answers_within_the_limits_of_its_unit(
    services: dict[str, Service], release: tiny.Release, place: Path
) -> None:
    client = ServerClient(control_socket(place / "state"))
    assert client.status().families[release.family].digest == release.digest
    assert client.probe(release.family, 4).agreement == 1.0


def test_a_trial_runs_within_the_limits_of_the_agents_unit(
    services: dict[str, Service], release: tiny.Release
) -> None:
    command = (sys.executable, str(SANDBOX), "outrider-agent", sys.executable, "-m", "agent.trial")
    result = run_trial(
        release.directory, release.variant, release.digest, lambda: False, command=command
    )
    assert result.agreement == 1.0


def test_the_limits_are_real(tmp_path: Path) -> None:
    if not can_filter():
        pytest.skip("systemd or libseccomp is not installed here")
    program = f"import os; os.chown({str(tmp_path)!r}, os.getuid(), os.getgid())"
    for unit in UNITS:
        command = [sys.executable, str(SANDBOX), unit, sys.executable, "-c", program]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "PermissionError" in done.stderr, unit


def test_inference_outlives_the_control_process(services: dict[str, Service], place: Path) -> None:
    services["outrider-agent"].kill()
    client = ServerClient(control_socket(place / "state"))
    assert client.status().pid == services["outrider-inference"].process.pid


def test_the_broker_outlives_the_hub(services: dict[str, Service]) -> None:
    services["outrider-hub"].kill()
    assert services["outrider-broker"].process.poll() is None


def test_the_other_programs_stop_in_good_order(services: dict[str, Service]) -> None:
    for unit in ("outrider-inference", "outrider-broker"):
        assert services[unit].stop() == 0


def test_the_options_are_those_of_the_programs() -> None:
    agent = agent_main._parse(read_unit("outrider-agent").command()[3:])
    assert (str(agent["state_dir"]), agent["server"]) == ("/var/lib/outrider", False)
    command = read_unit("outrider-inference").command(OUTRIDER_HTTP_PORT="8080")
    serving = serving_main._parse(command[3:])
    assert (str(serving.state_dir), serving.port) == ("/var/lib/outrider", 8080)


@pytest.mark.parametrize("unit", ["outrider-agent", "outrider-inference"])
def test_an_option_that_is_wrong_ends_with_2_which_is_not_tried_again(unit: str) -> None:
    found = read_unit(unit)
    command = [sys.executable, *found.command()[1:3], "--no-such-option"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert str(done.returncode) == found.one("Service", "RestartPreventExitStatus")
