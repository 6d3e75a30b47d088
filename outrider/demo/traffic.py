"""Live traffic: one thread a device asks an unmodified tritonclient for the class of real scans.

It stands for the camera: it goes on through updates, refusals and rollbacks, counts what it is
answered, and never stops because a device does not answer.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

PERIOD_S = 0.04
TIMEOUT_S = 5.0
RETRY_S = 0.25


class _HttpFile(msgspec.Struct):
    port: int


@dataclass(frozen=True)
class Scans:
    """Held-out scans: float32 [N,1,8,8] in 0..1, and what a person read in them, int64 [N]."""

    image: NDArray[np.float32]
    labels: NDArray[np.int64]


@dataclass
class Answers:
    """What one device answered so far; read by the demo while the thread writes."""

    asked: int = 0
    answered: int = 0
    right: int = 0
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Measured:
    """One pass over all held-out scans: accuracy in percent, latency in ms as the client saw it."""

    accuracy: float
    p50_ms: float
    p95_ms: float
    version: str


class Camera:
    """The traffic of one device. `start`, then `stop` joins its thread."""

    def __init__(self, device: str, state: Path, family: str, scans: Scans) -> None:
        self.device = device
        self.answers = Answers()
        self._state = state
        self._family = family
        self._scans = scans
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"camera-{device}", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> None:
        """End and join the thread."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def measure(self) -> Measured:
        """Ask for every held-out scan once, one by one."""
        client = connect(self._state)
        try:
            times, right = [], 0
            for image, label in zip(self._scans.image, self._scans.labels, strict=True):
                began = time.perf_counter()
                right += int(ask(client, self._family, image) == label)
                times.append((time.perf_counter() - began) * 1000)
            version = client.get_model_metadata(self._family)["versions"][0]
        finally:
            client.close()
        return Measured(
            accuracy=100 * right / len(times),
            p50_ms=float(np.percentile(times, 50)),
            p95_ms=float(np.percentile(times, 95)),
            version=str(version),
        )

    def _run(self) -> None:
        client: Any = None
        position = 0
        while not self._stopped.wait(PERIOD_S):
            index = position % len(self._scans.labels)
            position += 1
            self.answers.asked += 1
            try:
                client = client or connect(self._state)
                found = ask(client, self._family, self._scans.image[index])
            except Exception as error:  # noqa: BLE001 - a camera outlives whatever the device does
                self.answers.failures.append(f"{type(error).__name__}: {error}"[:200])
                client = None
                self._stopped.wait(RETRY_S)
                continue
            self.answers.answered += 1
            self.answers.right += int(found == self._scans.labels[index])
        if client is not None:
            client.close()


def connect(state: Path) -> Any:
    """A tritonclient for the inference server of a device; raises when there is none."""
    from tritonclient import http

    port = msgspec.json.decode((state / "run" / "http.json").read_bytes(), type=_HttpFile).port
    return http.InferenceServerClient(
        f"127.0.0.1:{port}", connection_timeout=TIMEOUT_S, network_timeout=TIMEOUT_S
    )


def ask(client: Any, family: str, image: NDArray[np.float32]) -> int:
    """The class of one scan, [1,8,8] in 0..1, through binary tensors."""
    from tritonclient import http

    tensor = http.InferInput("image", [1, *image.shape], "FP32")
    tensor.set_data_from_numpy(image[np.newaxis])
    answer = client.infer(family, [tensor])
    output = answer.get_response()["outputs"][0]["name"]
    return int(np.argmax(answer.as_numpy(output)))
