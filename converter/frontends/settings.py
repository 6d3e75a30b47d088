"""The environment of a worker process: the caller's own, with what keeps its result repeatable.

The one file of the converter that reads the environment.
"""

from __future__ import annotations

import os
from pathlib import Path

_FIXED = {
    # tf2onnx and skl2onnx iterate over sets: their output depends on the hash seed.
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    # A conversion has no use for a GPU, and loading its driver takes seconds and gigabytes.
    "CUDA_VISIBLE_DEVICES": "-1",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    # Where torch.export.load falls back to a full unpickling, this holds it to plain tensors.
    "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1",
    "OMP_NUM_THREADS": "1",
    # litert-torch reaches them through its imports; no conversion has reason to use the network.
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
}


def worker_environment(path: Path | None = None) -> dict[str, str]:
    """The environment of a worker; `path` goes in front of where it looks for modules.

    Without `path` the worker sees no module path of ours at all: it is another Python's.
    """
    environment = {**os.environ, **_FIXED}
    inherited = environment.pop("PYTHONPATH", "")
    if path is not None:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(path), inherited)))
    return environment


def cache_directory() -> Path:
    """Where environments that can be made again are kept, as the desktop standard says."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(root) if root else Path.home() / ".cache") / "outrider"
