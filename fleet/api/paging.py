"""Lists in bounded pieces: `{"items", "next"}`, read on with `?after=`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

from fastapi import Query

MAX_PAGE = 1_000
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="Items at most.")]
AfterId = Annotated[int, Query(ge=0, le=1 << 53, description="`next` of the page before.")]
AfterName = Annotated[str, Query(max_length=200, description="`next` of the page before.")]
Name = Annotated[str, Query(max_length=63)]

T = TypeVar("T")


def page(
    found: Sequence[T], limit: int, cursor: Callable[[T], Any], shape: Callable[[T], Any]
) -> dict[str, Any]:
    """`found` holds one more than `limit` when there is more to read."""
    items = list(found[:limit])
    more = cursor(items[-1]) if len(found) > limit else None
    return {"items": [shape(item) for item in items], "next": more}
