"""A fleet goes from one CA to the next by the command line: real hub, broker, devices, inference.

One walk in the order in which people take it, since each step needs the one before.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from agent.certificates import check_ca
from examples.digits import data
from fleet.assembly import system_clock
from fleet.ca import Authority
from fleet.ca_folder import load_certificate
from fleet.config import read_config
from fleet.issuing import fingerprint, key_pem
from fleet.setup import succession_at
from fleet.takeover import Broker, is_refused
from outrider.demo.processes import Child, Processes
from outrider.demo.stage import AGENT_ENVIRONMENT
from outrider.demo.traffic import Camera, Scans
from tests.outrider.test_whole_path import (
    Shell,
    make_bundles,
    make_hub_and_keys,
    processes,
    shell,
    until,
)

__all__ = ["processes", "shell"]
ENVIRONMENT = AGENT_ENVIRONMENT | {
    "OUTRIDER_REFRESH_SECONDS": "1",
    "OUTRIDER_HEARTBEAT_SECONDS": "2",
}


class Fleet:
    """The hub's directory, and devices that serve digits to a camera each."""

    def __init__(self, shell: Shell, processes: Processes) -> None:
        self.shell = shell
        self.processes = processes
        self.hub = shell.root / "hub"
        self.cameras: dict[str, Camera] = {}
        self.selector = "name=cam-*"
        self._release = 0
        self._first_failures: dict[str, int] = {}

    def state(self, name: str) -> Path:
        return self.shell.root / name

    def enrol(self, name: str) -> str:
        """The roots that came with the enrolment file."""
        self.shell.ok(f"device add {name} -o {name}.json")
        self.shell.ok(f"agent enroll {name}.json --state {self.state(name)}")
        return (self.state(name) / "identity" / "ca.pem").read_text()

    def start(self, name: str) -> Child:
        arguments = ["agent", "--state", str(self.state(name)), "--port", "0"]
        child = self.processes.start(name, arguments, ENVIRONMENT)
        until(lambda: self.alive(name))
        return child

    def film(self, name: str) -> None:
        live = data.load_splits().live
        scans = Scans(live.image, live.labels)
        until((self.state(name) / "run" / "http.json").exists)
        self.cameras[name] = Camera(name, self.state(name), "digits", scans)
        self.cameras[name].start()

    def alive(self, name: str) -> bool:
        path = self.state(name) / "run" / "status.json"
        try:
            return bool(json.loads(path.read_bytes())["connected"])
        except (OSError, ValueError):
            return False

    def roots(self, name: str) -> str:
        return (self.state(name) / "identity" / "ca.pem").read_text()

    def signed_by(self, name: str) -> str:
        """SHA-256 of the intermediate above the device's certificate."""
        chain = (self.state(name) / "identity" / "device.crt").read_text()
        above = self.shell.root / "above.pem"
        above.write_text("-----BEGIN" + chain.split("-----BEGIN")[2])
        return fingerprint(load_certificate(above))

    def wait_for_roots(self, name: str, roots: str) -> None:
        until(lambda: self.roots(name) == roots)

    def wait_for_issuer(self, name: str) -> None:
        """Its certificate is of whoever issues now."""
        until(lambda: self.signed_by(name) == self.authority().signer().fingerprint)

    def authority(self) -> Authority:
        return Authority(self.hub / "ca")

    def name_roots(self, *roots: str) -> None:
        """Offline keys name these, and the hub publishes it."""
        named = " ".join(f"--root {self.hub / 'ca' / root}" for root in roots)
        self.shell.ok(f"keys ca keys {named} --passphrase-file p")
        assert "trust accepted" in self.shell.ok("publish keys/trust.json")

    def works(self) -> None:
        """A new assignment reaches every device, and none of them failed a request meanwhile."""
        self._release = 2 if self._release == 1 else 1
        answered = {name: camera.answers.answered for name, camera in self.cameras.items()}
        start = f"rollout start digits:{self._release} --to {self.selector} --waves 100% --soak 1s"
        rollout = self.shell.json(start, "--min-inferences 5 --deadline 1m")["id"]
        for name in self.state_names():
            if name not in self.cameras:
                self.film(name)
        self.shell.ok("rollout watch", rollout)
        for name, camera in self.cameras.items():
            assert camera.answers.answered > answered.get(name, 0)
            failures = camera.answers.failures
            # Before its first release a device has nothing to answer with.
            assert failures[self._first_failures.setdefault(name, len(failures)) :] == []

    def state_names(self) -> list[str]:
        return [child.name for child in self.processes.children if child.name != "hub"]


