"""Large bodies to disk: streamed, bounded, whole or not at all, and gone when the request ends."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from fleet.api.errors import Refused

MAX_BUNDLE_BYTES = 4 << 30
MAX_TRUST_BYTES = 24 << 20
SPARE_BYTES = 256 << 20
"""The database needs room, too: an upload may not take the last of the disk."""
_PIECE = 1 << 20


def uploads_folder(hub: Path) -> Path:
    """Where uploads lie until they are checked."""
    return hub / "uploads"


def clear_uploads(hub: Path) -> None:
    """Remove what a hub that was killed left behind."""
    shutil.rmtree(uploads_folder(hub), ignore_errors=True)


@asynccontextmanager
async def received(request: Request, hub: Path, name: str, limit: int) -> AsyncIterator[Path]:
    """The body as a file called `name`, for as long as the block lasts."""
    folder = uploads_folder(hub)
    folder.mkdir(mode=0o700, exist_ok=True)
    own = Path(await run_in_threadpool(tempfile.mkdtemp, dir=folder))
    try:
        path = own / name
        with path.open("wb") as file:
            await _receive(request, file, own, limit)
        yield path
    finally:
        await run_in_threadpool(shutil.rmtree, own, True)


async def _receive(request: Request, file: BinaryIO, folder: Path, limit: int) -> None:
    """Disk writes happen in threads, a megabyte at a time: the loop serves others meanwhile."""
    pending = bytearray()
    total = 0
    try:
        async for piece in request.stream():
            total += len(piece)
            if total > limit:
                raise Refused(413, "too-large", f"the upload is too large: at most {limit} bytes")
            pending += piece
            if len(pending) >= _PIECE:
                await run_in_threadpool(_write, file, bytes(pending), folder)
                pending.clear()
    except ClientDisconnect as error:
        raise Refused(400, "malformed", "the upload broke off") from error
    await run_in_threadpool(_write, file, bytes(pending), folder)
    if not total:
        raise Refused(400, "malformed", "the body is empty: send the file's bytes")


def _write(file: BinaryIO, data: bytes, folder: Path) -> None:
    if shutil.disk_usage(folder).free < SPARE_BYTES + len(data):
        raise Refused(507, "disk-full", "the hub's disk is nearly full: make room and try again")
    file.write(data)
