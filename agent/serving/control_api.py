"""The control socket's paths: how the control process steers the data plane.

An ASGI app for the 0600 unix socket alone. Errors are `{cause, detail}` (protocol.ControlError).
"""

from __future__ import annotations

import os
import resource
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from agent.errors import DeviceError, Malformed
from agent.serving import protocol as p
from agent.serving.crashes import CrashNotes
from agent.serving.dataplane import DataPlane
from agent.serving.errors import RequestRefused, UnknownModel
from agent.serving.http import (
    App,
    BodyReader,
    Receive,
    Reply,
    Scope,
    Send,
    answer_with,
    json_reply,
)
from contract.deployments import Cause

T = TypeVar("T", bound=msgspec.Struct)


@dataclass
class Life:
    """What one life of the server process knows of itself."""

    boot: str
    port: int
    unserved: dict[str, str]


class ControlApi:
    """The verbs, one method each."""

    def __init__(self, plane: DataPlane, crashes: CrashNotes, life: Life) -> None:
        self._plane = plane
        self._crashes = crashes
        self._life = life
        self._verbs: dict[tuple[str, str], Callable[[bytes], Awaitable[object]]] = {
            ("GET", "/status"): self._status,
            ("GET", "/counters"): self._counters,
            ("POST", "/load"): self._load,
            ("POST", "/activate"): self._activate,
            ("POST", "/unload"): self._unload,
            ("POST", "/probe"): self._probe,
        }

    def ready(self) -> bool:
        """Whether every family that was served before is served again."""
        return not self._life.unserved

    async def answer(self, method: str, path: str, body: bytes) -> Reply:
        """Carry out one verb; `RequestRefused` and `DeviceError` become control errors."""
        verb = self._verbs.get((method, path))
        try:
            if verb is None:
                raise UnknownModel(f"the control socket has no {method} {path[:80]}")
            return json_reply(await verb(body))
        except DeviceError as error:
            return _refusal(409, error.cause, str(error))
        except RequestRefused as error:
            return _refusal(error.status, Cause.INTERNAL, str(error))

    async def _status(self, _body: bytes) -> p.ServerStatus:
        return p.ServerStatus(
            boot=self._life.boot,
            pid=os.getpid(),
            rss_bytes=_rss_bytes(),
            port=self._life.port,
            families=self._plane.served(),
            candidates=self._plane.candidates(),
            unserved=dict(self._life.unserved),
        )

    async def _counters(self, _body: bytes) -> p.ServerCounters:
        families, retired = await self._plane.counters()
        return p.ServerCounters(boot=self._life.boot, families=families, retired=retired)

    async def _load(self, body: bytes) -> p.Candidate:
        request = _parse(body, p.LoadRequest)
        directory = Path(request.directory)
        if not directory.is_absolute():
            raise Malformed(f"directory {request.directory!r} is not absolute")
        return await self._plane.load(request.family, request.digest, directory, request.variant)

    async def _activate(self, body: bytes) -> p.Activated:
        request = _parse(body, p.ModelRequest)
        activated = self._plane.activate(request.family, request.digest)
        # In the same turn of the event loop: no request reaches the model before this note. What
        # served already keeps its deaths, or a crash loop would start anew with each boot.
        self._crashes.serving(request.family, request.digest, fresh=activated.changed)
        self._life.unserved.pop(request.family, None)
        return activated

    async def _unload(self, body: bytes) -> dict[str, str]:
        request = _parse(body, p.ModelRequest)
        waited = {c.digest for c in self._plane.candidates() if c.family == request.family}
        await self._plane.unload(request.family, request.digest)
        if request.digest not in waited:
            self._life.unserved.pop(request.family, None)  # nobody asks for it any more
        return {"unloaded": request.digest}

    async def _probe(self, body: bytes) -> p.Probed:
        request = _parse(body, p.ProbeRequest)
        return await self._plane.probe(request.family, request.samples)


def control_app(api: ControlApi, bodies: BodyReader) -> App:
    """The ASGI app around the verbs."""

    async def reply_to(scope: Scope, receive: Receive) -> Reply:
        async with bodies.body(scope, receive) as body:
            return await api.answer(scope["method"], scope["path"], body)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await answer_with(reply_to(scope, receive), send)

    return app


def _parse(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Malformed(f"not a {kind.__name__}: {str(error)[:200]}") from error


def _refusal(status: int, cause: Cause, detail: str) -> Reply:
    return json_reply(p.ControlError(cause=cause, detail=detail[:600]), status)


def _rss_bytes() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
