"""Which models on probation were serving when the process died, counted over its lives.

A native crash leaves no exception, so the server writes down, before it lets a model serve, that it
does (`S/run/boots.json`), and takes that back when it stops in good order. A model that is found
still noted at boot was serving when the process died. Two such deaths while on probation, and its
predecessor is served instead. A power cut counts too: a model that browns out its board is no
better. Models past their probation are not counted. Without the file, or with a broken one, nothing
is known and every model is served.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from contract.ids import Digest, Id

MAX_DEATHS = 2
_MAX_BYTES = 64 * 1024
_log = logging.getLogger(__name__)


class _Note(msgspec.Struct, frozen=True, kw_only=True):
    digest: Digest
    serving: bool
    deaths: Annotated[int, Meta(ge=0, le=1_000)] = 0


class CrashNotes:
    """The notes of one state folder. Not fsynced: the page cache outlives the process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._notes = _read(path)

    def deaths_at_boot(self, family: str, digest: str) -> int:
        """How many times the process died with this model; call once a boot and family."""
        note = self._notes.get(family)
        if note is None or note.digest != digest:
            return 0
        deaths = note.deaths + int(note.serving)
        self._put(family, _Note(digest=digest, serving=False, deaths=deaths))
        return deaths

    def serving(self, family: str, digest: str, *, fresh: bool = False) -> None:
        """Note it before the model gets its first request; `fresh` forgets earlier deaths."""
        note = self._notes.get(family)
        known = note.deaths if note is not None and note.digest == digest and not fresh else 0
        self._put(family, _Note(digest=digest, serving=True, deaths=known))

    def forget(self, family: str) -> None:
        """The family's model is past its probation, or gone."""
        if self._notes.pop(family, None) is not None:
            self._write()

    def stopped_in_good_order(self) -> None:
        """No model is to blame for this end."""
        for family, note in self._notes.items():
            self._notes[family] = msgspec.structs.replace(note, serving=False)
        self._write()

    def _put(self, family: str, note: _Note) -> None:
        if self._notes.get(family) != note:
            self._notes[family] = note
            self._write()

    def _write(self) -> None:
        temporary = self._path.with_suffix(".tmp")
        try:
            temporary.write_bytes(msgspec.json.encode(self._notes))
            os.replace(temporary, self._path)
        except OSError as error:  # a full disk must not stop inference
            _log.warning("cannot write %s: %s", self._path, error)


def _read(path: Path) -> dict[str, _Note]:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES)
        return msgspec.json.decode(data, type=dict[Id, _Note])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError) as error:
        _log.warning("%s is unreadable, crashes before this boot are not known: %s", path, error)
        return {}
