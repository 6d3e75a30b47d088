"""From staging into the store: digests again, then one rename. Also what is installed and whole.

An installed release never changes, except that another variant's files may join it. Nothing here
touches what serves.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from agent.errors import Malformed, Tampered
from agent.store.durable import disk_full_is_named, sync_directory
from agent.store.layout import (
    Layout,
    chunk_list_path,
    file_path,
    manifest_path,
    variant_files,
)
from contract.errors import ContractError
from contract.ids import digest_of
from contract.manifest import FileRef, Manifest, Variant, decode_manifest

_BLOCK = 1 << 20


def read_manifest(directory: Path, digest: str) -> Manifest | None:
    """The manifest of an installed or staged release; None when it is absent.

    Raises `Tampered` or `Malformed` when it is not the one that `digest` names.
    """
    try:
        data = manifest_path(directory).read_bytes()
    except FileNotFoundError:
        return None
    if digest_of(data) != digest:
        raise Tampered(f"{manifest_path(directory)} is not the manifest {digest[:16]}…")
    try:
        return decode_manifest(data)
    except ContractError as error:
        raise Malformed(str(error)) from error


def variant_of(manifest: Manifest, name: str) -> Variant:
    """One variant by name; raises `Malformed` when the release has none of that name."""
    for variant in manifest.variants:
        if variant.name == name:
            return variant
    raise Malformed(f"{manifest.target} has no variant {name!r}")


def is_whole(directory: Path, variant: Variant) -> bool:
    """Whether every file of the variant is here with its digest."""
    try:
        check_files(directory, variant)
    except (Tampered, OSError):
        return False
    return True


def check_files(directory: Path, variant: Variant, or_in: Path | None = None) -> None:
    """Read every file of the variant; raises `Tampered` that names the first wrong one.

    A file that is not in `directory` may be in `or_in`, where a cut move has put it.
    """
    for ref in variant_files(variant):
        path = file_path(directory, ref)
        if or_in is not None and not path.exists():
            path = file_path(or_in, ref)
        try:
            actual, length = _digest_of_file(path)
        except FileNotFoundError as error:
            raise Tampered(f"{ref.path} is missing") from error
        if (actual, length) != (ref.digest, ref.length):
            raise Tampered(
                f"{ref.path}: expected sha256 {ref.digest[:16]}… over {ref.length} bytes,"
                f" found {actual[:16]}… over {length}"
            )


def install(
    layout: Layout,
    family: str,
    digest: str,
    variant_name: str,
    checkpoint: Callable[[str], None] = lambda name: None,
) -> Path:
    """Check the staged release and move it into the store; safe to call again after any cut.

    Raises `Tampered`, `Malformed` or `DiskFull`; the store is then as it was.
    """
    staged, installed = layout.staged(digest), layout.installed(family, digest)
    found = read_manifest(staged, digest)
    if found is None:
        return _already(installed, digest, variant_name)
    variant = variant_of(found, variant_name)
    joins = installed.exists()
    check_files(staged, variant, or_in=installed if joins else None)
    checkpoint("install:checked")
    with disk_full_is_named(f"store/{family}"):
        _make_durable(layout, installed.parent)
        if joins:
            _join(staged, installed, variant)
        else:
            os.rename(staged, installed)
            sync_directory(layout.staging)
    sync_directory(installed.parent)
    checkpoint("install:renamed")
    shutil.rmtree(staged, ignore_errors=True)
    return installed


def _already(installed: Path, digest: str, variant_name: str) -> Path:
    manifest = read_manifest(installed, digest)
    if manifest is None:
        raise Tampered(f"release {digest[:16]}… is neither staged nor installed")
    check_files(installed, variant_of(manifest, variant_name))
    return installed


def _join(staged: Path, installed: Path, variant: Variant) -> None:
    """Another variant of a release that is installed, or a damaged one made whole again.

    Each file is replaced by a rename, so that whoever has the old one open keeps it.
    """
    for source, path in _moves(staged, installed, variant_files(variant)):
        path.parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, path)
        sync_directory(path.parent)


def _moves(staged: Path, installed: Path, refs: list[FileRef]) -> list[tuple[Path, Path]]:
    pairs = [(manifest_path(staged), manifest_path(installed))]
    for ref in refs:
        pairs.append((chunk_list_path(staged, ref), chunk_list_path(installed, ref)))
        pairs.append((file_path(staged, ref), file_path(installed, ref)))
    # The manifest goes last: while it is staged, a cut in the middle is carried on with. What has
    # moved by then is missing from staging, so only what is still there is moved.
    return [(a, b) for a, b in [*pairs[1:], pairs[0]] if a.exists()]


def _make_durable(layout: Layout, family_directory: Path) -> None:
    family_directory.mkdir(parents=True, exist_ok=True)
    sync_directory(layout.store)
    sync_directory(layout.state_dir)


def _digest_of_file(path: Path) -> tuple[str, int]:
    hasher, length = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            hasher.update(block)
            length += len(block)
    return hasher.hexdigest(), length
