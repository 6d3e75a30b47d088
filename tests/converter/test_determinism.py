"""The same input gives the same bytes: in every process, whatever its hash seed and folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from contract.ids import digest_of
from converter.convert import Converted, convert
from tests.converter import models
from tests.converter.conftest import Inputs

ROOT = Path(__file__).resolve().parents[2]
CONVERT = """
import sys
from pathlib import Path
from converter.convert import convert
from converter.request import ConvertRequest
model, calib, evaluation, output = (Path(arg) for arg in sys.argv[1:])
convert(ConvertRequest(model=model, calib=calib, evaluation=evaluation, family="digits",
                       version="1", output=output))
"""


@pytest.mark.parametrize("hash_seed", ["0", "1", "4242"])
def test_another_process_writes_the_same_bytes(
    digits: Inputs, converted: Converted, tmp_path: Path, hash_seed: str
) -> None:
    output = tmp_path / "another-name.bundle"
    paths = (digits.model, digits.calib, digits.evaluation, output)
    run = subprocess.run(
        [sys.executable, "-c", CONVERT, *map(str, paths)],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    assert output.read_bytes() == converted.path.read_bytes()


@pytest.mark.parametrize("hash_seed", ["0", "77"])
def test_a_search_finds_the_same_in_another_process(
    small: Inputs, tmp_path: Path, hash_seed: str
) -> None:
    models.save(small.model, models.classifier(imbalance=1e5))
    here = convert(small.request(family="digits"))
    assert len(here.report.candidates) > 1
    output = tmp_path / "there.bundle"
    paths = (small.model, small.calib, small.evaluation, output)
    subprocess.run(
        [sys.executable, "-c", CONVERT, *map(str, paths)],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        check=True,
    )
    assert output.read_bytes() == here.path.read_bytes()


def test_the_same_process_writes_the_same_bytes(
    digits: Inputs, converted: Converted, tmp_path: Path
) -> None:
    again = convert(digits.request(output=tmp_path / "again.bundle"))
    assert again.manifest_digest == converted.manifest_digest
    assert digest_of(again.path.read_bytes()) == digest_of(converted.path.read_bytes())


def test_what_this_machine_measured_in_time_is_not_in_the_bundle(converted: Converted) -> None:
    assert converted.latency.p50_ms > 0
    assert b"_ms" not in converted.path.read_bytes()
    assert not any("ms" in name for name in converted.manifest.variants[0].evidence)
