"""Where the bundle of each release of the suite was written: they are made once a session."""

from __future__ import annotations

from pathlib import Path

from tests.agent.deployment.releases import Released, make_release

_BUNDLES: dict[str, Path] = {}


def new_release(directory: Path, version: str) -> Released:
    """A release of digits, its bundle in `directory`, unsigned."""
    released = make_release(directory, version)
    _BUNDLES[released.digest] = directory / f"{released.manifest.family}-{version}.bundle"
    return released


def bundle_of(released: Released) -> Path:
    """Its bundle."""
    return _BUNDLES[released.digest]
