"""`outrider inspect`: what a bundle holds, and what was measured when it was made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from outrider.boundary import require
from outrider.commands.bundle_text import show_bundle
from outrider.commands.options import Json
from outrider.terminal import note


def inspect(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle to look into.")],
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write the report as a page to open."),
    ] = None,
    json: Json = False,
) -> None:
    """Show what a bundle holds: variants, evidence, signatures.

    Every digest is checked; signatures are listed, and believed by the hub and the devices only.
    The page of --html is drawn anew from the bundle's figures, so that a bundle of unknown origin
    brings no page of its own.

    \b
    Example:
        outrider inspect digits-1.bundle --html report.html
    """
    require("converter", "numpy", "zstandard")
    from converter.inspection import describe, read_report
    from converter.report_files import write_page

    described = describe(bundle)
    if html is not None:
        write_page(html, read_report(bundle))
    show_bundle(described, json)
    if html is not None:
        note(f"Wrote {html}")
