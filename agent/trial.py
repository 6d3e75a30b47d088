"""The trial's child process: load the candidate and run its golden samples, on this very device.

`python -m agent.trial --directory D --variant V --digest X` prints one line of JSON and ends with
0 (passed), 3 (did not pass) or 4 (could not be run). A native crash in a runtime takes this process
and nothing else. Serves nobody, writes nothing, and asks to be the first that the kernel kills.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

import msgspec

from contract.deployments import Cause

PASSED, NOT_PASSED, NOT_RUN = 0, 3, 4
LIFETIME_S = 150
"""Longer than any parent waits. A parent that was killed does not, and leaves no model running."""


class TrialResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a trial measured."""

    samples: int
    agreement: float
    """Share of the golden samples whose outputs agree, 0..1."""
    max_error: float
    p50_ms: float
    p95_ms: float
    """Of the runtime call alone."""
    peak_rss_bytes: int = 0
    """Sampled by the parent."""


class TrialReport(msgspec.Struct, frozen=True, kw_only=True):
    """The line that the child prints: a result, a reason why it is not good enough, or both."""

    result: TrialResult | None = None
    cause: Cause | None = None
    detail: str = ""


def try_release(directory: Path, variant: str, digest: str) -> TrialReport:
    """Check every digest, open the runtime, run the golden samples.

    Raises model.errors.ModelError or contract.errors.ContractError.
    """
    # Here, not above: the control process reads this module's structs and loads no runtime.
    from model.golden import run_golden
    from model.installed import open_installed
    from model.runtimes import open_session

    installed = open_installed(directory, variant, digest)
    session = open_session(installed.variant, installed.model_path)
    try:
        ran = run_golden(session, installed.golden)
    finally:
        session.close()
    result = TrialResult(
        samples=ran.samples,
        agreement=ran.agreement,
        max_error=ran.max_error if ran.max_error != float("inf") else -1.0,
        p50_ms=ran.p50_ms,
        p95_ms=ran.p95_ms,
    )
    if ran.passed:
        return TrialReport(result=result)
    return TrialReport(result=result, cause=Cause.TRIAL_FAILED, detail=ran.reason)


def main(arguments: list[str] | None = None) -> int:
    """Run one trial; the exit code says how it went, the line says why."""
    parser = argparse.ArgumentParser(prog="agent.trial", description="Try one installed release.")
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--variant", required=True)
    parser.add_argument("--digest", required=True)
    chosen = parser.parse_args(arguments)
    _be_killed_first()
    signal.alarm(LIFETIME_S)
    report = _run(chosen.directory, chosen.variant, chosen.digest)
    sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
    sys.stdout.buffer.flush()
    if report.result is None:
        return NOT_RUN
    return PASSED if report.cause is None else NOT_PASSED


def _run(directory: Path, variant: str, digest: str) -> TrialReport:
    from contract.errors import ContractError, DigestMismatch
    from model.errors import BrokenBundle, ModelError, RuntimeUnavailable

    try:
        return try_release(directory, variant, digest)
    except MemoryError:
        return TrialReport(cause=Cause.OUT_OF_MEMORY, detail="no memory left during the trial")
    except DigestMismatch as error:
        return TrialReport(cause=Cause.TAMPERED, detail=str(error))
    except RuntimeUnavailable as error:
        return TrialReport(cause=Cause.INCOMPATIBLE, detail=str(error))
    except (ContractError, BrokenBundle) as error:
        return TrialReport(cause=Cause.MALFORMED, detail=str(error))
    except (ModelError, OSError) as error:
        return TrialReport(cause=Cause.TRIAL_FAILED, detail=f"{type(error).__name__}: {error}")


def _be_killed_first() -> None:
    """Raise this process's out-of-memory score; not every kernel or container permits that."""
    try:
        Path("/proc/self/oom_score_adj").write_text("1000")
    except OSError:
        return


if __name__ == "__main__":
    sys.exit(main())
