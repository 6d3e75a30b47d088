"""`outrider convert` on a terminal: the step at work, the time gone and what is left."""

from __future__ import annotations

import importlib
import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from outrider.__main__ import main
from tests.converter import models


def converted(tmp_path: Path) -> int:
    model = models.save(tmp_path / "small.onnx", models.classifier())
    calib = models.save_samples(tmp_path / "calib.npz", image=models.images(40, seed=5))
    files = ["--calib", str(calib), "-o", str(tmp_path / "out.bundle")]
    return main(["convert", str(model), *files, "--family", "kinds", "--version", "1"])


def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> str:
    written = io.StringIO()
    console = Console(file=written, force_terminal=terminal, width=100)
    # By name: the package's own attribute is the command, not its module.
    module = importlib.import_module("outrider.commands.convert")
    monkeypatch.setattr(module, "ERR", console)
    assert converted(tmp_path) == 0
    return written.getvalue()


def test_a_terminal_sees_the_step_and_an_estimate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = shown(tmp_path, monkeypatch, terminal=True)
    assert "reading" in text
    assert re.search(r"\d:\d\d:\d\d.* left ", re.sub("\x1b\\[[0-9;]*m", "", text))


def test_a_log_file_sees_no_bar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "left" not in shown(tmp_path, monkeypatch, terminal=False)
