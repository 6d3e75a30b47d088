"""`outrider bench` on a real bundle: what it prints, and what its exit code says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from model.archive import write_bundle
from model.chunks import file_ref
from model.golden import GoldenSamples, decode_golden, encode_golden
from outrider.__main__ import main
from tests.model.builders import bundle, release

PROJECT = Path(__file__).parents[2]
AS_INSTALLED = """
import sys
sys.path[0] = sys.argv.pop(1)  # a script's own folder stands there, and never the working directory
from outrider.__main__ import main
sys.exit(main())
"""


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that holds the whole table."""
    monkeypatch.setenv("COLUMNS", "200")


def test_a_bundle_is_measured_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(bundle(tmp_path)), "--runs", "5"]) == 0
    shown = capsys.readouterr()
    for word in ("p50 ms", "p95", "p99", "100.0 % of", "MiB", "onnxruntime"):
        assert word in shown.out
    assert "measuring" in shown.err


def test_figures_for_scripts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(bundle(tmp_path)), "--runs", "5", "--threads", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (variant,) = found["variants"]
    assert found["host"]["cpus"] >= 1
    assert variant["preferred"] is True
    measured = variant["measured"]
    assert (measured["latency"]["runs"], measured["threads"]) == (5, 2)
    assert measured["agreement"] == 1.0
    assert set(measured["memory"]) == {"runtime", "model", "peak", "process"}


def test_answers_that_changed_end_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest, files = release(tmp_path)
    (variant,) = manifest.variants
    golden = decode_golden(files[variant.golden.path])
    turned = {name: -array for name, array in golden.outputs.items()}
    data = encode_golden(GoldenSamples(golden.inputs, turned, 0.01, 1.0))
    files[variant.golden.path] = data
    changed = msgspec.structs.replace(variant, golden=file_ref(variant.golden.path, data))
    path = tmp_path / "turned.bundle"
    write_bundle(path, msgspec.structs.replace(manifest, variants=[changed]), files)
    assert main(["bench", str(path), "--runs", "1"]) == 1
    assert "does not pass its golden samples" in capsys.readouterr().err


def test_an_unknown_variant_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(bundle(tmp_path)), "--variant", "no-such"]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert "has no variant 'no-such'" in shown


BLOCKED = """
import sys


class Absent:
    def find_spec(self, name, *rest):
        if name.partition(".")[0] in {"onnx", "fastapi", "sqlalchemy", "alembic", "matplotlib"}:
            raise ImportError(f"{name} is not installed")


sys.meta_path.insert(0, Absent())
"""


def test_a_device_needs_no_package_of_the_converter_or_the_hub(tmp_path: Path) -> None:
    path = bundle(tmp_path)
    (tmp_path / "sitecustomize.py").write_text(BLOCKED)
    done = subprocess.run(
        [sys.executable, "-m", "outrider", "bench", str(path), "--runs", "2", "--json"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{PROJECT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["variants"][0]["measured"]["passed"] is True


@pytest.mark.parametrize("option", [["--runs", "0"], ["--threads", "0"], ["--runs", "many"]])
def test_wrong_numbers_are_wrong_usage(option: list[str]) -> None:
    assert main(["bench", "x.bundle", *option]) == 2


def test_a_project_with_a_model_of_its_own_does_not_get_in_the_way(tmp_path: Path) -> None:
    """`python -m` looks into the working directory first, and training code has a model.py."""
    (tmp_path / "model.py").write_text("raise SystemExit('the wrong module')\n")
    made = bundle(tmp_path)
    run = subprocess.run(
        [sys.executable, "-c", AS_INSTALLED, str(PROJECT), "bench", str(made), "--runs", "5"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "the wrong module" not in run.stdout + run.stderr
