"""The store is bounded in bytes: what stays is what is pinned, and the newest."""

from __future__ import annotations

import os
from pathlib import Path

from agent.store.collection import KEEP_RELEASES, collect, drop_staging
from agent.store.layout import Layout

RELEASE_BYTES = 50_000


def install(layout: Layout, number: int) -> str:
    digest = f"{number:064x}"
    directory = layout.installed("digits", digest)
    (directory / "files").mkdir(parents=True)
    (directory / "files" / "model").write_bytes(bytes(RELEASE_BYTES))
    os.utime(directory, (number, number))
    return digest


def held_bytes(layout: Layout) -> int:
    return sum(p.stat().st_size for p in layout.store.rglob("*") if p.is_file())


def test_a_hundred_releases_later_the_store_is_as_large_as_the_kept_ones(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    serving = install(layout, 1)
    for number in range(2, 102):
        install(layout, number)
        collect(layout, "digits", pinned=[serving])
        assert held_bytes(layout) <= (KEEP_RELEASES + 1) * RELEASE_BYTES
    assert layout.installed("digits", serving).is_dir()


def test_an_abandoned_download_takes_no_room_after_the_next_order(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    for number in range(20):
        staged = layout.staged(f"{number:064x}")
        staged.mkdir(parents=True)
        (staged / "part").write_bytes(bytes(RELEASE_BYTES))
    drop_staging(layout, keep=[f"{3:064x}"])
    assert [p.name for p in layout.staging.iterdir()] == [f"{3:064x}"]
