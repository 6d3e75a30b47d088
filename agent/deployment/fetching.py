"""The FETCHING effect: trust, then the manifest, then only the chunks that no disk of ours holds.

Runs on the worker thread. What it has stored stays good when it is cut, cancelled or fails: the
next call goes on at the chunk. Decides nothing about the deployment; errors carry their class.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agent.deployment.budget import LIST_ENTRY_BYTES, require_budget, stricter
from agent.deployment.ports import Checkpoint, Guard
from agent.errors import (
    DiskFull,
    Incompatible,
    Malformed,
    StaleMetadata,
    Tampered,
    TransportFailed,
)
from agent.journal import Journal, VerifiedRelease
from agent.ports import BlobRef, BlobSource
from agent.store.collection import collect, drop_staged
from agent.store.install import is_whole, read_manifest
from agent.store.layout import Layout, manifest_path, variant_files
from agent.store.reuse import Spot, chunks_on_disk, read_spot
from agent.store.space import require_space
from agent.store.staging import Plan, Staging, plan_files
from agent.trust.admission import admit
from contract.errors import MalformedManifest, NoVariantFits
from contract.ids import split_target
from contract.manifest import FileRef, Manifest, Variant, decode_manifest
from contract.messages import FamilyAssignment, Figures, Hardware
from contract.variants import choose_variant


@dataclass
class Tally:
    """What a fetch cost, counted while it runs, so that a failed one is counted too."""

    bytes_fetched: float = 0.0
    bytes_full: float = 0.0
    chunks_fetched: float = 0.0
    chunks_reused: float = 0.0
    chunks_resumed: float = 0.0

    def figures(self) -> Figures:
        """By the names under which the hub knows them."""
        return {
            "bytes_fetched": self.bytes_fetched,
            "bytes_full": self.bytes_full,
            "chunks_fetched": self.chunks_fetched,
            "chunks_reused": self.chunks_reused,
            "chunks_resumed": self.chunks_resumed,
        }


@dataclass(frozen=True)
class FetchParts:
    """What a fetch works with."""

    layout: Layout
    journal: Journal
    guard: Guard
    blobs: BlobSource
    hardware: Hardware
    agent_version: str | None
    checkpoint: Checkpoint
    tally: Tally = field(default_factory=Tally)
    budget: int = 0
    """Bytes, before compression, that fetching one release may cost on this device; 0: any."""


def fetch_release(
    parts: FetchParts,
    wanted: FamilyAssignment,
    pinned: Sequence[str],
    cancelled: Callable[[], bool],
    progressed: Callable[[], None],
) -> str:
    """Bring everything for the variant that fits into staging; returns the variant's name.

    `pinned` releases stay on disk whatever room is needed. Raises a `DeviceError` by its class.
    """
    family, _ = split_target(wanted.target)
    release = _admitted(parts, family, wanted)
    parts.checkpoint("fetch:admitted")
    installed = _installed_variant(parts, family, wanted)
    if installed is not None:
        drop_staged(parts.layout, wanted.digest)
        parts.tally.bytes_full = float(sum(ref.length for ref in variant_files(installed)))
        return installed.name
    staging = Staging(parts.layout.staged(wanted.digest))
    staging.discard_links()
    manifest = _manifest(parts, staging, wanted, release.length, cancelled)
    variant = _variant(manifest, parts.hardware)
    plan = plan_files(_chunk_lists(parts, staging, wanted.target, variant, cancelled))
    parts.tally.bytes_full = float(plan.full_bytes)
    _make_room(parts, family, plan, staging, pinned)
    staging.prepare(plan)
    with contextlib.closing(staging):
        _fill(parts, staging, plan, wanted, cancelled, progressed)
    if not cancelled():
        staging.sync(plan)
    return variant.name


def _admitted(parts: FetchParts, family: str, wanted: FamilyAssignment) -> VerifiedRelease:
    """What TUF vouches for now, or what it once did for a release that is still on this disk.

    Expired or unreachable metadata blocks new releases only: going back to one that the journal
    has verified, and that is not below the floor, works without a network.
    """
    try:
        view = parts.guard.refresh([wanted.target])
    except (StaleMetadata, TransportFailed):
        known = _known(parts, family, wanted)
        if known is None:
            raise
        return known
    release = view.release(wanted.target)
    floor = max(view.min_counter(family), parts.journal.min_counter(family))
    admit(release, wanted, parts.hardware.device_class, floor, parts.agent_version)
    found = VerifiedRelease(release.digest, wanted.target, release.length, release.custom.counter)
    parts.journal.save_verified_release(found)
    return found


def _known(parts: FetchParts, family: str, wanted: FamilyAssignment) -> VerifiedRelease | None:
    known = parts.journal.verified_release(wanted.digest)
    if known is None or known.target != wanted.target:
        return None
    if known.counter < parts.journal.min_counter(family):
        return None
    return known if _installed_variant(parts, family, wanted) is not None else None


def _installed_variant(parts: FetchParts, family: str, wanted: FamilyAssignment) -> Variant | None:
    """The variant, when every byte of it is in the store already."""
    directory = parts.layout.installed(family, wanted.digest)
    try:
        manifest = read_manifest(directory, wanted.digest)
        if manifest is None:
            return None
        variant = choose_variant(manifest, parts.hardware)
    except (Tampered, Malformed, NoVariantFits):
        return None
    return variant if is_whole(directory, variant) else None


def _manifest(
    parts: FetchParts,
    staging: Staging,
    wanted: FamilyAssignment,
    length: int,
    cancelled: Callable[[], bool],
) -> Manifest:
    data = staging.manifest(wanted.digest)
    if data is None:
        ref = BlobRef(wanted.digest, length)
        data = _fetch_few(parts, wanted.target, [ref], cancelled)[wanted.digest]
        staging.save_manifest(data)
        parts.checkpoint("fetch:manifest")
    try:
        manifest = decode_manifest(data)
    except MalformedManifest as error:
        raise Malformed(str(error)) from error
    if manifest.target != wanted.target:
        raise Malformed(f"the manifest of {wanted.target} says that it is {manifest.target}")
    return manifest


def _variant(manifest: Manifest, hardware: Hardware) -> Variant:
    try:
        return choose_variant(manifest, hardware)
    except NoVariantFits as error:
        raise Incompatible(str(error)) from error


def _chunk_lists(
    parts: FetchParts,
    staging: Staging,
    target: str,
    variant: Variant,
    cancelled: Callable[[], bool],
) -> list[tuple[FileRef, bytes]]:
    files = variant_files(variant)
    lists = {ref.path: staging.chunk_list(ref) for ref in files}
    missing = {
        ref.chunks.digest: BlobRef(ref.chunks.digest, ref.chunks.count * LIST_ENTRY_BYTES)
        for ref in files
        if ref.chunks is not None and lists[ref.path] is None
    }
    found = _fetch_few(parts, target, list(missing.values()), cancelled)
    result = []
    for ref in files:
        packed = lists[ref.path]
        if packed is None and ref.chunks is not None:
            packed = found[ref.chunks.digest]
            staging.save_chunk_list(ref, packed)
        result.append((ref, packed or b""))
    parts.checkpoint("fetch:lists")
    return result


class FetchCancelled(Exception):
    """The main loop has moved on; nobody waits for this fetch any more."""


def _fetch_few(
    parts: FetchParts, target: str, refs: list[BlobRef], cancelled: Callable[[], bool]
) -> Mapping[str, bytes]:
    """Small blobs that are needed in memory."""
    found: dict[str, bytes] = {}
    if refs:
        parts.tally.bytes_fetched += parts.blobs.fetch(
            target, refs, lambda ref, data: found.update({ref.digest: data}), cancelled
        )
    if any(ref.digest not in found for ref in refs):
        if cancelled():
            raise FetchCancelled
        raise TransportFailed(f"{target}: not every blob came")
    return found


def _make_room(
    parts: FetchParts, family: str, plan: Plan, staging: Staging, pinned: Sequence[str]
) -> None:
    """Ask before writing; releases that nothing needs go before the update is given up."""
    needed = plan.full_bytes - _staged_bytes(staging.directory)
    try:
        require_space(parts.layout.state_dir, needed)
    except DiskFull:
        if not collect(parts.layout, family, pinned, keep=0):
            raise
        require_space(parts.layout.state_dir, needed)


def _staged_bytes(directory: Path) -> int:
    """Blocks, not lengths: a file that was only given its length takes no room yet."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    return sum(path.stat().st_blocks * 512 for path in files if path != manifest_path(directory))


