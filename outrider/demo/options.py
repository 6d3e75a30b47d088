"""What the demo was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DemoOptions:
    """`agents` devices; `port` 0: any free; `keep`: leave all running at the end, until Ctrl-C."""

    agents: int = 6
    keep: bool = False
    port: int = 0
    report: Path = Path("demo-report")
