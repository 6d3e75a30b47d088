"""Which installed releases may go, and their removal. What is pinned is never touched.

`to_remove` is pure; `collect` renames before it deletes, so that a power cut never leaves half a
release under an installed one's name.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

from agent.store.durable import sync_directory
from agent.store.layout import Layout

KEEP_RELEASES = 2
_GONE = ".gone-"


def to_remove(newest_first: Sequence[str], pinned: Collection[str], keep: int) -> list[str]:
    """The digests that are neither pinned nor among the `keep` newest."""
    kept = set(newest_first[:keep]) | set(pinned)
    return [digest for digest in newest_first if digest not in kept]


def collect(
    layout: Layout, family: str, pinned: Collection[str], keep: int = KEEP_RELEASES
) -> list[str]:
    """Remove what may go of one family; returns the digests."""
    folder = layout.store / family
    if not folder.is_dir():
        return []
    _sweep(folder)
    installed = [p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(_GONE)]
    newest_first = [p.name for p in sorted(installed, key=_age, reverse=True)]
    removed = to_remove(newest_first, pinned, keep)
    for digest in removed:
        (folder / digest).rename(folder / f"{_GONE}{digest}")
    sync_directory(folder)
    _sweep(folder)
    return removed


def drop_staging(layout: Layout, keep: Collection[str] = ()) -> None:
    """Forget downloads; those in `keep` may yet be carried on with."""
    if not layout.staging.is_dir():
        return
    for path in layout.staging.iterdir():
        if path.name not in keep:
            shutil.rmtree(path, ignore_errors=True)


def drop_staged(layout: Layout, digest: str) -> None:
    """Forget one download."""
    shutil.rmtree(layout.staged(digest), ignore_errors=True)


def _sweep(folder: Path) -> None:
    for path in folder.glob(f"{_GONE}*"):
        shutil.rmtree(path, ignore_errors=True)


def _age(directory: Path) -> float:
    return directory.stat().st_mtime
