"""An installed variant is believed only as far as its digests reach."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from contract.errors import DigestMismatch
from contract.ids import digest_of
from contract.manifest import Manifest, encode_manifest
from model.chunks import file_ref
from model.errors import BrokenBundle, MalformedGolden, MalformedProfile
from model.golden import run_golden
from model.installed import open_installed
from model.runtimes import open_session
from tests.model.builders import install, release

Release = tuple[Manifest, dict[str, bytes]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return release(tmp_path_factory.mktemp("release"))


@pytest.fixture
def directory(tmp_path: Path, made: Release) -> Path:
    return install(tmp_path / "installed", *made)


def _digest(made: Release) -> str:
    return digest_of(encode_manifest(made[0]))


def test_an_installed_variant_runs_its_own_golden_samples(directory: Path, made: Release) -> None:
    found = open_installed(directory, "onnx-int8", _digest(made))
    assert found.manifest == made[0]
    assert found.variant.name == found.profile.variant == "onnx-int8"
    assert found.profile_digest == found.variant.profile.digest
    session = open_session(found.variant, found.model_path)
    assert run_golden(session, found.golden).passed


def test_an_unknown_variant_is_named(directory: Path, made: Release) -> None:
    with pytest.raises(BrokenBundle, match="no variant 'tflite-int8'"):
        open_installed(directory, "tflite-int8", _digest(made))


def test_another_manifest_is_a_digest_mismatch(directory: Path) -> None:
    with pytest.raises(DigestMismatch, match=r"manifest\.json"):
        open_installed(directory, "onnx-int8", "0" * 64)


@pytest.mark.parametrize("name", ["model.onnx", "golden.bin", "profile.json"])
def test_a_flipped_bit_is_found_in_every_file(directory: Path, made: Release, name: str) -> None:
    path = directory / "files" / "onnx-int8" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DigestMismatch, match=name):
        open_installed(directory, "onnx-int8", _digest(made))


@pytest.mark.parametrize("name", ["model.onnx", "golden.bin", "profile.json"])
def test_a_torn_file_is_found_by_its_length(directory: Path, made: Release, name: str) -> None:
    path = directory / "files" / "onnx-int8" / name
    os.truncate(path, 10)
    with pytest.raises(DigestMismatch, match="10 bytes"):
        open_installed(directory, "onnx-int8", _digest(made))


@pytest.mark.parametrize("name", ["manifest.json", "files/onnx-int8/golden.bin"])
def test_a_missing_file_is_named(directory: Path, made: Release, name: str) -> None:
    (directory / name).unlink()
    with pytest.raises(BrokenBundle, match=Path(name).name):
        open_installed(directory, "onnx-int8", _digest(made))


def test_a_directory_that_is_not_there_is_broken(tmp_path: Path) -> None:
    with pytest.raises(BrokenBundle, match="missing"):
        open_installed(tmp_path / "none", "onnx-int8", "0" * 64)


def test_a_pipe_in_a_files_place_does_not_block(directory: Path, made: Release) -> None:
    path = directory / "files" / "onnx-int8" / "model.onnx"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(BrokenBundle, match="is not a file"):
        open_installed(directory, "onnx-int8", _digest(made))


def test_a_link_in_a_files_place_is_not_followed(
    directory: Path, made: Release, tmp_path: Path
) -> None:
    path = directory / "files" / "onnx-int8" / "model.onnx"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BrokenBundle, match="link"):
        open_installed(directory, "onnx-int8", _digest(made))


@pytest.mark.parametrize(
    ("field", "error"), [("golden", MalformedGolden), ("profile", MalformedProfile)]
)
def test_a_genuine_but_malformed_file_is_refused(
    tmp_path: Path, made: Release, field: str, error: type[Exception]
) -> None:
    manifest, files = made
    (variant,) = manifest.variants
    path = str(getattr(variant, field).path)
    altered = msgspec.structs.replace(
        manifest,
        variants=[msgspec.structs.replace(variant, **{field: file_ref(path, b"nonsense")})],
    )
    place = install(tmp_path / "other", altered, {**files, path: b"nonsense"})
    with pytest.raises(error):
        open_installed(place, "onnx-int8", digest_of(encode_manifest(altered)))


def test_the_profile_of_another_variant_is_refused(tmp_path: Path, made: Release) -> None:
    manifest, files = made
    (variant,) = manifest.variants
    renamed = [msgspec.structs.replace(variant, name="onnx-fp32")]
    altered = msgspec.structs.replace(manifest, variants=renamed)
    place = install(tmp_path / "other", altered, files)
    with pytest.raises(BrokenBundle, match="another variant"):
        open_installed(place, "onnx-fp32", digest_of(encode_manifest(altered)))
