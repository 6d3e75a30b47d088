"""Bundles: the same release gives the same bytes, and no damaged archive gets past the door."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.errors import ContractError, DigestMismatch, MalformedManifest
from contract.ids import digest_of
from contract.manifest import Manifest, encode_manifest
from model import archive
from model.archive import open_bundle, with_trust, write_bundle
from model.errors import BrokenBundle, ModelError
from tests.model.builders import bundle, release

Release = tuple[Manifest, dict[str, bytes]]
TRUST = {"2.digits.json": b'{"signed": 2}', "1.targets.json": b'{"signed": 1}'}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return release(tmp_path_factory.mktemp("release"))


@pytest.fixture
def written(tmp_path: Path, made: Release) -> Path:
    path = tmp_path / "digits-1.bundle"
    write_bundle(path, *made, trust=TRUST)
    return path


def _rewrite(
    path: Path, change: Callable[[dict[str, bytes]], object], compression: int = zipfile.ZIP_STORED
) -> Path:
    """The archive again, through plain zipfile, with other members."""
    with zipfile.ZipFile(path) as source:
        members = {name: source.read(name) for name in source.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w", compression) as target:
        for name, data in members.items():
            target.writestr(name, data)
    return path


def test_a_bundle_gives_back_what_was_written(written: Path, made: Release) -> None:
    manifest, files = made
    with open_bundle(written) as found:
        assert found.manifest == manifest
        assert found.manifest_bytes == encode_manifest(manifest)
        for ref in [*manifest.device_files, *manifest.hub_files]:
            assert found.read(ref) == files[ref.path]
        assert found.trust() == TRUST
        found.check()


def test_the_same_release_gives_the_same_bytes(tmp_path: Path, made: Release) -> None:
    manifest, files = made
    write_bundle(tmp_path / "a", manifest, files, TRUST)
    os.utime(tmp_path / "a", (1, 1))
    write_bundle(tmp_path / "b", manifest, dict(reversed(files.items())), TRUST)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_another_process_with_another_hash_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom tests.model.builders import bundle\n"
        "bundle(Path(sys.argv[1]))"
    )
    digests = set()
    for seed in ("0", "1"):
        folder = tmp_path / seed
        folder.mkdir()
        subprocess.run(
            [sys.executable, "-c", script, str(folder)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        )
        digests.add(digest_of((folder / "digits-1.bundle").read_bytes()))
    assert len(digests) == 1


def test_members_are_stored_sorted_and_dated_1980(written: Path) -> None:
    with zipfile.ZipFile(written) as found:
        infos = found.infolist()
    assert [info.filename for info in infos] == sorted(info.filename for info in infos)
    assert {info.date_time for info in infos} == {(1980, 1, 1, 0, 0, 0)}
    assert {info.compress_type for info in infos} == {zipfile.ZIP_STORED}


def test_a_failed_write_leaves_the_old_bundle_and_nothing_else(
    written: Path, made: Release
) -> None:
    before = written.read_bytes()
    manifest, files = made
    for broken in (files | {"stray.txt": b""}, dict(list(files.items())[1:])):
        with pytest.raises(BrokenBundle, match="only"):
            write_bundle(written, manifest, broken)
    with pytest.raises(DigestMismatch, match=r"report\.json"):
        write_bundle(written, manifest, files | {"report.json": b"other"})
    with pytest.raises(BrokenBundle, match="metadata"):
        write_bundle(written, manifest, files, {"../root.json": b""})
    assert written.read_bytes() == before
    assert os.listdir(written.parent) == [written.name]


def test_a_write_that_dies_in_the_middle_leaves_no_file(
    tmp_path: Path, made: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space"):
        write_bundle(tmp_path / "a.bundle", *made)
    assert os.listdir(tmp_path) == []


def test_signing_changes_the_trust_members_only(written: Path, made: Release) -> None:
    plain = written.with_name("plain.bundle")
    write_bundle(plain, *made)
    with_trust(plain, plain, {"9.digits.json": b"9"})
    with_trust(plain, plain, TRUST)
    assert plain.read_bytes() == written.read_bytes()


def test_signing_a_damaged_bundle_leaves_no_file(written: Path) -> None:
    _alter(written, b'{"accuracy": 1.0}', b'{"accuracy": 0.0}')
    with pytest.raises((DigestMismatch, BrokenBundle)):
        with_trust(written, written.with_name("signed.bundle"), TRUST)
    assert os.listdir(written.parent) == [written.name]


def test_an_unsigned_bundle_has_no_trust(tmp_path: Path) -> None:
    with open_bundle(bundle(tmp_path)) as found:
        assert found.trust() == {}


def _alter(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))


def test_an_altered_file_is_found_by_its_digest(written: Path, made: Release) -> None:
    _rewrite(written, lambda members: members.update({"files/report.json": b'{"accuracy": 9.9}'}))
    with open_bundle(written) as found, pytest.raises(DigestMismatch, match=r"report\.json"):
        found.check()


def test_a_flipped_byte_is_found(written: Path) -> None:
    _alter(written, b'{"accuracy": 1.0}', b'{"accuracy": 0.0}')
    with open_bundle(written) as found, pytest.raises(BrokenBundle, match=r"report\.json"):
        found.check()


def test_a_shorter_file_is_found(written: Path) -> None:
    _rewrite(written, lambda members: members.update({"files/report.json": b"{}"}))
    with open_bundle(written) as found, pytest.raises(BrokenBundle, match="2 bytes"):
        found.check()


@pytest.mark.parametrize("name", ["manifest.json", "files/report.json"])
def test_a_missing_member_is_named(written: Path, name: str) -> None:
    _rewrite(written, lambda members: members.pop(name))
    with pytest.raises(BrokenBundle, match=name):
        open_bundle(written)


@pytest.mark.parametrize(
    "name",
    [
        "stray.txt",
        "files/stray.txt",
        "../evil",
        "/etc/passwd",
        "files/../../evil",
        "trust/",
        "dir/",
    ],
)
def test_a_member_that_does_not_belong_is_named(written: Path, name: str) -> None:
    _rewrite(written, lambda members: members.update({name: b""}))
    with pytest.raises(BrokenBundle):
        open_bundle(written)


@pytest.mark.parametrize("name", ["../root.json", "UPPER.json", "a.txt", "a/b.json"])
def test_a_metadata_file_of_another_name_is_refused(written: Path, name: str) -> None:
    _rewrite(written, lambda members: members.update({"trust/" + name: b""}))
    with pytest.raises(BrokenBundle, match="metadata file"):
        open_bundle(written)


def test_too_much_metadata_is_refused(written: Path) -> None:
    large = {"trust/1.root.json": bytes(archive.MAX_TRUST_BYTES + 1)}
    with pytest.raises(BrokenBundle, match="at most"):
        open_bundle(_rewrite(written, lambda members: members.update(large)))


def test_too_many_metadata_files_are_refused(written: Path, made: Release) -> None:
    many = {f"{i}.root.json": b"" for i in range(archive.MAX_TRUST_FILES + 1)}
    with pytest.raises(BrokenBundle, match="65 metadata files"):
        write_bundle(written, *made, trust=many)
    named = {f"trust/{name}": b"" for name in many}
    with pytest.raises(BrokenBundle, match="metadata files"):
        open_bundle(_rewrite(written, lambda members: members.update(named)))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_stands_twice_is_refused(written: Path) -> None:
    with zipfile.ZipFile(written, "a") as target:
        target.writestr("manifest.json", b"{}")
    with pytest.raises(BrokenBundle, match="twice"):
        open_bundle(written)


def test_a_compressed_archive_is_refused(written: Path) -> None:
    _rewrite(written, lambda members: None, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(BrokenBundle, match="compressed"):
        open_bundle(written)


def test_an_archive_with_a_comment_is_refused(written: Path) -> None:
    with zipfile.ZipFile(written, "a") as target:
        target.comment = b"hello"
    with pytest.raises(BrokenBundle, match="cut short"):
        open_bundle(written)


def test_an_archive_of_too_many_members_is_not_read(written: Path) -> None:
    many = {f"files/f{i}": b"" for i in range(archive.MAX_MEMBERS)}
    with pytest.raises(BrokenBundle, match="members; at most"):
        open_bundle(_rewrite(written, lambda members: members.update(many)))


def test_a_zip64_archive_is_refused(written: Path) -> None:
    data = written.read_bytes()
    locator = b"PK\x06\x07" + bytes(16)
    written.write_bytes(data[:-22] + locator + data[-22:])
    with pytest.raises(BrokenBundle, match="ZIP64"):
        open_bundle(written)


@pytest.mark.parametrize("data", [b"", b"PK", b"not a bundle at all, but long enough"])
def test_what_is_no_archive_is_said_to_be_none(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.bundle").write_bytes(data)
    with pytest.raises(BrokenBundle, match=r"x\.bundle is not a bundle"):
        open_bundle(tmp_path / "x.bundle")


def test_a_bundle_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_bundle(tmp_path / "none.bundle")


def test_a_broken_manifest_is_malformed(written: Path) -> None:
    _rewrite(written, lambda members: members.update({"manifest.json": b'{"schema": 1}'}))
    with pytest.raises(MalformedManifest):
        open_bundle(written)


def test_a_manifest_that_contradicts_the_archive_is_refused(written: Path, made: Release) -> None:
    longer = [msgspec.structs.replace(made[0].hub_files[0], length=99)]
    altered = encode_manifest(msgspec.structs.replace(made[0], hub_files=longer))
    _rewrite(written, lambda members: members.update({"manifest.json": altered}))
    with open_bundle(written) as found, pytest.raises(BrokenBundle, match="the manifest says 99"):
        found.check()


def test_a_folder_that_cannot_be_written_to_is_told_with_the_bundles_name(made: Release) -> None:
    # Nobody can make a file there, root neither.
    with pytest.raises(OSError, match=r"'/proc/digits\.bundle'"):
        write_bundle(Path("/proc/digits.bundle"), made[0], made[1])


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(where=st.floats(0, 1), junk=st.binary(min_size=1, max_size=12), cut=st.booleans())
def test_no_damage_raises_anything_but_ours(
    written: Path, made: Release, where: float, junk: bytes, cut: bool
) -> None:
    good = written.read_bytes()
    # Half the damage goes to the directory at the end, where the structure is.
    place = len(good) - int(where * 1_500) if len(junk) % 2 else int(where * len(good))
    damaged = good[:place] if cut else good[:place] + junk + good[place + len(junk) :]
    path = written.with_name("damaged.bundle")
    path.write_bytes(damaged)
    try:
        with open_bundle(path) as found:
            found.check()
            assert found.manifest == made[0]
    except (ModelError, ContractError):
        assert damaged != good