class Thief:
    """Holds what was in `ca/` before the rotation, and makes itself a device's certificate."""

    def __init__(self, fleet: Fleet) -> None:
        stolen = fleet.shell.root / "stolen"
        shutil.copytree(fleet.hub / "ca", stolen)
        self._key = generate_private_key(SECP256R1())
        issued = Authority(stolen).issue_device("cam-1", self._key.public_key(), system_clock())
        self._chain = issued.chain_pem.encode()
        self._at = Broker("localhost", read_config(fleet.hub).broker_port)
        self._fleet = fleet

    def is_refused(self) -> bool:
        return is_refused(self._at, self._fleet.authority(), self._chain, key_pem(self._key))


@pytest.fixture
def fleet(shell: Shell, processes: Processes) -> Iterator[Fleet]:
    found = Fleet(shell, processes)
    yield found
    for camera in found.cameras.values():
        camera.stop()


# A long walk on real programs, as tests/outrider/test_whole_path.py: bounded by its own waits.
@pytest.mark.timeout(600)
def test_a_fleet_goes_from_one_ca_to_the_next(fleet: Fleet) -> None:
    make_hub_and_keys(fleet.shell, fleet.processes)
    make_bundles(fleet.shell)
    before(fleet)
    thief = Thief(fleet)
    both_are_believed(fleet)
    switched(fleet)
    who_was_off_comes_back(fleet)
    assert not thief.is_refused()
    finished(fleet)
    until(thief.is_refused)
    fleet.works()


def before(fleet: Fleet) -> None:
    shutil.copy(fleet.shell.root / "operator.json", fleet.shell.root / "elsewhere.json")
    for name in ("cam-1", "cam-2", "late-1"):
        fleet.enrol(name)
    for name in ("cam-1", "cam-2"):
        fleet.start(name)
    fleet.works()


def both_are_believed(fleet: Fleet) -> None:
    old = fleet.authority().root_pem()
    made = fleet.shell.json("hub new-ca hub")
    assert made["stage"] == "made"
    assert "keys ca" in made["next"]
    assert "under way already" in fleet.shell.refused("hub new-ca hub")
    assert "does not name both" in fleet.shell.refused("hub new-ca hub --switch")
    assert "another CA is under way (made)" in fleet.shell.ok("doctor")
    assert fleet.shell.json("hub follow")["changed"] is False, "new-ca did it here"
    fleet.works()
    fleet.name_roots("root.crt", "next/root.crt")
    union = fleet.authority().roots_pem()
    assert union.startswith(old)
    for name in ("cam-1", "cam-2"):
        fleet.wait_for_roots(name, union)
        until(partial(fleet.alive, name))
    fleet.works()


def switched(fleet: Fleet) -> None:
    assert fleet.shell.json("hub new-ca hub --switch")["stage"] == "switched"
    for name in ("cam-1", "cam-2"):
        fleet.wait_for_issuer(name)
        until(partial(fleet.alive, name))
    fleet.works()
    assert fleet.shell.json("hub follow --config elsewhere.json")["changed"], "by the bridge"
    roots = fleet.enrol("cam-4")
    check_ca(roots)
    assert roots == fleet.authority().roots_pem()
    fleet.start("cam-4")
    fleet.works()


def who_was_off_comes_back(fleet: Fleet) -> None:
    """It knows the old root alone, and the servers stand under the next one by now."""
    assert "late-1" in fleet.shell.refused("hub new-ca hub --finish")
    assert fleet.roots("late-1") != fleet.authority().roots_pem()
    fleet.start("late-1")
    fleet.selector = "all"
    fleet.wait_for_roots("late-1", fleet.authority().roots_pem())
    fleet.wait_for_issuer("late-1")
    fleet.works()


def finished(fleet: Fleet) -> None:
    new = (fleet.hub / "ca" / "next" / "root.crt").read_text()

    def nobody_waits() -> bool:
        with succession_at(fleet.hub) as succession:
            standing = succession.standing()
        return (standing["unaware"], standing["on_old"]) == (0, 0)

    until(nobody_waits)
    assert fleet.shell.json("hub new-ca hub --finish")["stage"] is None
    assert fleet.authority().roots_pem() == fleet.authority().root_pem() == new
    until(lambda: not (fleet.hub / "ca" / "next").exists())
    until(lambda: not (fleet.hub / "ca" / "former.crt").exists())
    fleet.works()
    assert "names a root that this hub has given up" in fleet.shell.ok("doctor")
    fleet.name_roots("root.crt")
    for name in fleet.state_names():
        fleet.wait_for_roots(name, new)
        until(partial(fleet.alive, name))
    found = fleet.shell.ok("doctor --config elsewhere.json")
    assert "another CA" not in found
    assert "given up" not in found
