"""In the worker: does LiteRT verify, load and run this float TFLite file?

The checks are `converter.tflite`'s own; they follow offsets out of the file and run native code on
it, and bytes of others' may crash both. Afterwards the parent may look at the same bytes itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from converter.frontends.refusal import need


def run(asked: Mapping[str, Any], work: Path) -> dict[str, Any]:
    """No result but that nothing was refused and nothing crashed."""
    del work
    need("tflite", "ai_edge_litert.interpreter", "flatbuffers")
    from converter.tflite.runner import TfliteRunner
    from converter.tflite.source import check_tflite

    path = Path(asked["model"])
    model = check_tflite(path.read_bytes(), str(asked["name"]))
    runner = TfliteRunner(model.data, model.batch)
    import numpy as np

    runner.run_once({s.name: np.zeros([1, *s.shape[1:]], s.dtype) for s in model.inputs})
    return {}
