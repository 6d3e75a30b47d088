"""One variant as it lies on a device: `DIR/manifest.json` and `DIR/files/<path>`.

Every digest is computed again at every opening, down from the manifest's own, which the caller
knows from its journal. Nothing is written, repaired or loaded into a runtime here.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from contract.errors import DigestMismatch
from contract.ids import require_digest, require_same_digest
from contract.manifest import MAX_MANIFEST_BYTES, FileRef, Manifest, Variant, decode_manifest
from model.errors import BrokenBundle
from model.golden import GoldenSamples, decode_golden
from model.profile import ReferenceProfile, decode_profile

MANIFEST_FILE = "manifest.json"
FILES_DIRECTORY = "files"
_PIECE = 1 << 20


@dataclass(frozen=True, eq=False)
class Installed:
    """A variant whose files were all found to be what the manifest says."""

    manifest: Manifest
    variant: Variant
    model_path: Path
    golden: GoldenSamples
    profile: ReferenceProfile

    @property
    def profile_digest(self) -> str:
        """The profile's identity."""
        return self.variant.profile.digest


def open_installed(directory: Path, variant: str, manifest_digest: str) -> Installed:
    """Check and read an installed variant.

    Raises `DigestMismatch` for altered bytes, `BrokenBundle` for absent files or an unknown
    variant, `MalformedManifest`, `MalformedGolden` or `MalformedProfile` for the files' contents,
    and `OSError` when the disk fails.
    """
    manifest = decode_manifest(_read_manifest(directory / MANIFEST_FILE, manifest_digest))
    chosen = next((v for v in manifest.variants if v.name == variant), None)
    if chosen is None:
        raise BrokenBundle(f"{manifest.target} has no variant {variant[:80]!r}")
    model_path = installed_path(directory, chosen.model)
    _check_file(model_path, chosen.model)
    profile = decode_profile(_read_file(directory, chosen.profile))
    if profile.variant != chosen.name or profile.inputs != chosen.inputs:
        raise BrokenBundle(f"{chosen.profile.path} is the profile of another variant")
    golden = decode_golden(_read_file(directory, chosen.golden))
    return Installed(manifest, chosen, model_path, golden, profile)


def installed_path(directory: Path, ref: FileRef) -> Path:
    """Where a file of the manifest lies; a manifest's paths cannot leave the directory."""
    return directory / FILES_DIRECTORY / ref.path


def _read_manifest(path: Path, digest: str) -> bytes:
    with _open(path) as file:
        return require_digest(file.read(MAX_MANIFEST_BYTES + 1), digest, MANIFEST_FILE)


def _read_file(directory: Path, ref: FileRef) -> bytes:
    with _open(installed_path(directory, ref)) as file:
        _check_length(file, ref)
        return require_digest(file.read(ref.length), ref.digest, ref.path)


def _check_file(path: Path, ref: FileRef) -> None:
    sha256 = hashlib.sha256()
    with _open(path) as file:
        _check_length(file, ref)
        while piece := file.read(_PIECE):
            sha256.update(piece)
    require_same_digest(sha256.hexdigest(), ref.digest, ref.path)


def _check_length(file: IO[bytes], ref: FileRef) -> None:
    length = os.fstat(file.fileno()).st_size
    if length != ref.length:
        raise DigestMismatch(f"{ref.path}: {length} bytes; the manifest says {ref.length}")


def _open(path: Path) -> IO[bytes]:
    """Open a regular file; a link or a pipe in its place is as bad as nothing."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BrokenBundle(f"{path.name} is missing from {path.parent}") from error
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise BrokenBundle(f"{path.name} in {path.parent} is a link") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise BrokenBundle(f"{path.name} in {path.parent} is not a file")
    return os.fdopen(handle, "rb")
