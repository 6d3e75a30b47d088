"""What a request may cost: the size of its body, and how often a stranger may ask.

Uploads have limits of their own, since they are streamed to disk; every other body is bounded here,
before anything parses it.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES = 1 << 20
MAX_REMEMBERED = 10_000


class BoundedBodies:
    """ASGI middleware: 413 for a body above the limit, announced or not."""

    def __init__(self, app: ASGIApp, limits: dict[str, int]) -> None:
        """`limits`: paths with a limit of their own."""
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Counts what comes, whatever was announced."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limits.get(scope["path"], MAX_BODY_BYTES)
        left = limit

        async def counted() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                # Known to the framework, which would call any other error a malformed body.
                raise HTTPException(413, f"the body is too large: at most {limit} bytes")
            return message

        if _announced(scope) > limit:
            await _too_long(send, limit)
            return
        await self._app(scope, counted, send)


def _announced(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() and len(value) < 20 else 0
    return 0


async def _too_long(send: Send, limit: int) -> None:
    message = f"the body is too large: at most {limit} bytes"
    body = json.dumps({"error": {"code": "too-large", "message": message}}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class RateLimit:
    """So many requests a minute per name, and `overall` for all names together."""

    def __init__(self, per_name: int, overall: int, clock: Callable[[], int]) -> None:
        """Nobody has asked yet."""
        self._per_name, self._overall, self._clock = per_name, overall, clock
        self._buckets: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._lock = Lock()

    def allows(self, name: str) -> bool:
        """Take one request's worth from both buckets; False when either is empty.

        The name's own first: one that asks without end takes nothing from the others.
        """
        with self._lock:
            now_ms = self._clock()
            if not self._take(f"/{name}", self._per_name, now_ms):
                return False
            return self._take("", self._overall, now_ms)

    def _take(self, key: str, per_minute: int, now_ms: int) -> bool:
        left, since_ms = self._buckets.pop(key, (float(per_minute), now_ms))
        left = min(per_minute, left + max(0, now_ms - since_ms) * per_minute / 60_000)
        allowed = left >= 1
        self._buckets[key] = (left - 1 if allowed else left, now_ms)
        while len(self._buckets) > MAX_REMEMBERED:
            self._buckets.popitem(last=False)
        return allowed
