"""The inference server's life: bind, load, serve, and on SIGTERM or SIGINT finish and leave.

The sockets listen before the models load, so a client that comes during a restart waits instead of
failing. Ready means: http.json is written and the service manager knows.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from agent.notify import READY, STOPPING, WATCHDOG, Notifier
from agent.serving import protocol as p
from agent.serving.access import Access
from agent.serving.boot import serve_again
from agent.serving.control_api import ControlApi, Life, control_app
from agent.serving.crashes import CrashNotes
from agent.serving.dataplane import DataPlane
from agent.serving.http import BodyReader
from agent.serving.inference_api import inference_app
from agent.serving.listeners import QuietServer, bind_tcp, listener, only_server
from agent.serving.settings import ServingSettings
from agent.serving.sockets import bind_unix

_log = logging.getLogger(__name__)
_WATCHDOG_S = 10.0
_BODIES_AT_ONCE = 4
"""So many of the longest bodies are held at once; shorter ones in proportion."""


@dataclass(frozen=True)
class _Sockets:
    tcp: socket.socket
    local: socket.socket
    control: socket.socket


def run(settings: ServingSettings) -> None:
    """Serve until told to stop; raises `BadServingSettings` when it cannot start."""
    access = settings.access()
    state = settings.state_dir
    with only_server(state / "run"):
        p.http_file(state).unlink(missing_ok=True)
        sockets = _Sockets(
            tcp=bind_tcp(settings.host, settings.port, _last_port(state)),
            local=bind_unix(p.inference_socket(state)),
            control=bind_unix(p.control_socket(state)),
        )
        try:
            asyncio.run(_live(settings, sockets, access))
        finally:
            for path in (p.http_file(state), p.inference_socket(state), p.control_socket(state)):
                path.unlink(missing_ok=True)


async def _live(settings: ServingSettings, sockets: _Sockets, access: Access) -> None:
    stop = _stop_on_signals()
    notifier = Notifier(settings.notify_socket)
    plane = DataPlane(settings.limits, _now_ms)
    crashes = CrashNotes(settings.state_dir / "run" / "boots.json")
    life = Life(secrets.token_hex(16), sockets.tcp.getsockname()[1], {})
    life.unserved.update(await serve_again(plane, crashes, settings.state_dir))
    listeners = _listeners(settings, sockets, access, plane, ControlApi(plane, crashes, life))
    serving = [asyncio.ensure_future(one.serve(sockets=[at])) for one, at in listeners]
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await _announce(settings.state_dir, life, [one for one, _ in listeners])
        notifier.tell(READY)
        await _until({stopped, *serving}, notifier)
    finally:
        stopped.cancel()
        notifier.tell(STOPPING)
        for one, _ in listeners:
            one.leave()
        await asyncio.gather(*serving)
        await plane.close()
        crashes.stopped_in_good_order()


def _listeners(
    settings: ServingSettings,
    sockets: _Sockets,
    access: Access,
    plane: DataPlane,
    control: ControlApi,
) -> list[tuple[QuietServer, socket.socket]]:
    longest, timeout_s = settings.max_body_bytes, settings.body_timeout_s
    bodies = BodyReader(longest, longest * _BODIES_AT_ONCE, timeout_s)
    short = BodyReader(p.MAX_CONTROL_BYTES, p.MAX_CONTROL_BYTES * _BODIES_AT_ONCE, timeout_s)
    apps = [
        (inference_app(plane, bodies, access, control.ready), sockets.tcp),
        (inference_app(plane, bodies, None, control.ready), sockets.local),
        (control_app(control, short), sockets.control),
    ]
    return [(listener(app, settings.drain_s), bound) for app, bound in apps]


async def _announce(state_dir: Path, life: Life, listeners: list[QuietServer]) -> None:
    while not all(one.started for one in listeners):
        await asyncio.sleep(0.005)
    try:
        _replace(p.http_file(state_dir), p.HttpFile(port=life.port, pid=os.getpid()))
        _replace(_port_file(state_dir), life.port)
    except OSError as error:  # a full disk must not stop inference
        _log.error("nobody is told the port: %s", error)
    _log.info("serving on port %d, boot %s", life.port, life.boot)


async def _until(ends: set[asyncio.Future[Any]], notifier: Notifier) -> None:
    """Until a signal comes, or a listener ends by itself; the service manager hears meanwhile."""
    while True:
        done, _ = await asyncio.wait(ends, timeout=_WATCHDOG_S, return_when=asyncio.FIRST_COMPLETED)
        if done:
            return
        notifier.tell(WATCHDOG)


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def _port_file(state_dir: Path) -> Path:
    return state_dir / "run" / "port.json"


def _last_port(state_dir: Path) -> int | None:
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        port = msgspec.json.decode(_port_file(state_dir).read_bytes(), type=int)
        return port if 0 < port < 65_536 else None
    return None


def _replace(path: Path, value: object) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(msgspec.json.encode(value))
    os.replace(temporary, path)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
