"""How fast an artifact reaches devices, beside programs that do less with the same messages."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from benchmarks.link.readers import Read, Task
from benchmarks.link.scene import BLOBS, Scene, subscriber
from contract.manifest import FileRef


class Artifact(msgspec.Struct, frozen=True):
    """The file that everybody reads, and how many messages the broker holds of its release."""

    file: FileRef
    chunks: Path
    messages: int


def mosquitto_sub_s(scene: Scene, artifact: Artifact) -> float:
    """Seconds for `mosquitto_sub`, from its start to its end."""
    command = subscriber(scene, scene.credentials("sub-1"), BLOBS, artifact.messages)
    started = time.monotonic()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - started


def together_s(scene: Scene, artifact: Artifact, kind: str, count: int) -> float:
    """Seconds until the last of `count` readers that start at once has everything."""
    with tempfile.TemporaryDirectory(dir=scene.directory) as folder:
        tasks = [_task(scene, artifact, kind, f"{kind}-{n}", folder) for n in range(count)]
        readers = [_start(task) for task in tasks]
        for reader in readers:
            assert reader.stdout is not None
            assert reader.stdout.readline() == "ready\n"
        started = time.monotonic()
        for reader in readers:
            assert reader.stdin is not None
            reader.stdin.write("\n")
            reader.stdin.flush()
        finished = [_finish(reader) for reader in readers]
        assert all(read.received >= 0 for read in finished)
        return min(time.monotonic() - started, max(read.seconds for read in finished))


def alternately(
    scene: Scene, artifact: Artifact, kinds: tuple[str, str], count: int, rounds: int
) -> dict[str, float]:
    """Medians in seconds, both kinds in turn, so that a busy moment hits both."""
    found: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind in kinds:
            one = mosquitto_sub_s(scene, artifact) if kind == "mosquitto_sub" else None
            found[kind].append(one or together_s(scene, artifact, kind, count))
    return {kind: statistics.median(seconds) for kind, seconds in found.items()}


def _task(scene: Scene, artifact: Artifact, kind: str, name: str, folder: str) -> Task:
    who = scene.credentials(name)
    return Task(
        kind=kind,
        device=name,
        port=scene.port,
        certificate=str(who.certificate),
        key=str(who.key),
        ca=str(who.ca),
        messages=artifact.messages,
        file=artifact.file,
        chunks=str(artifact.chunks),
        staging=f"{folder}/{name}",
    )


def _start(task: Task) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.link.readers", msgspec.json.encode(task).decode()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _finish(reader: subprocess.Popen[str]) -> Read:
    out, _ = reader.communicate(timeout=120)
    assert reader.returncode == 0, out
    return msgspec.json.decode(out, type=Read)
