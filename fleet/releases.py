"""Publishes releases: checks a bundle whole, has the repository accept it, keeps what devices need.

Publishing the same bundle again changes nothing. When any step fails, what the earlier ones stored
is taken back; the release exists from the commit of its row on, and never before.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from contract.errors import ContractError
from contract.ids import digest_of
from contract.targets import ReleaseCustom
from fleet.blobs import BlobStore
from fleet.errors import BundleRefused, ReleaseConflict, ReleaseNotFound
from fleet.ports import HubServices
from fleet.storage.schema import Blob, Release
from model.archive import Bundle, open_bundle
from model.chunks import blobs_of, frame
from model.errors import ModelError
from model.whole_file import sync_folder

REPORT_FILE = "report.html"
MAX_REPORT_BYTES = 16 << 20
_PUBLISHING = threading.Lock()
"""One publication at a time: a release's blobs and the next one's metadata build on each other."""


@dataclass(frozen=True)
class Published:
    """A release as it stands, and whether this call made it."""

    release: Release
    created: bool


def publish_bundle(hub: HubServices, path: Path, actor: str) -> Published:
    """Publish the bundle at `path`, which stays where it is.

    Raises `BundleRefused` (broken, unsigned, or signed by somebody who may not), `ReleaseConflict`
    (another version came first), and the repository's own errors for the same two facts.
    """
    with _PUBLISHING:
        try:
            with open_bundle(path) as bundle:
                bundle.check()
                published = _publish(hub, bundle, path, actor)
        except (ModelError, ContractError) as error:
            said = str(error)
            named = said if said.startswith(path.name) else f"{path.name}: {said}"
            raise BundleRefused(named) from error
    hub.link.wake()
    return published


def find_release(session: Session, target: str) -> Release:
    """Raises `ReleaseNotFound`."""
    found = session.get(Release, target)
    if found is None:
        raise ReleaseNotFound(f"release {target.replace('/', ':')} is not published")
    return found


def release_report(hub: HubServices, target: str) -> bytes:
    """The page on what was measured when the release was made, as its bundle holds it.

    Raises `ReleaseNotFound`, also for a release whose bundle holds no page.
    """
    with hub.storage.reading() as session:
        release = find_release(session, target)
    try:
        with open_bundle(kept_bundle(hub, release.family, release.version)) as bundle:
            ours = digest_of(bundle.manifest_bytes) == release.digest
            for ref in bundle.manifest.hub_files if ours else ():
                if ref.path == REPORT_FILE and ref.length <= MAX_REPORT_BYTES:
                    return bundle.read(ref)
    except (ModelError, ContractError, FileNotFoundError) as error:
        raise ReleaseNotFound(f"the bundle of {target.replace('/', ':')}: {error}") from error
    raise ReleaseNotFound(f"the bundle of {target.replace('/', ':')} has no {REPORT_FILE}")


def list_releases(session: Session) -> list[Release]:
    """Oldest first."""
    return list(session.scalars(select(Release).order_by(Release.published_at_ms)))


def _publish(hub: HubServices, bundle: Bundle, path: Path, actor: str) -> Published:
    manifest, digest = bundle.manifest, digest_of(bundle.manifest_bytes)
    trust = bundle.trust()
    if not trust:
        raise BundleRefused(f"{path.name} is not signed: run `outrider sign` first")
    with hub.storage.reading() as session:
        known = session.get(Release, manifest.target)
    if known is not None and known.digest != digest:
        raise ReleaseConflict(
            f"{manifest.target.replace('/', ':')} is published already, with other content:"
            " give the new bundle a new version"
        )
    new: list[str] = []
    try:
        sizes = _store_blobs(hub.blobs, bundle, new)
        accepted = hub.repository.accept(trust, bundle.manifest_bytes)
        hub.repository.sign_online(hub.clock())
        if known is not None:
            return Published(known, created=False)
        return Published(_store(hub, bundle, path, actor, sizes, accepted.custom), created=True)
    except BaseException:
        for blob in new:
            hub.blobs.discard(blob)
        raise


def _store_blobs(blobs: BlobStore, bundle: Bundle, new: list[str]) -> dict[str, int]:
    """Frame and store every blob; notes in `new` those that were not there before."""
    sizes: dict[str, int] = {}
    for digest, data in blobs_of(bundle):
        if digest in sizes:
            continue
        payload = frame(data)
        if blobs.put(digest, payload):
            new.append(digest)
        sizes[digest] = len(payload)
    return sizes


def _store(
    hub: HubServices,
    bundle: Bundle,
    path: Path,
    actor: str,
    sizes: dict[str, int],
    custom: ReleaseCustom,
) -> Release:
    manifest = bundle.manifest
    kept = kept_bundle(hub, manifest.family, manifest.version)
    release = Release(
        target=manifest.target,
        family=manifest.family,
        version=manifest.version,
        digest=digest_of(bundle.manifest_bytes),
        counter=custom.counter,
        device_classes=list(custom.device_classes),
        manifest=bundle.manifest_bytes,
        bundle_bytes=path.stat().st_size,
        bundle_digest=_keep(path, kept),
        published_at_ms=hub.clock(),
        published_by=actor,
    )
    try:
        with hub.storage.session() as session:
            session.add(release)
            session.flush()
            for digest, size in sizes.items():
                session.add(Blob(release=release.target, digest=digest, size=size))
    except BaseException:
        kept.unlink(missing_ok=True)
        raise
    return release


def kept_bundle(hub: HubServices, family: str, version: str) -> Path:
    """Where a release's bundle stands. No name has a "_", so no two releases share a file."""
    return hub.directory / "bundles" / f"{family}_{version}.bundle"


def _keep(path: Path, kept: Path) -> str:
    """Copy the bundle beside the others, whole or not at all; returns its SHA-256."""
    kept.parent.mkdir(mode=0o700, exist_ok=True)
    partial = kept.with_suffix(".part")
    try:
        with path.open("rb") as source, partial.open("wb") as copy:
            os.fchmod(copy.fileno(), 0o600)
            shutil.copyfileobj(source, copy)
            copy.flush()
            os.fsync(copy.fileno())
        with partial.open("rb") as copied:
            digest = hashlib.sha256()
            while block := copied.read(1 << 20):
                digest.update(block)
        partial.replace(kept)
        sync_folder(kept.parent)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return digest.hexdigest()
