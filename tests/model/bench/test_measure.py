"""One installed variant, measured in this process: what the figures mean, not their size."""

from __future__ import annotations

from pathlib import Path

import pytest

from contract.errors import DigestMismatch
from contract.ids import digest_of
from contract.manifest import Manifest, encode_manifest
from model.bench.measure import WARM_UP_RUNS, measure
from tests.model.builders import install, release


@pytest.fixture
def installed(tmp_path: Path) -> tuple[Path, Manifest, str]:
    manifest, files = release(tmp_path)
    install(tmp_path / "here", manifest, files)
    return tmp_path / "here", manifest, digest_of(encode_manifest(manifest))


def test_an_installed_variant_is_timed_and_agrees(installed: tuple[Path, Manifest, str]) -> None:
    directory, manifest, digest = installed
    found = measure(directory, manifest.variants[0].name, digest, 25, 1)
    assert found.passed, found.reason
    assert (found.agreement, found.latency.runs, found.warm_up_runs) == (1.0, 25, WARM_UP_RUNS)
    assert 0 < found.latency.low_ms <= found.latency.p50_ms <= found.latency.high_ms
    assert found.load_ms > 0
    assert found.first_ms > 0
    assert found.memory.process >= found.memory.peak >= 0


def test_the_time_limit_ends_a_long_measurement_after_one_call(
    installed: tuple[Path, Manifest, str],
) -> None:
    directory, manifest, digest = installed
    found = measure(directory, manifest.variants[0].name, digest, 1_000_000, 1, budget_s=0.0)
    assert found.latency.runs == 1


def test_altered_bytes_are_not_measured(installed: tuple[Path, Manifest, str]) -> None:
    directory, manifest, digest = installed
    path = directory / "files" / manifest.variants[0].model.path
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(DigestMismatch):
        measure(directory, manifest.variants[0].name, digest, 1, 1)
