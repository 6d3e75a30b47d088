"""onnxruntime keeps to this machine: no queue of events on the disk, however it is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from onnx import TensorProto, helper

PROJECT = Path(__file__).parents[2]
DEVICE = (
    "from pathlib import Path\n"
    "from model.runtimes.onnxruntime_session import _load\n"
    "from tests.model.builders import variant\n"
    "_load(variant(), Path({model!r}), 1)\n"
)
WORKSTATION = (
    "from converter.sessions import session_options\n"
    "import onnxruntime\n"
    "onnxruntime.InferenceSession({model!r}, session_options())\n"
)
COMMAND = (
    "from outrider.boundary import require\n"
    "require('converter', 'onnx', 'onnxruntime', 'numpy')\n"
    "import onnxruntime\n"
    "onnxruntime.InferenceSession({model!r})\n"
)


def model(path: Path) -> Path:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(made.SerializeToString())
    return path


def files_left_by(script: str, home: Path) -> list[str]:
    """What a program leaves behind in its home and temporary folders."""
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    places = {name: str(home) for name in ("HOME", "XDG_CACHE_HOME", "TMPDIR")}
    subprocess.run(
        [sys.executable, "-c", script],
        env={**environment, **places, "PYTHONPATH": str(PROJECT)},
        cwd=PROJECT,
        check=True,
    )
    return sorted(p.name for p in home.rglob("*") if p.is_file())


@pytest.mark.parametrize(
    "way", [DEVICE, WORKSTATION, COMMAND], ids=["device", "workstation", "command line"]
)
def test_a_session_leaves_no_queue_of_events(way: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    path = model(tmp_path / "relu.onnx")
    assert files_left_by(way.format(model=str(path)), home) == []
