"""The evaluation report as one HTML page: no script, nothing fetched, equal reports equal bytes.

Imports neither numpy nor a runtime, so that `outrider inspect` can draw the page anywhere.
"""

from __future__ import annotations

from converter.page.document import render

__all__ = ["render"]
