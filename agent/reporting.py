"""When to report, and from what: the shell around agent.reports.

Owned by the main loop. A server that does not answer costs the inference part of a report; the
device's resources are reported all the same, and the next difference starts where the last began.
"""

from __future__ import annotations

import logging

from agent.assembly import Parts
from agent.errors import DeviceError
from agent.reports import Window, report_makers, windows_between
from agent.serving.protocol import ServerCounters

_LOG = logging.getLogger(__name__)


class Reporter:
    """Remembers the last look at the counters."""

    def __init__(self, parts: Parts, now_s: float) -> None:
        self._p = parts
        self._last_s = now_s
        self._earlier: ServerCounters | None = None

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
        return counted, rss
