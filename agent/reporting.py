"""When to report, and from what: the shell around agent.reports.

Owned by the main loop. A server that does not answer costs the inference part of a report; the
device's resources are reported all the same, and the next difference starts where the last began.
What was counted last is kept in `S/run/reported.json`: the server may outlive this process, and its
counts must not be reported twice.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import msgspec

from agent.assembly import Parts
from agent.errors import DeviceError
from agent.reports import Window, report_makers, windows_between
from agent.serving.protocol import MAX_ANSWER_BYTES, ServerCounters

_LOG = logging.getLogger(__name__)


class Reporter:
    """Remembers the last look at the counters."""

    def __init__(self, parts: Parts, now_s: float) -> None:
        self._p = parts
        self._last_s = now_s
        self._file = parts.settings.state_dir / "run" / "reported.json"
        self._earlier = _read(self._file)

    def is_due(self, now_s: float) -> bool:
        """Whether the window is over."""
        return now_s - self._last_s >= self._p.settings.report_seconds

    def report(self, now_s: float) -> None:
        """Close the window and store its reports."""
        window_ms = max(0, round((now_s - self._last_s) * 1000))
        self._last_s = now_s
        counted, rss = self._counted()
        makers = report_makers(
            self._p.identity.device,
            self._p.speaker.stamper.now(),
            window_ms,
            counted,
            self._p.resources.window(rss),
        )
        for make in makers:
            self._p.uplink.report(make)

    def _counted(self) -> tuple[list[Window], int]:
        try:
            later = self._p.client.counters()
            rss = self._p.client.status().rss_bytes
        except DeviceError as error:
            _LOG.info("a report without inference: %s", error)
            return [Window({}, {})], 0
        counted = windows_between(self._earlier, later)
        self._earlier = later
        _write(self._file, later)
        return counted, rss


def _read(path: Path) -> ServerCounters | None:
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(MAX_ANSWER_BYTES), type=ServerCounters)
    except (OSError, msgspec.MsgspecError, ValueError):
        return None


def _write(path: Path, counters: ServerCounters) -> None:
    """Not synchronised: after a reboot there is another life of the server."""
    temporary = path.with_suffix(".new")
    try:
        temporary.write_bytes(msgspec.json.encode(counters))
        os.replace(temporary, path)
    except OSError as error:
        _LOG.warning("what was reported is not written down: %s", error)
