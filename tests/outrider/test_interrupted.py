"""A signal ends a command at any point: one word, its exit code, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from outrider.__main__ import main
from outrider.signals import unwinding
from tests.converter import models

PROJECT = Path(__file__).parents[2]
PATIENCE_S = 60.0

AS_C_EXTENSIONS_DO = """
import os, signal
try:
    os.kill(os.getpid(), signal.{name})
    for _ in range(1000): pass
except KeyboardInterrupt as error:
    raise ImportError("initialization failed") from error
"""


def run(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line, with modules of `tmp_path` in front."""
    return subprocess.run(
        [sys.executable, "-m", "outrider", *arguments],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{PROJECT}"},
        check=False,
    )


@pytest.mark.parametrize("module", ["typer", "rich"])
def test_it_is_one_word_and_exit_code_130(module: str, tmp_path: Path) -> None:
    (tmp_path / f"{module}.py").write_text("raise KeyboardInterrupt\n")
    done = run(tmp_path, "--help")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_an_import_that_a_signal_broke_is_no_missing_package(
    name: str, code: int, tmp_path: Path
) -> None:
    (tmp_path / "onnx.py").write_text(AS_C_EXTENSIONS_DO.format(name=name))
    done = run(tmp_path, *conversion(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "interrupted\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_conversion_leaves_no_file_and_no_folder(number: signal.Signals, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    arguments = conversion(tmp_path)
    before = set(tmp_path.iterdir())
    process = subprocess.Popen(
        [sys.executable, "-m", "outrider", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={
            **os.environ,
            "PYTHONPATH": str(PROJECT),
            "TMPDIR": str(scratch),
            "OUTRIDER_CACHE_DIR": str(scratch / "cache"),
        },
    )
    deadline = time.monotonic() + PATIENCE_S
    while not list(scratch.glob("outrider-convert-*")):
        assert process.poll() is None, "ended before the signal"
        assert time.monotonic() < deadline
    process.send_signal(number)
    said = process.communicate(timeout=PATIENCE_S)[0].decode()
    assert process.returncode == 128 + number
    assert "Traceback" not in said
    assert "interrupted, nothing was written" in said
    assert set(tmp_path.iterdir()) == before
    assert list(scratch.glob("outrider-*")) == []


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with unwinding() as received:
            signal.raise_signal(signal.SIGHUP)
        assert received.number is None
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_handlers_of_whoever_called_are_put_back() -> None:
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert main(["--help"]) == 0
    assert before == [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]


def conversion(folder: Path) -> list[str]:
    """Arguments of a conversion that takes a while, and its files."""
    model = models.save(folder / "m.onnx", models.classifier())
    calib = models.save_samples(folder / "c.npz", image=models.images(4000, seed=5))
    evaluation = models.save_samples(
        folder / "e.npz", image=models.images(2000, seed=11), labels=models.kinds(2000)
    )
    options = {"--calib": calib, "--eval": evaluation, "--family": "f", "--version": "1"}
    rest = [str(part) for pair in options.items() for part in pair]
    return ["convert", str(model), *rest, "-o", str(folder / "out.bundle")]
