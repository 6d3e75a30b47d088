"""The `.bundle` file: a release's manifest, the files it names, and signed TUF metadata.

A ZIP archive of stored members, sorted by name and dated 1980, so that the same release always
gives the same bytes. Members: `manifest.json`, `files/<path>` for each file of the manifest, and
`trust/<name>.json`. Whatever else a ZIP can hold (compression, encryption, comments, ZIP64,
directories, links) is refused, and nothing is ever extracted to a path that an archive chose.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from contract.ids import require_digest, require_same_digest
from contract.manifest import (
    MAX_MANIFEST_BYTES,
    FileRef,
    Manifest,
    decode_manifest,
    encode_manifest,
)
from model.errors import BrokenBundle
from model.whole_file import replacing

MAX_BUNDLE_BYTES = 2_000_000_000
"""Far from the 4 GiB at which a ZIP needs other structures."""
MAX_TRUST_BYTES = 512 * 1024
MAX_TRUST_FILES = 64
MAX_MEMBERS = 256
_MAX_DIRECTORY_BYTES = MAX_MEMBERS * 256

_PIECE = 1 << 20
_MANIFEST = "manifest.json"
_FILES = "files/"
_TRUST = "trust/"
_TRUST_NAME = re.compile(r"^[0-9a-z][0-9a-z.-]{0,120}\.json\Z")
_END = struct.Struct("<4s4H2LH")
_LOCATOR_BYTES = 20

_Member = tuple[str, Callable[[], bytes]]

# What zipfile raises on damaged archives is not one family.
_DAMAGE = (
    zipfile.BadZipFile,
    EOFError,
    KeyError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    ValueError,
    struct.error,
    zlib.error,
)


class Bundle:
    """An open bundle. A context manager; every read checks what it returns."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self._path = path
        self._archive = archive
        self._members = _check_members(archive)
        self.manifest_bytes = self._read(_MANIFEST, MAX_MANIFEST_BYTES)
        self.manifest: Manifest = decode_manifest(self.manifest_bytes)
        _check_names(self._members, self.manifest)

    def __enter__(self) -> Bundle:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._archive.close()

    def read(self, ref: FileRef) -> bytes:
        """One file's bytes; raises `BrokenBundle`, or `DigestMismatch` when they were altered."""
        data = self._read(_FILES + ref.path, ref.length)
        _require_length(len(data), ref)
        return require_digest(data, ref.digest, ref.path)

    def trust(self) -> dict[str, bytes]:
        """The signed TUF metadata by file name; empty in a bundle that is not signed."""
        names = sorted(name for name in self._members if name.startswith(_TRUST))
        return {name[len(_TRUST) :]: self._read(name, MAX_TRUST_BYTES) for name in names}

    def check(self) -> None:
        """Read everything once, piece by piece; raises what `read` and `trust` raise."""
        for ref in _refs(self.manifest):
            self._check(ref)
        self.trust()

    def _check(self, ref: FileRef) -> None:
        info = self._info(_FILES + ref.path, ref.length)
        sha256 = hashlib.sha256()
        with _damage_named(ref.path), self._archive.open(info) as member:
            while piece := member.read(_PIECE):
                sha256.update(piece)
        _require_length(info.file_size, ref)
        require_same_digest(sha256.hexdigest(), ref.digest, ref.path)

    def _read(self, name: str, limit: int) -> bytes:
        info = self._info(name, limit)
        with _damage_named(name):
            return self._archive.read(info)

    def _info(self, name: str, limit: int) -> zipfile.ZipInfo:
        info = self._members.get(name)
        if info is None:
            raise BrokenBundle(f"{self._path.name} has no {name}")
        if info.file_size > limit:
            raise BrokenBundle(f"{name}: {info.file_size} bytes; at most {limit}")
        return info


def open_bundle(path: Path) -> Bundle:
    """Open and check a bundle's structure and manifest, not yet its files' digests.

    Raises `BrokenBundle`, `MalformedManifest`, or `OSError` when the file cannot be opened.
    """
    with path.open("rb") as file:
        _check_end(path, file)
    with _damage_named(path.name):
        archive = zipfile.ZipFile(path)
    try:
        return Bundle(path, archive)
    except BaseException:
        archive.close()
        raise


@contextmanager
def _damage_named(what: str) -> Iterator[None]:
    """Let out `BrokenBundle` for whatever zipfile makes of a damaged archive."""
    try:
        yield
    except _DAMAGE as error:
        raise BrokenBundle(f"{what} cannot be read: {str(error)[:200]}") from error
    except OSError as error:
        # An offset that points before the file's start; any other is the disk's own.
        if error.errno != errno.EINVAL:
            raise
        raise BrokenBundle(f"{what} cannot be read: an offset lies outside of it") from error


