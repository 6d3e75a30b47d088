"""From staging into the store, and what is reused from there, kept there, and let go."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import DiskFull, Malformed, Tampered
from agent.store.collection import collect, drop_staging, to_remove
from agent.store.install import install, is_whole, read_manifest, variant_of
from agent.store.layout import Layout, file_path
from agent.store.reuse import chunks_on_disk, read_spot
from agent.store.space import MARGIN_BYTES, free_bytes, require_space
from model.installed import open_installed
from tests.agent.deployment.releases import VARIANT, Released
from tests.agent.store.conftest import plan_of, stage


def installed(layout: Layout, released: Released) -> Path:
    stage(layout, released)
    return install(layout, "digits", released.digest, VARIANT)


def test_an_installed_release_is_what_the_model_room_reads(layout: Layout, v1: Released) -> None:
    directory = installed(layout, v1)
    found = open_installed(directory, VARIANT, v1.digest)
    assert found.manifest == v1.manifest
    assert not layout.staged(v1.digest).exists()


def test_installing_again_changes_nothing(layout: Layout, v1: Released) -> None:
    first = installed(layout, v1)
    before = first.stat().st_ino
    assert install(layout, "digits", v1.digest, VARIANT) == first
    assert first.stat().st_ino == before


def test_an_altered_file_is_never_installed(layout: Layout, v1: Released) -> None:
    staging = stage(layout, v1)
    path = file_path(staging.directory, v1.variant.golden)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(Tampered, match=r"golden\.bin"):
        install(layout, "digits", v1.digest, VARIANT)
    assert not layout.installed("digits", v1.digest).exists()


def test_an_altered_manifest_is_never_installed(layout: Layout, v1: Released) -> None:
    staging = stage(layout, v1)
    path = staging.directory / "manifest.json"
    path.write_bytes(v1.manifest_bytes.replace(b'"digits"', b'"digitz"'))
    with pytest.raises(Tampered):
        install(layout, "digits", v1.digest, VARIANT)


def test_nothing_staged_and_nothing_installed_is_said(layout: Layout, v1: Released) -> None:
    with pytest.raises(Tampered, match="neither staged nor installed"):
        install(layout, "digits", v1.digest, VARIANT)


def test_a_variant_that_the_release_does_not_have_is_malformed(
    layout: Layout, v1: Released
) -> None:
    stage(layout, v1)
    with pytest.raises(Malformed, match="tflite-int8"):
        install(layout, "digits", v1.digest, "tflite-int8")


def test_a_damaged_installed_file_is_made_whole_by_a_new_download(
    layout: Layout, v1: Released
) -> None:
    directory = installed(layout, v1)
    path = file_path(directory, v1.variant.model)
    path.write_bytes(b"damaged")
    assert not is_whole(directory, v1.variant)
    installed(layout, v1)
    assert is_whole(directory, v1.variant)


def test_a_move_that_was_cut_in_the_middle_is_finished(layout: Layout, v1: Released) -> None:
    directory = installed(layout, v1)
    file_path(directory, v1.variant.model).write_bytes(b"damaged")
    staging = stage(layout, v1)
    os.replace(
        file_path(staging.directory, v1.variant.golden), file_path(directory, v1.variant.golden)
    )
    install(layout, "digits", v1.digest, VARIANT)
    open_installed(directory, VARIANT, v1.digest)


def test_a_release_without_its_manifest_is_absent(layout: Layout, v1: Released) -> None:
    assert read_manifest(layout.installed("digits", v1.digest), v1.digest) is None
    directory = installed(layout, v1)
    found = read_manifest(directory, v1.digest)
    assert found is not None
    assert variant_of(found, VARIANT) == v1.variant


def test_chunks_of_installed_releases_are_found_and_checked(
    layout: Layout, v1: Released, v2: Released
) -> None:
    directory = installed(layout, v1)
    spots = chunks_on_disk(layout)
    shared = plan_of(v2).places.keys() & spots.keys()
    assert shared
    for digest in shared:
        assert read_spot(spots[digest], digest) == v2.blobs[digest]
    file_path(directory, v1.variant.model).write_bytes(b"")
    assert any(read_spot(spots[digest], digest) is None for digest in shared)


def test_a_damaged_release_offers_nothing_for_reuse(layout: Layout, v1: Released) -> None:
    directory = installed(layout, v1)
    (directory / "manifest.json").write_bytes(b"{")
    assert chunks_on_disk(layout) == {}


def test_collection_keeps_what_is_pinned_and_the_newest(
    layout: Layout, v1: Released, v2: Released
) -> None:
    for age, released in enumerate((v2, v1)):
        directory = installed(layout, released)
        os.utime(directory, (1_000 - age, 1_000 - age))
    assert collect(layout, "digits", [v1.digest, v2.digest], keep=0) == []
    assert collect(layout, "digits", [], keep=1) == [v1.digest]
    assert [p.name for p in (layout.store / "digits").iterdir()] == [v2.digest]
    assert collect(layout, "absent", [], keep=0) == []


def test_a_removal_that_was_cut_is_finished_and_never_looks_installed(layout: Layout) -> None:
    half = layout.store / "digits" / ".gone-abc"
    half.mkdir(parents=True)
    (half / "manifest.json").write_bytes(b"x")
    assert chunks_on_disk(layout) == {}
    collect(layout, "digits", [], keep=2)
    assert not half.exists()


@given(
    st.lists(st.sampled_from("abcdefgh"), unique=True),
    st.sets(st.sampled_from("abcdefgh")),
    st.integers(0, 5),
)
def test_what_is_removed_is_never_pinned_nor_new(
    newest_first: list[str], pinned: set[str], keep: int
) -> None:
    removed = to_remove(newest_first, pinned, keep)
    assert not set(removed) & (pinned | set(newest_first[:keep]))
    assert set(removed) | pinned | set(newest_first[:keep]) >= set(newest_first)


def test_downloads_that_nobody_needs_go(layout: Layout, v1: Released, v2: Released) -> None:
    stage(layout, v1)
    stage(layout, v2)
    drop_staging(layout, [v2.digest])
    assert [p.name for p in layout.staging.iterdir()] == [v2.digest]


def test_space_is_asked_for_with_figures(tmp_path: Path) -> None:
    require_space(tmp_path, 1)
    with pytest.raises(DiskFull, match="to spare") as refused:
        require_space(tmp_path, free_bytes(tmp_path) + 1)
    assert str(MARGIN_BYTES) in str(refused.value)
