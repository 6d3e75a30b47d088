"""A hub, a keys folder and devices for tests: the real ones, over real directories.

Keys are made once a process, since deriving a key from a passphrase is slow on purpose; a test
copies the folders.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from agent.errors import NotListed, TransportFailed
from agent.trust.guard import TrustGuard, install_root
from contract.manifest import GateRecord, Manifest, Requirements, Source, TensorSpec, Variant
from contract.messages import TufIndex
from converter.trust.keys import KeysSummary, init_keys
from converter.trust.signing import SignedSummary, sign_bundle
from fleet.trust.repository import Accepted, Repository
from model.archive import open_bundle, write_bundle
from model.chunks import file_ref

PASSPHRASE = b"correct horse"
START_MS = 1_800_000_000_000
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


def write_release(path: Path, family: str, version: str, weights: bytes = b"weights") -> Path:
    """A bundle that is small and whole; nothing here runs its model."""
    files = {"model.onnx": weights, "golden.npz": b"golden", "profile.json": b"{}"}
    refs = {name: file_ref(name, data) for name, data in files.items()}
    tensor = TensorSpec(name="x", dtype="float32", shape=[-1, 4])
    manifest = Manifest(
        family=family,
        version=version,
        source=Source(name="m.onnx", format="onnx", length=1, digest="0" * 64),
        gate=GateRecord(metric="accuracy", baseline=90.0, measured=90.0, max_drop=1.0, passed=True),
        variants=[
            Variant(
                name="onnx-int8",
                runtime="onnxruntime",
                requires=Requirements(),
                model=refs["model.onnx"],
                golden=refs["golden.npz"],
                profile=refs["profile.json"],
                inputs=[tensor],
                outputs=[tensor],
            )
        ],
    )
    write_bundle(path, manifest, files)
    return path


@dataclass
class World:
    """One hub, one keys folder, and a clock that only tests move."""

    directory: Path
    now_ms: int = START_MS

    @property
    def repository(self) -> Repository:
        """A new one each time: it holds no state."""
        return Repository(self.directory / "hub" / "tuf")

    @property
    def keys(self) -> Path:
        """The keys folder."""
        return self.directory / "keys"

    def init_keys(self, *families: str) -> KeysSummary:
        """The ceremony, on this world's folder."""
        hub = self.repository.hub_public_keys()
        return init_keys(self.keys, list(families), hub, PASSPHRASE, self.now_ms)

    def import_trust(self) -> None:
        """Hand trust.json to the hub, and let it sign."""
        self.repository.import_trust((self.keys / "trust.json").read_bytes())
        self.repository.sign_online(self.now_ms)

    def signed(
        self, family: str, version: str, base: bytes | None = None, keys: Path | None = None
    ) -> tuple[Path, SignedSummary]:
        """A signed bundle of this release."""
        path = self.directory / f"{family}-{version}.bundle"
        if not path.exists():
            write_release(path, family, version, f"{family} {version}".encode())
        summary = sign_bundle(path, keys or self.keys, PASSPHRASE, base, now_ms=self.now_ms)
        return path, summary

    def accept(self, path: Path) -> Accepted:
        """Publish a bundle's signatures."""
        with open_bundle(path) as bundle:
            accepted = self.repository.accept(bundle.trust(), bundle.manifest_bytes)
        self.repository.sign_online(self.now_ms)
        return accepted

    def publish(self, family: str, version: str) -> Accepted:
        """Sign and publish a release."""
        return self.accept(self.signed(family, version)[0])


_TEMPLATE: list[Path] = []


def new_world(directory: Path, make_template: Callable[[], Path]) -> World:
    """A world with families `digits` and `words`, trust imported, nothing released."""
    if not _TEMPLATE:
        template = World(make_template())
        template.repository.create_online_keys()
        template.init_keys("digits", "words")
        template.import_trust()
        _TEMPLATE.append(template.directory)
    shutil.copytree(_TEMPLATE[0], directory, dirs_exist_ok=True)
    return World(directory)


@dataclass
class RepositorySource:
    """A broker that holds exactly what the hub published; tests may withhold or replace files."""

    files: Callable[[], dict[str, bytes]]
    replaced: dict[str, bytes] = field(default_factory=dict)
    unreachable: bool = False
    fetched: list[tuple[str, int]] = field(default_factory=list)

    def current(self) -> dict[str, bytes]:
        return self.files() | self.replaced

    def index(self) -> TufIndex:
        if self.unreachable:
            raise TransportFailed("no broker")
        from contract.ids import digest_of
        from contract.messages import TufFile

        listed = {n: TufFile(len(d), digest_of(d)) for n, d in self.current().items()}
        return TufIndex(files=listed, at_ms=0)

    def file(self, name: str, max_length: int) -> bytes:
        if self.unreachable:
            raise TransportFailed("no broker")
        data = self.current().get(name)
        if data is None:
            raise NotListed(name)
        self.fetched.append((name, len(data)))
        return data


@dataclass
class Journal:
    """The journal's rules, as agent.ports states them, in memory: it survives a power cut."""

    floor_ms: int = 0
    versions: dict[str, int] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)

    def trust_floor_ms(self) -> int:
        return self.floor_ms

    def trust_versions(self) -> dict[str, int]:
        return dict(self.versions)

    def min_counter(self, family: str) -> int:
        return self.counters.get(family, 0)

    def save_trust(self, floor_ms: int, versions: dict[str, int], counters: dict[str, int]) -> None:
        self.floor_ms = floor_ms
        self.versions |= versions
        for family, counter in counters.items():
            self.counters[family] = max(counter, self.counters.get(family, 0))


class Device:
    """A device that was enrolled with the world's root; its clock may differ from the world's."""

    def __init__(self, world: World, directory: Path) -> None:
        self.world = world
        self.directory = directory
        self.clock_ms: int | None = None
        self.build_ms = 0
        self.source = RepositorySource(lambda: world.repository.files())
        self.journal = Journal()
        install_root(directory, world.repository.files()["1.root.json"])

    @property
    def guard(self) -> TrustGuard:
        """A new one each time, as after a restart."""
        return TrustGuard(self.directory, self.journal, self.source, self.now_ms, self.build_ms)

    def now_ms(self) -> int:
        return self.world.now_ms if self.clock_ms is None else self.clock_ms
