"""The measuring child: `python -m model.bench ...` prints one line of JSON about one variant.

A native crash in a runtime takes this process and nothing else. Ends with 0 when it measured, and
with 4 when it could not, the line then says why.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

import msgspec

from contract.errors import ContractError
from model.bench.bundle import LIFETIME_S, BenchReport
from model.bench.measure import measure
from model.errors import ModelError

NOT_MEASURED = 4


def main(arguments: list[str] | None = None) -> int:
    """Measure one variant; the exit code says whether, the line says what."""
    parser = argparse.ArgumentParser(prog="model.bench", description="Measure one variant.")
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--variant", required=True)
    parser.add_argument("--digest", required=True)
    parser.add_argument("--runs", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    chosen = parser.parse_args(arguments)
    report = _run(chosen.directory, chosen.variant, chosen.digest, chosen.runs, chosen.threads)
    sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
    sys.stdout.buffer.flush()
    return 0 if report.measured is not None else NOT_MEASURED


def _run(directory: Path, variant: str, digest: str, runs: int, threads: int) -> BenchReport:
    try:
        return BenchReport(measured=measure(directory, variant, digest, runs, threads))
    except MemoryError:
        return BenchReport(reason="no memory left")
    except (ModelError, ContractError, OSError) as error:
        return BenchReport(reason=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    # A parent that was killed does not end its child, and leaves no model running.
    signal.alarm(LIFETIME_S)
    sys.exit(main())
