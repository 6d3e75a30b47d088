"""Reads the hub's lists page by page."""

from __future__ import annotations

from typing import Any

from outrider.client import HubClient

PAGE = 1_000
MAX_PAGES = 1_000


def every_item(
    hub: HubClient, path: str, after: str | int | None = None, **query: str | int | None
) -> list[Any]:
    """All items of a list from the cursor `after` on, at most a million."""
    found: list[Any] = []
    for _ in range(MAX_PAGES):
        page = hub.get(path, after=after, limit=PAGE, **query)
        found += page["items"]
        after = page["next"]
        if after is None:
            break
    return found
