"""The last step: a release that devices can read back, or no file at all."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from contract.manifest import Manifest
from converter.bundle import write
from converter.convert import Converted
from converter.errors import NotARelease, OutputUnwritable
from model.archive import open_bundle


@pytest.fixture
def files(converted: Converted) -> dict[str, bytes]:
    """The files of the converted digits release by path."""
    with open_bundle(converted.path) as bundle:
        refs = [*bundle.manifest.device_files, *bundle.manifest.hub_files]
        return {ref.path: bundle.read(ref) for ref in refs}


def changed(converted: Converted, **fields: object) -> Manifest:
    return msgspec.structs.replace(converted.manifest, **fields)


def test_the_digest_is_the_manifests(
    converted: Converted, files: dict[str, bytes], tmp_path: Path
) -> None:
    path = tmp_path / "again.bundle"
    assert write(path, converted.manifest, files) == converted.manifest_digest
    assert path.read_bytes() == converted.path.read_bytes()


def test_what_no_device_could_read_back_is_not_written(
    converted: Converted, files: dict[str, bytes], tmp_path: Path
) -> None:
    path = tmp_path / "bad.bundle"
    with pytest.raises(NotARelease, match=r"bad\.bundle"):
        write(path, changed(converted, labels=["x" * 121]), files)
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_too_long_for_one_blob_is_not_written(
    converted: Converted, files: dict[str, bytes], tmp_path: Path
) -> None:
    with pytest.raises(NotARelease, match="at most"):
        write(tmp_path / "b.bundle", changed(converted, labels=["x" * 100] * 2000), files)
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_not_the_manifests_are_not_written(
    converted: Converted, files: dict[str, bytes], tmp_path: Path
) -> None:
    files["report.json"] += b" "
    with pytest.raises(NotARelease):
        write(tmp_path / "b.bundle", converted.manifest, files)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_gone_is_named(
    converted: Converted, files: dict[str, bytes], tmp_path: Path
) -> None:
    with pytest.raises(OutputUnwritable, match="No such file"):
        write(tmp_path / "gone" / "b.bundle", converted.manifest, files)