def write_bundle(
    path: Path,
    manifest: Manifest,
    files: Mapping[str, bytes],
    trust: Mapping[str, bytes] | None = None,
) -> None:
    """Write a bundle: whole and synced under `path`, or not at all.

    `files` holds exactly the manifest's paths, `trust` file name -> signed metadata. Raises
    `BrokenBundle` when they do not fit, `DigestMismatch` when a file is not the manifest's.
    """
    refs = {ref.path: ref for ref in _refs(manifest)}
    for name in sorted(refs.keys() ^ files.keys()):
        raise BrokenBundle(f"{name} stands in {'the manifest' if name in refs else 'files'} only")
    for ref in refs.values():
        require_digest(files[ref.path], ref.digest, ref.path)
    manifest_bytes = encode_manifest(manifest)
    members: list[_Member] = [(_MANIFEST, lambda: manifest_bytes)]
    members += [(_FILES + name, _always(data)) for name, data in files.items()]
    _write(path, [*members, *_trust_members(trust or {})])


def with_trust(src: Path, dst: Path, trust: Mapping[str, bytes]) -> None:
    """Copy a bundle with other signed metadata; `src` and `dst` may be the same file.

    Raises what `open_bundle` and `Bundle.read` raise; `dst` is then left as it was.
    """
    with open_bundle(src) as bundle:
        members: list[_Member] = [(_MANIFEST, lambda: bundle.manifest_bytes)]
        for ref in _refs(bundle.manifest):
            members.append((_FILES + ref.path, _reader(bundle, ref)))
        _write(dst, [*members, *_trust_members(trust)])


def _always(data: bytes) -> Callable[[], bytes]:
    return lambda: data


def _reader(bundle: Bundle, ref: FileRef) -> Callable[[], bytes]:
    return lambda: bundle.read(ref)


def _require_length(length: int, ref: FileRef) -> None:
    if length != ref.length:
        raise BrokenBundle(f"{ref.path}: {length} bytes; the manifest says {ref.length}")


def _refs(manifest: Manifest) -> list[FileRef]:
    unique = {ref.path: ref for ref in [*manifest.device_files, *manifest.hub_files]}
    return [unique[path] for path in sorted(unique)]


def _trust_members(trust: Mapping[str, bytes]) -> list[_Member]:
    if len(trust) > MAX_TRUST_FILES:
        raise BrokenBundle(f"{len(trust)} metadata files; at most {MAX_TRUST_FILES}")
    for name, data in trust.items():
        _check_trust(name, len(data))
    return [(_TRUST + name, _always(data)) for name, data in trust.items()]


def _check_trust(name: str, length: int) -> None:
    if not _TRUST_NAME.match(name):
        raise BrokenBundle(f"{name[:80]!r} is not the name of a metadata file")
    if length > MAX_TRUST_BYTES:
        raise BrokenBundle(f"{name}: {length} bytes; at most {MAX_TRUST_BYTES}")


def _write(path: Path, members: Iterable[_Member]) -> None:
    with (
        replacing(path, 0o644) as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=False) as archive,
    ):
        for name, read in sorted(members, key=lambda member: member[0]):
            archive.writestr(_info(name), read())


def _info(name: str) -> zipfile.ZipInfo:
    # Everything that zipfile would take from the machine or the moment is set here.
    info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    info.create_system = 3
    info.external_attr = 0o100644 << 16
    return info


def _check_end(path: Path, file: IO[bytes]) -> None:
    """Bound what zipfile will read: it loads the whole directory before anyone can look at it."""
    size = file.seek(0, os.SEEK_END)
    if not _END.size <= size <= MAX_BUNDLE_BYTES:
        raise BrokenBundle(f"{path.name} is not a bundle: {size} bytes")
    file.seek(max(0, size - _END.size - _LOCATOR_BYTES))
    tail = file.read()
    signature, _, _, _, count, directory_bytes, _, comment = _END.unpack(tail[-_END.size :])
    if signature != b"PK\x05\x06" or comment:
        raise BrokenBundle(f"{path.name} is not a bundle, or it was cut short")
    if tail[: -_END.size].startswith(b"PK\x06\x07"):
        raise BrokenBundle(f"{path.name} is a ZIP64 archive, which bundles never are")
    if count > MAX_MEMBERS or directory_bytes > _MAX_DIRECTORY_BYTES:
        raise BrokenBundle(f"{path.name} has {count} members; at most {MAX_MEMBERS}")


def _check_members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        if info.filename in members:
            raise BrokenBundle(f"{info.filename[:150]!r} is in the archive twice")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise BrokenBundle(f"{info.filename[:150]!r} is compressed, which members never are")
        members[info.filename] = info
    return members


def _check_names(members: Mapping[str, zipfile.ZipInfo], manifest: Manifest) -> None:
    expected = {_MANIFEST, *(_FILES + ref.path for ref in _refs(manifest))}
    for name in sorted(expected - members.keys()):
        raise BrokenBundle(f"{name} is missing from the archive")
    trust = members.keys() - expected
    for name in sorted(trust):
        if not name.startswith(_TRUST):
            raise BrokenBundle(f"{name[:150]!r} does not belong in a bundle")
        _check_trust(name[len(_TRUST) :], members[name].file_size)
    if len(trust) > MAX_TRUST_FILES:
        raise BrokenBundle(f"{len(trust)} metadata files; at most {MAX_TRUST_FILES}")
