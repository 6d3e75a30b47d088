"""The bundle's manifest: what a release is, and by which digests its bytes are known.

A manifest is itself a TUF target, so the trust that TUF gives to it reaches each byte it names:
manifest -> chunk list -> chunk. This file checks form and consistency; it opens nothing.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from contract.errors import MalformedManifest
from contract.ids import Digest, Id, Version, target_name
from contract.processing import Processing, check_processing

MANIFEST_SCHEMA = 1
MAX_MANIFEST_BYTES = 120 * 1024
"""A manifest travels as one blob."""
MAX_CHUNK_BYTES = 120 * 1024
MAX_CHUNKS = 3_400
"""So that a chunk list (36 bytes an entry) is one blob too."""

Path = Annotated[
    str, Meta(pattern=r"^[a-z0-9][a-z0-9_.-]*(/[a-z0-9][a-z0-9_.-]*)*\Z", max_length=120)
]
Name = Annotated[str, Meta(min_length=1, max_length=120)]
Size = Annotated[int, Meta(ge=0, le=1 << 40)]
DType = Literal["float32", "float16", "int8", "uint8", "int16", "int32", "int64", "bool"]


class ChunkListRef(msgspec.Struct, frozen=True):
    """The binary chunk list of one file: its own digest and how many chunks it lists."""

    digest: Digest
    count: Annotated[int, Meta(ge=0, le=MAX_CHUNKS)]


class FileRef(msgspec.Struct, frozen=True, kw_only=True):
    """One file of the bundle. `chunks` is absent for files that stay at the hub."""

    path: Path
    length: Size
    digest: Digest
    chunks: ChunkListRef | None = None


class Quantisation(msgspec.Struct, frozen=True):
    """real = (q - zero_point) * scale."""

    scale: float
    zero_point: Annotated[int, Meta(ge=-(1 << 31), lt=1 << 31)]


class TensorSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A tensor at the model's boundary. A dimension of -1 is the batch."""

    name: Name
    dtype: DType
    shape: Annotated[list[Annotated[int, Meta(ge=-1, le=1 << 24)]], Meta(max_length=8)]
    quantisation: Quantisation | None = None


class Requirements(msgspec.Struct, frozen=True, kw_only=True):
    """What a device must have to run a variant."""

    min_runtime: Annotated[str, Meta(max_length=32)] = "0"
    machines: Annotated[list[Name], Meta(max_length=16)] = []
    """Machine names as in `uname -m`; empty: any."""
    accelerators: Annotated[list[Name], Meta(max_length=16)] = []
    memory_bytes: Size = 0


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """One runnable form of the release, with the evidence measured when it was made."""

    name: Id
    runtime: Literal["onnxruntime", "litert"]
    requires: Requirements
    model: FileRef
    golden: FileRef
    profile: FileRef
    inputs: Annotated[list[TensorSpec], Meta(min_length=1, max_length=32)]
    outputs: Annotated[list[TensorSpec], Meta(min_length=1, max_length=32)]
    evidence: Annotated[dict[Name, float], Meta(max_length=64)] = {}
    """Measured on the workstation: accuracy, agreement, sqnr_db, p50_ms, ..."""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """The trained model that went in."""

    name: Name
    format: Name
    length: Size
    digest: Digest


class GateRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The converter's accuracy gate: what it measured, what was allowed, whether it was forced."""

    metric: Name
    """`accuracy` where there were labels, else `agreement`; in percent."""
    baseline: float
    measured: float
    max_drop: float
    passed: bool
    forced: bool = False
    reason: Annotated[str, Meta(max_length=400)] = ""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A release: its variants in order of preference, and what they share."""

    schema: int = MANIFEST_SCHEMA
    family: Id
    version: Version
    source: Source
    gate: GateRecord
    variants: Annotated[list[Variant], Meta(min_length=1, max_length=16)]
    labels: Annotated[list[Annotated[str, Meta(max_length=120)]], Meta(max_length=4096)] = []
    device_classes: Annotated[list[Id], Meta(max_length=32)] = []
    """Empty: every class."""
    hub_files: Annotated[list[FileRef], Meta(max_length=64)] = []
    """Evaluation report and notes: in the bundle, never sent to a device."""
    produced_by: Annotated[str, Meta(max_length=200)] = ""
    processing: Processing | msgspec.UnsetType = msgspec.UNSET
    """How raw inputs become the network's, and its scores answers; absent: the caller knows."""

    @property
    def target(self) -> str:
        """The TUF target path, `family/version`."""
        return target_name(self.family, self.version)

    @property
    def device_files(self) -> list[FileRef]:
        """Every file that a device may fetch, over all variants."""
        return [f for v in self.variants for f in (v.model, v.golden, v.profile)]


_DECODER = msgspec.json.Decoder(Manifest)


def encode_manifest(manifest: Manifest) -> bytes:
    """Canonical bytes: equal manifests give equal bytes; raises `MalformedManifest`."""
    # Decoded once more, so that a 1 given for a float is written as 1.0 whoever writes it.
    try:
        plain = _parse(msgspec.json.encode(manifest))
    except UnicodeEncodeError as error:
        raise MalformedManifest(f"manifest: a name is not text: {error}") from error
    data = msgspec.json.format(msgspec.json.encode(plain, order="sorted"), indent=1) + b"\n"
    if len(data) > MAX_MANIFEST_BYTES:
        raise MalformedManifest(f"manifest of {len(data)} bytes; at most {MAX_MANIFEST_BYTES}")
    return data


def decode_manifest(data: bytes) -> Manifest:
    """Parse and check a manifest; raises `MalformedManifest` and nothing else."""
    if len(data) > MAX_MANIFEST_BYTES:
        raise MalformedManifest(f"manifest of {len(data)} bytes; at most {MAX_MANIFEST_BYTES}")
    manifest = _parse(data)
    _check(manifest)
    return manifest


def _parse(data: bytes) -> Manifest:
    try:
        return _DECODER.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise MalformedManifest(f"manifest: {str(error)[:300]}") from error


def _check(manifest: Manifest) -> None:
    if manifest.schema != MANIFEST_SCHEMA:
        raise MalformedManifest(f"manifest schema {manifest.schema}; this program reads 1")
    names = [variant.name for variant in manifest.variants]
    if len(set(names)) != len(names):
        raise MalformedManifest("manifest: two variants have the same name")
    seen: dict[str, FileRef] = {}
    for file in [*manifest.device_files, *manifest.hub_files]:
        if seen.setdefault(file.path, file) != file:
            raise MalformedManifest(f"manifest: {file.path} is described twice, differently")
    for path in seen:
        if any(parent in seen for parent in _parents(path)):
            raise MalformedManifest(f"manifest: {path} lies under a path that is a file")
    for file in manifest.device_files:
        _check_chunks(file)
    if manifest.processing is not msgspec.UNSET:
        check_processing(manifest.processing)


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:end]) for end in range(1, len(parts))]


def _check_chunks(file: FileRef) -> None:
    if file.chunks is None:
        raise MalformedManifest(f"manifest: {file.path} has no chunk list")
    if file.length > file.chunks.count * MAX_CHUNK_BYTES:
        raise MalformedManifest(f"manifest: {file.path} is longer than its chunks can be")
