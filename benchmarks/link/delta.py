"""What an update costs in bytes: last layer retrained, nothing changed, cut in the middle.

Real bundles of the real converter, the real fetch with its guard, over the real link. `Wire` counts
what arrives on the socket's side, so that a chunk that came twice is counted twice.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from agent.deployment.fetching import FetchParts, Tally, fetch_release
from agent.hardware import read_hardware
from agent.journal import Journal
from agent.link.blobs import MqttBlobSource
from agent.link.connection import Connection
from agent.link.metadata import MqttMetadataSource
from agent.store.install import install
from agent.store.layout import Layout
from agent.trust.guard import TrustGuard, install_root
from benchmarks.link.readers import link
from benchmarks.link.scene import Scene
from contract.messages import FamilyAssignment
from contract.topics import Channel, parse_topic
from converter.convert import convert
from converter.request import ConvertRequest
from converter.trust.signing import sign_bundle
from fleet.assembly import system_clock
from tests.trust.ceremony import PASSPHRASE

INPUTS, WIDTH, CLASSES = 256, 2_048, 10
FAMILY = "digits"


@dataclass
class Wire:
    """Messages by topic, and payload bytes by channel, as they came."""

    times: Counter[str] = field(default_factory=Counter)
    received: Counter[Channel] = field(default_factory=Counter)

    def count(self, topic: str, payload: bytes) -> None:
        """One message."""
        self.times[topic] += 1
        self.received[parse_topic(topic).channel] += len(payload)

    def forget(self) -> None:
        """Count from here on."""
        self.times.clear()
        self.received.clear()


class Receiver:
    """One device: link, guard, journal and store below one folder."""

    def __init__(self, scene: Scene, name: str) -> None:
        state = scene.directory / name
        self.wire = Wire()
        self.layout = Layout(state)
        for folder in (self.layout.store, self.layout.staging):
            folder.mkdir(parents=True, exist_ok=True)
        with scene.hub.at_rest() as services:
            install_root(state / "tuf", services.repository.files()["1.root.json"])
        self.journal = Journal(state / "journal.sqlite")
        self.connection, self._collectors = link(name, scene.port, scene.credentials(name))
        self._count_on(self.connection)
        self.connection.start()
        self.metadata = MqttMetadataSource(self.connection, self._collectors)
        clock = system_clock
        self.guard = TrustGuard(state / "tuf", self.journal, self.metadata, clock, clock())
        self.source = MqttBlobSource(self.connection, self._collectors, name)
        self.on_chunk: Callable[[int], None] = lambda chunks: None

    def fetch(self, version: str, digest: str) -> Tally:
        """Fetch and install one release, as the deployment does."""
        chunks = [0]

        def checkpoint(name: str) -> None:
            if name == "fetch:chunk":
                chunks[0] += 1
                self.on_chunk(chunks[0])

        parts = FetchParts(
            self.layout,
            self.journal,
            self.guard,
            self.source,
            read_hardware("generic"),
            None,
            checkpoint,
            Tally(),
        )
        target = f"{FAMILY}/{version}"
        wanted = FamilyAssignment(target=target, digest=digest, rollout="r1")
        variant = fetch_release(parts, wanted, (), lambda: False, lambda: None)
        install(self.layout, FAMILY, digest, variant)
        return parts.tally

    def cut(self) -> None:
        """The network goes, and comes back: the socket is shut without a word."""
        client = self.connection._client
        assert client is not None
        opened = client.socket()
        assert isinstance(opened, socket.socket)
        opened.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Disconnect."""
        self.connection.stop()
        self.journal.close()

    def _count_on(self, connection: Connection) -> None:
        route = connection._on_message

        def counted(topic: str, payload: bytes) -> None:
            self.wire.count(topic, payload)
            route(topic, payload)

        connection._on_message = counted


def write_models(folder: Path) -> tuple[Path, Path, Path]:
    """A network of 4.7 million weights, the same with its last layer retrained, and samples."""
    chance = np.random.default_rng(5)
    layers = [_layer(chance, INPUTS, WIDTH), _layer(chance, WIDTH, WIDTH)]
    models = []
    for number in (1, 2):
        path = folder / f"model-{number}.onnx"
        last = _layer(np.random.default_rng(100 + number), WIDTH, CLASSES)
        path.write_bytes(_network([*layers, last]))
        models.append(path)
    samples = folder / "samples.npz"
    np.savez(samples, x=chance.normal(size=(256, INPUTS)).astype(np.float32))
    return models[0], models[1], samples


def converted(scene: Scene, model: Path, samples: Path, version: str) -> Path:
    """The bundle that `outrider convert` makes of it, signed."""
    output = scene.directory / f"{version}.bundle"
    convert(
        ConvertRequest(
            model=model,
            calib=samples,
            family=FAMILY,
            version=version,
            output=output,
            max_drop=100.0,
            force=True,
        )
    )
    sign_bundle(output, scene.directory / "keys", PASSPHRASE, now_ms=system_clock())
    return output


def _layer(
    chance: np.random.Generator, inputs: int, outputs: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    weights = chance.normal(0, (2 / inputs) ** 0.5, (inputs, outputs)).astype(np.float32)
    return weights, np.zeros(outputs, np.float32)


def _network(layers: list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]) -> bytes:
    nodes, constants, value = [], [], "x"
    for number, (weights, bias) in enumerate(layers):
        constants += [
            numpy_helper.from_array(weights, f"w{number}"),
            numpy_helper.from_array(bias, f"b{number}"),
        ]
        last = number == len(layers) - 1
        made = "scores" if last else f"sum{number}"
        nodes.append(helper.make_node("Gemm", [value, f"w{number}", f"b{number}"], [made]))
        if not last:
            value = f"h{number}"
            nodes.append(helper.make_node("Relu", [made], [value]))
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", INPUTS])],
        [helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, ["batch", CLASSES])],
        constants,
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    return bytes(model.SerializeToString())
