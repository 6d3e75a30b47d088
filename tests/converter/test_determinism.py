"""The same input gives the same bytes: in every process, whatever its hash seed and folder.

Measured latency is among the inputs, and in the bundle.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contract.ids import digest_of
from contract.manifest import Manifest
from converter.convert import Converted, convert
from converter.errors import MeasurementsMismatch, TooSlow
from converter.measurement_cache import keep
from converter.report import EvaluationReport
from model.archive import open_bundle
from tests.converter import models
from tests.converter.conftest import Inputs

ROOT = Path(__file__).resolve().parents[2]
CONVERT = """
import sys
from pathlib import Path
from converter.convert import convert
from converter.request import ConvertRequest
model, calib, evaluation, output, cache = (Path(arg) for arg in sys.argv[1:])
convert(ConvertRequest(model=model, calib=calib, evaluation=evaluation, family="digits",
                       version="1", output=output, measurement_cache=cache))
"""


def there(
    inputs: Inputs, output: Path, hash_seed: str, cache: Path | None = None
) -> subprocess.Popen[str]:
    """The same conversion in a process of its own, started."""
    paths = (inputs.model, inputs.calib, inputs.evaluation, output, cache or inputs.measurements)
    return subprocess.Popen(
        [sys.executable, "-c", CONVERT, *map(str, paths)],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(run: subprocess.Popen[str]) -> tuple[int, str, str]:
    with run:
        said, complained = run.communicate(timeout=100)
    return run.returncode, said, complained


@pytest.mark.parametrize("hash_seed", ["0", "1", "4242"])
def test_another_process_writes_the_same_bytes(
    digits: Inputs, converted: Converted, tmp_path: Path, hash_seed: str
) -> None:
    output = tmp_path / "another-name.bundle"
    assert ended(there(digits, output, hash_seed)) == (0, "", "")
    assert output.read_bytes() == converted.path.read_bytes()


@pytest.mark.parametrize("hash_seed", ["0", "77"])
def test_a_search_finds_the_same_in_another_process(
    small: Inputs, tmp_path: Path, hash_seed: str
) -> None:
    models.save(small.model, models.classifier(imbalance=1e5))
    here = convert(small.request(family="digits"))
    assert len(here.report.candidates) > 1
    output = tmp_path / "there.bundle"
    assert ended(there(small, output, hash_seed)) == (0, "", "")
    assert output.read_bytes() == here.path.read_bytes()


def test_the_same_process_writes_the_same_bytes(
    digits: Inputs, converted: Converted, tmp_path: Path
) -> None:
    again = convert(digits.request(output=tmp_path / "again.bundle"))
    assert again.manifest_digest == converted.manifest_digest
    assert digest_of(again.path.read_bytes()) == digest_of(converted.path.read_bytes())


def test_what_this_machine_measured_in_time_is_in_the_bundle(converted: Converted) -> None:
    files, manifest = read(converted.path)
    found = converted.latency
    figures = {"p50_ms": found.p50_ms, "p50_ms_float32": found.p50_ms_float32}
    assert min(figures.values()) > 0
    (variant,) = json.loads(files["report.json"])["variants"]
    assert variant["latency"] == figures
    assert figures.items() <= manifest.variants[0].evidence.items()
    assert b"Latency on the host that converted" in files["report.html"]


def test_a_copied_cache_gives_the_same_bytes(
    digits: Inputs, converted: Converted, tmp_path: Path
) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(digits.measurements, copied)
    output = tmp_path / "there.bundle"
    assert ended(there(digits, output, "5", copied)) == (0, "", "")
    assert output.read_bytes() == converted.path.read_bytes()


@pytest.mark.parametrize("given", ["bundle", "report.json"])
def test_the_latencies_of_a_bundle_give_its_bytes_on_an_empty_cache(
    digits: Inputs, converted: Converted, tmp_path: Path, given: str
) -> None:
    path = converted.path
    if given == "report.json":
        path = tmp_path / given
        path.write_bytes(read(converted.path)[0][given])
    cache, output = tmp_path / "empty", tmp_path / "again.bundle"
    convert(digits.request(output=output, measurements=path, measurement_cache=cache))
    assert output.read_bytes() == converted.path.read_bytes()
    assert not cache.exists()


def test_measuring_anew_changes_the_latencies_and_nothing_else(
    digits: Inputs, converted: Converted, tmp_path: Path
) -> None:
    cache = tmp_path / "copied"
    shutil.copytree(digits.measurements, cache)
    wanted = digits.request(
        output=tmp_path / "anew.bundle", measurement_cache=cache, remeasure=True
    )
    anew = convert(wanted)
    assert anew.path.read_bytes() != converted.path.read_bytes()
    assert anew.report.measurements != converted.report.measurements
    assert untimed(anew.report) == untimed(converted.report)
    (files, manifest), (before, old) = read(anew.path), read(converted.path)
    assert untimed_manifest(manifest) == untimed_manifest(old)
    assert {n: d for n, d in files.items() if not n.startswith("report.")} == {
        n: d for n, d in before.items() if not n.startswith("report.")
    }
    # What was measured anew is what stands from then on.
    after = convert(digits.request(output=tmp_path / "after.bundle", measurement_cache=cache))
    assert after.path.read_bytes() == anew.path.read_bytes()


def test_conversions_at_once_end_with_the_same_bytes(small: Inputs) -> None:
    outputs = [small.folder / f"{place}.bundle" for place in range(3)]
    runs = [there(small, output, str(place)) for place, output in enumerate(outputs)]
    assert [ended(run) for run in runs] == [(0, "", "")] * 3
    assert len({output.read_bytes() for output in outputs}) == 1
    assert len(list(small.measurements.glob("*.json"))) == 1


def test_a_kept_latency_decides_what_is_too_slow(small: Inputs) -> None:
    first = convert(small.request())
    (found,) = first.report.measurements
    slow = msgspec.structs.replace(found, p50_ms=3 * found.p50_ms_float32)
    keep(small.measurements, slow, anew=True)
    with pytest.raises(TooSlow, match=r"3\.00 times"):
        convert(small.request(max_latency_ratio=1.5))
    forced = [
        convert(small.request(max_latency_ratio=1.5, force=True, output=small.folder / name))
        for name in ("a.bundle", "b.bundle")
    ]
    assert "TooSlow: " in forced[0].manifest.gate.reason
    assert forced[0].path.read_bytes() == forced[1].path.read_bytes()
    fast = msgspec.structs.replace(found, p50_ms=found.p50_ms_float32)
    keep(small.measurements, fast, anew=True)
    assert convert(small.request(max_latency_ratio=1.5)).manifest.gate.passed


def test_latencies_of_another_model_are_refused_and_nothing_is_written(
    small: Inputs, converted: Converted
) -> None:
    with pytest.raises(MeasurementsMismatch, match=r"digits-1\.bundle"):
        convert(small.request(measurements=converted.path))
    assert not (small.folder / "out.bundle").exists()
    assert not small.measurements.exists()


def read(path: Path) -> tuple[dict[str, bytes], Manifest]:
    with open_bundle(path) as bundle:
        manifest = bundle.manifest
        refs = [*manifest.device_files, *manifest.hub_files]
        return {ref.path: bundle.read(ref) for ref in refs}, manifest


def untimed(report: EvaluationReport) -> EvaluationReport:
    variants = [msgspec.structs.replace(variant, latency=None) for variant in report.variants]
    return msgspec.structs.replace(report, variants=variants, measurements=[])


def untimed_manifest(manifest: Manifest) -> dict[str, Any]:
    """Without the latencies, and without the digests of the two files that tell them."""
    plain: dict[str, Any] = msgspec.to_builtins(manifest)
    for variant in plain["variants"]:
        del variant["evidence"]["p50_ms"], variant["evidence"]["p50_ms_float32"]
    plain["hub_files"] = [file["path"] for file in plain["hub_files"]]
    return plain
