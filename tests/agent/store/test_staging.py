"""Downloads: chunks in any order, nothing written down about them, nothing wrong accepted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from agent.errors import Malformed, Tampered
from agent.store.layout import Layout, file_path, variant_files
from agent.store.staging import Staging, plan_files
from contract.ids import digest_of
from contract.manifest import ChunkListRef, FileRef
from tests.agent.deployment.releases import Released
from tests.agent.store.conftest import plan_of, stage


def test_the_files_are_whole_once_every_chunk_came_in_any_order(
    layout: Layout, v1: Released
) -> None:
    staging = stage(layout, v1)
    for ref in variant_files(v1.variant):
        data = file_path(staging.directory, ref).read_bytes()
        assert (len(data), digest_of(data)) == (ref.length, ref.digest)


def test_what_is_held_is_found_by_its_bytes_alone(layout: Layout, v1: Released) -> None:
    staging, plan = Staging(layout.staged(v1.digest)), plan_of(v1)
    staging.prepare(plan)
    assert staging.held(plan) == set()
    some = list(plan.places)[::2]
    for digest in reversed(some):
        staging.put(plan, digest, v1.blobs[digest])
    staging.prepare(plan)
    assert staging.held(plan) == set(some)


def test_the_files_of_a_download_are_closed_when_it_ends(layout: Layout, v1: Released) -> None:
    staging, plan = Staging(layout.staged(v1.digest)), plan_of(v1)
    staging.prepare(plan)
    before = len(os.listdir("/proc/self/fd"))
    for digest in plan.places:
        staging.put(plan, digest, v1.blobs[digest])
    assert len(os.listdir("/proc/self/fd")) == before + len(plan.files)
    staging.close()
    staging.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_torn_chunk_is_not_held(layout: Layout, v1: Released) -> None:
    staging, plan = stage(layout, v1), plan_of(v1)
    path = file_path(staging.directory, v1.variant.model)
    with path.open("r+b") as file:
        file.seek(10)
        file.write(b"\x00\x00\x00")
    missing = plan.places.keys() - staging.held(plan)
    assert len(missing) == 1


def test_a_file_of_another_length_is_cut_or_filled_up(layout: Layout, v1: Released) -> None:
    staging, plan = stage(layout, v1), plan_of(v1)
    path = file_path(staging.directory, v1.variant.model)
    path.write_bytes(path.read_bytes() + b"more")
    staging.prepare(plan)
    assert staging.held(plan) == plan.places.keys()


def test_a_chunk_with_other_bytes_is_tampered_and_not_written(layout: Layout, v1: Released) -> None:
    staging, plan = Staging(layout.staged(v1.digest)), plan_of(v1)
    staging.prepare(plan)
    digest = next(iter(plan.places))
    with pytest.raises(Tampered):
        staging.put(plan, digest, b"x" * plan.lengths[digest])
    assert staging.held(plan) == set()


def test_a_chunk_that_was_checked_already_is_found_by_its_bytes_all_the_same(
    layout: Layout, v1: Released
) -> None:
    staging, plan = Staging(layout.staged(v1.digest)), plan_of(v1)
    staging.prepare(plan)
    right, wrong = list(plan.places)[:2]
    staging.keep(plan, right, v1.blobs[right])
    staging.keep(plan, wrong, b"x" * plan.lengths[wrong])
    assert staging.held(plan) == {right}


def test_a_chunk_that_stands_twice_is_written_to_both_places(tmp_path: Path) -> None:
    chunk = b"abc" * 100
    entry = bytes.fromhex(digest_of(chunk)) + len(chunk).to_bytes(4, "big")
    packed = entry * 2
    ref = FileRef(
        path="model.bin",
        length=600,
        digest=digest_of(chunk * 2),
        chunks=ChunkListRef(digest_of(packed), 2),
    )
    plan = plan_files([(ref, packed)])
    staging = Staging(tmp_path / "download")
    staging.prepare(plan)
    staging.put(plan, digest_of(chunk), chunk)
    assert file_path(staging.directory, ref).read_bytes() == chunk * 2
    assert staging.held(plan) == {digest_of(chunk)}


def test_chunk_lists_that_do_not_add_up_are_malformed(v1: Released) -> None:
    ref = v1.variant.model
    assert ref.chunks is not None
    packed = v1.blobs[ref.chunks.digest]
    with pytest.raises(Malformed, match="come to"):
        plan_files([(replace(ref, length=ref.length + 1), packed)])
    with pytest.raises(Malformed, match="chunk list"):
        plan_files([(ref, packed[:-1])])


def test_one_digest_with_two_lengths_is_malformed() -> None:
    digest = bytes.fromhex("ab" * 32)
    packed = digest + (5).to_bytes(4, "big") + digest + (6).to_bytes(4, "big")
    ref = FileRef(path="m", length=11, digest="0" * 64, chunks=ChunkListRef(digest_of(packed), 2))
    with pytest.raises(Malformed, match="two lengths"):
        plan_files([(ref, packed)])


def test_a_torn_manifest_or_chunk_list_is_fetched_again(layout: Layout, v1: Released) -> None:
    staging = stage(layout, v1)
    assert staging.manifest(v1.digest) == v1.manifest_bytes
    (staging.directory / "manifest.json").write_bytes(v1.manifest_bytes[:-5])
    assert staging.manifest(v1.digest) is None
    ref = v1.variant.model
    assert ref.chunks is not None
    assert staging.chunk_list(ref) is not None
    (staging.directory / "chunks" / ref.chunks.digest).write_bytes(b"")
    assert staging.chunk_list(ref) is None


def test_links_below_a_download_are_taken_away(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").symlink_to(tmp_path)
    staged = tmp_path / "staged"
    (staged / "files").mkdir(parents=True)
    (staged / "files" / "model").symlink_to(outside / "victim")
    (staged / "chunks").symlink_to(outside)
    Staging(staged).discard_links()
    assert [path.name for path in staged.rglob("*")] == ["files"]

    (tmp_path / "link").symlink_to(outside)
    Staging(tmp_path / "link").discard_links()
    assert not (tmp_path / "link").is_symlink()
    assert (outside / "kept").is_symlink()


def test_what_would_hold_a_reader_up_or_lead_a_writer_out_is_taken_away(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"kept")
    staged = tmp_path / "staged"
    (staged / "files").mkdir(parents=True)
    os.link(victim, staged / "files" / "model")
    os.mkfifo(staged / "manifest.json")
    (staged / "files" / "own").write_bytes(b"")
    Staging(staged).discard_links()
    assert sorted(path.name for path in staged.rglob("*")) == ["files", "own"]
    assert victim.read_bytes() == b"kept"


def test_a_file_that_goes_on_for_ever_is_not_read_to_its_end(layout: Layout, v1: Released) -> None:
    staging = stage(layout, v1)
    ref = v1.variant.model
    assert ref.chunks is not None
    for path in (
        staging.directory / "manifest.json",
        staging.directory / "chunks" / ref.chunks.digest,
    ):
        with path.open("r+b") as file:
            file.truncate(1 << 40)
    assert staging.manifest(v1.digest) is None
    assert staging.chunk_list(ref) is None
