"""A hub as a process of its own, with its Mosquitto, one release, and devices that may connect.

The hub is the real one (`outrider hub serve`), over a directory that the offline keys have signed
for. Everything listens on the loopback interface, and everything that is started is stopped.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from sqlalchemy import func, select

from contract.ids import digest_of
from contract.messages import FamilyAssignment
from contract.topics import ROOT, epoch_topic
from fleet.assembly import system_clock
from fleet.assignments import assign
from fleet.ca import Authority
from fleet.config import read_config
from fleet.ports import HubServices
from fleet.releases import publish_bundle
from fleet.storage.schema import Blob, Device
from model.archive import open_bundle
from tests.fleet.harness import HubDirectory, enrolled, make_template
from tests.mosquitto import Credentials

BLOBS = f"{ROOT}/blob/#"
WAIT_S = 120.0


def weights(size: int, seed: int = 0) -> bytes:
    """What int8 weights look like to a compressor: a bell curve over a part of the range."""
    drawn = np.random.default_rng(seed).normal(0, 24, size)
    return bytes(np.clip(np.rint(drawn), -128, 127).astype(np.int8).tobytes())


def until(fact: Callable[[], object], what: str) -> None:
    """Wait for a fact; fail when it does not come true."""
    deadline = time.monotonic() + WAIT_S
    while not fact():
        assert time.monotonic() < deadline, f"{what}: not within {WAIT_S:.0f} s"
        time.sleep(0.05)


@dataclass
class Scene:
    """One hub with its broker."""

    directory: Path
    hub: HubDirectory
    process: subprocess.Popen[bytes]

    @property
    def port(self) -> int:
        """The broker's."""
        return read_config(self.hub.hub).broker_port

    @property
    def ca(self) -> Path:
        """What clients trust."""
        return self.hub.hub / "ca" / "root.crt"

    def credentials(self, name: str) -> Credentials:
        """A certificate of the hub's CA for this device, on disk."""
        folder = self.directory / "devices"
        folder.mkdir(exist_ok=True)
        key = generate_private_key(SECP256R1())
        issued = Authority(self.hub.hub / "ca").issue_device(name, key.public_key(), system_clock())
        paths = Credentials(folder / f"{name}.crt", folder / f"{name}.key", self.ca)
        paths.certificate.write_text(issued.chain_pem)
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        paths.key.write_bytes(pem)
        return paths

    def publish(self, bundle: Path, device: str = "owner") -> str:
        """Publish a signed bundle and assign it to a device, so that the hub sends its blobs."""
        with self.hub.at_rest() as services:
            publish_bundle(services, bundle, "benchmark")
            if not self._has(services, device):
                enrolled(services, device)
            with open_bundle(bundle) as opened:
                manifest, digest = opened.manifest, digest_of(opened.manifest_bytes)
            with services.storage.session() as session:
                wanted = FamilyAssignment(target=manifest.target, digest=digest, rollout="r1")
                assign(session, device, manifest.family, wanted, services.clock())
        self.wait_published()
        return digest

    def wait_published(self) -> int:
        """Until the broker holds every blob; returns how many there are."""
        return _counted(self)

    def lose_memory(self) -> None:
        """Kill the broker; returns once the hub has filled its successor."""
        before = self.broker()
        before.kill()
        until(lambda: not before.is_running() or before.status() == psutil.STATUS_ZOMBIE, "kill")
        until(self._broker_pids, "a new broker")
        reader = self.credentials("epoch-reader")
        # The epoch comes last of all: who sees it knows that every blob is there.
        command = subscriber(self, reader, epoch_topic(), 1)
        until(lambda: subprocess.run(command, capture_output=True).returncode == 0, "the epoch")

    def broker(self) -> psutil.Process:
        """The Mosquitto that the hub runs."""
        until(self._broker_pids, "the broker")
        return psutil.Process(self._broker_pids()[0])

    def hub_cpu_s(self) -> float:
        """What the hub's process has used so far, without its broker."""
        used = psutil.Process(self.process.pid).cpu_times()
        return float(used.user + used.system)

    def _has(self, services: HubServices, device: str) -> bool:
        with services.storage.reading() as session:
            return session.get(Device, device) is not None

    def _broker_pids(self) -> list[int]:
        children = psutil.Process(self.process.pid).children()
        return [c.pid for c in children if c.name() == "mosquitto"]


def subscriber(scene: Scene, who: Credentials, topic: str, count: int) -> list[str]:
    """`mosquitto_sub` that reads so many retained messages and ends."""
    return [
        "mosquitto_sub", "-V", "5", "-q", "1", "-h", "localhost", "-p", str(scene.port),
        "--cafile", str(who.ca), "--cert", str(who.certificate), "--key", str(who.key),
        "-t", topic, "-C", str(count), "-F", "%l", "-W", "110",
    ]  # fmt: skip


@contextmanager
def running(
    directory: Path, prepare: Callable[[Path], None] = lambda directory: None
) -> Iterator[Scene]:
    """A fresh hub, serving; `prepare` may change its directory before."""
    made = make_template(directory)
    prepare(directory)
    log = (directory / "hub.log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "outrider", "hub", "serve", str(directory / "hub")],
        stdout=log,
        stderr=log,
        env={**os.environ, "OUTRIDER_LOG": "warning"},
    )
    scene = Scene(directory, HubDirectory(directory, made.token), process)
    try:
        ready = directory / "hub" / "run" / "hub.json"
        until(lambda: ready.exists() or process.poll() is not None, "the hub")
        assert process.poll() is None, (directory / "hub.log").read_text()
        yield scene
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        log.close()


def _counted(scene: Scene) -> int:
    with scene.hub.at_rest() as services:
        # A blob that two releases share is sent once, and marked for the one that it was sent for.
        every = select(func.count(Blob.digest.distinct()))
        held = every.where(Blob.published_epoch.is_not(None))

        def is_held() -> bool:
            with services.storage.reading() as session:
                return session.scalar(held) == session.scalar(every)

        until(is_held, "the broker to hold every blob")
        with services.storage.reading() as session:
            distinct = session.scalar(select(func.count(Blob.digest.distinct())))
    return int(distinct or 0)
