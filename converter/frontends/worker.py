"""The worker process: `python -m converter.frontends.worker JOB REQUEST`, then a result in JSON.

Bounds its own memory before it imports anything heavy, and ends with whoever started it: nobody
else bounds its time. A refusal is an answer and ends with 0; whatever else goes wrong in a library
is an answer too, in its own words.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import resource
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from converter.errors import ConvertError
from converter.frontends.refusal import Refusal

JOBS = frozenset({"keras", "savedmodel", "sklearn", "tflite", "torch"})
_MAX_WORDS = 300
_PR_SET_PDEATHSIG = 1


def main(job: str, request: Path) -> int:
    """Do `job`, write `result.json` beside the request; returns the exit status."""
    _die_with_the_parent()
    asked = json.loads(request.read_bytes())
    _bound(int(asked["memory_bytes"]))
    if job not in JOBS:
        return 2
    answer = _answer(job, asked, request.parent)
    target = request.parent / "result.json"
    target.write_text(json.dumps(answer))
    return 0


def _answer(job: str, asked: Mapping[str, Any], work: Path) -> dict[str, Any]:
    try:
        module = importlib.import_module(f"converter.frontends.jobs.{job}_job")
        result: dict[str, Any] = module.run(asked, work)
    except Refusal as refusal:
        return {"error": refusal.kind, "message": str(refusal)}
    except ConvertError as error:  # of the converter's own checks, whose messages name the file
        return {"error": type(error).__name__, "message": str(error), "whole": True}
    except MemoryError:
        return _failed(f"needs more than {asked['memory_bytes']} bytes of memory")
    except Exception as error:  # noqa: BLE001  # any library's any error is an answer to the parent
        words = " ".join(f"{type(error).__name__}: {error}".split())
        return _failed(f"the tool gave up ({words[:_MAX_WORDS]}); export the model again")
    return result


def _failed(message: str) -> dict[str, Any]:
    return {"error": "FrontendFailed", "message": message}


def _die_with_the_parent() -> None:
    """Linux sends the signal when the thread is gone that started us, killed outright or not."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _bound(memory_bytes: int) -> None:
    """Private memory, no core files: a crash is reported by the parent."""
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
