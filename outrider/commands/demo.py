"""`outrider demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from outrider.boundary import require

MAX_AGENTS = 64


def demo(
    agents: Annotated[
        int, typer.Option("--agents", metavar="N", min=3, max=MAX_AGENTS, help="Devices.")
    ] = 6,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave everything running at the end, until Ctrl-C.")
    ] = False,
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="The hub's HTTPS port; 0: any free.")
    ] = 0,
    report: Annotated[Path, typer.Option(metavar="DIR", help="Where the report is left.")] = Path(
        "demo-report"
    ),
) -> None:
    """Show the whole path: hub, devices, attacks, crashes.

    On real parts, from an empty folder to a report with every figure measured in this run.

    \b
    Example:
        outrider demo --agents 6 --keep
    """
    require("demo", "matplotlib", "sklearn", "tritonclient.http", "onnx", "fastapi", "uvicorn")
    from outrider.demo import DemoOptions, run

    run(DemoOptions(agents=agents, keep=keep, port=port, report=report))
