"""Which runtimes are here is known without loading one."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from contract.manifest import Variant
from contract.messages import Hardware
from contract.variants import why_not
from model.errors import RuntimeUnavailable
from model.runtimes import installed_runtimes, open_session
from tests.model.builders import dense_variant, variant


def test_the_installed_runtimes_have_their_versions() -> None:
    found = installed_runtimes()
    assert found["onnxruntime"] == metadata.version("onnxruntime")
    assert found["litert"] == metadata.version("ai-edge-litert")


def test_the_names_are_those_by_which_a_variant_is_chosen() -> None:
    hardware = Hardware(machine="x86_64", runtimes=installed_runtimes())
    assert why_not(variant(), hardware) is None
    assert why_not(dense_variant(), hardware) is None


def test_asking_loads_no_runtime() -> None:
    script = (
        "import sys\nfrom model.runtimes import installed_runtimes\ninstalled_runtimes()\n"
        "loaded = {'onnxruntime', 'ai_edge_litert', 'tflite_runtime'} & set(sys.modules)\n"
        "sys.exit(', '.join(loaded) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("described", "modules"),
    [
        (variant(), ["onnxruntime"]),
        (dense_variant(), ["ai_edge_litert", "tflite_runtime"]),
    ],
)
def test_a_runtime_that_cannot_be_imported_is_unavailable(
    described: Variant, modules: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(RuntimeUnavailable, match="be imported"):
        open_session(described, Path("model"))