def _fill(
    parts: FetchParts,
    staging: Staging,
    plan: Plan,
    release: FamilyAssignment,
    cancelled: Callable[[], bool],
    progressed: Callable[[], None],
) -> None:
    target = release.target
    held = staging.held(plan)
    parts.tally.chunks_resumed = float(len(held))
    spots = chunks_on_disk(parts.layout) if held != set(plan.places) else {}
    missing = _reuse(parts, staging, plan, set(plan.places) - held, spots)
    if missing:
        cost = missing | (held - spots.keys())
        require_budget(stricter(parts.budget, release), plan, cost, target)
    delivered: list[int] = []

    def sink(ref: BlobRef, data: bytes) -> None:
        staging.keep(plan, ref.digest, data)
        delivered.append(ref.length)
        parts.tally.chunks_fetched += 1
        parts.checkpoint("fetch:chunk")
        if len(delivered) == 1:
            progressed()

    wanted = [BlobRef(digest, plan.lengths[digest]) for digest in plan.places if digest in missing]
    try:
        if wanted:
            parts.tally.bytes_fetched += parts.blobs.fetch(target, wanted, sink, cancelled)
    except TransportFailed:
        # How many bytes of payload came is not told; what they unpacked to is known.
        parts.tally.bytes_fetched += sum(delivered)
        raise
    if len(delivered) < len(wanted):
        if cancelled():
            raise FetchCancelled
        raise TransportFailed(f"{target}: {len(delivered)} of {len(wanted)} chunks came")


def _reuse(
    parts: FetchParts, staging: Staging, plan: Plan, missing: set[str], spots: Mapping[str, Spot]
) -> set[str]:
    """Copy what installed releases hold; returns what is still missing."""
    for digest in sorted(missing & spots.keys()):
        data = read_spot(spots[digest], digest)
        if data is not None and len(data) == plan.lengths[digest]:
            staging.put(plan, digest, data)
            missing = missing - {digest}
            parts.tally.chunks_reused += 1
    return missing
