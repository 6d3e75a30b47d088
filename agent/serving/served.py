"""One loaded model: checked at load, warmed up, run and counted. Knows no HTTP and no other model.

Called from the inference threads; which model serves is the data plane's business.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy.typing as npt

from agent.errors import DeviceError, Incompatible, Malformed, OutOfMemory, Tampered, TrialFailed
from agent.serving.counters import Counters
from agent.serving.errors import InferenceBroke, MalformedRequest
from agent.serving.protocol import Probed
from contract.errors import ContractError, DigestMismatch
from model import errors as model_errors
from model.drift import DriftCounter
from model.golden import GoldenSamples, run_golden
from model.installed import Installed, open_installed
from model.runtimes import Session, open_session

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass
class Served:
    """A model in memory, with its counts. `in_flight` belongs to the data plane's event loop."""

    family: str
    digest: str
    installed: Installed
    session: Session
    counters: Counters
    load_ms: float
    in_flight: int = 0
    retired: bool = False
    since_ms: int = 0
    fallback: DeviceError | None = field(default=None)
    """Why this one serves instead of the assigned one."""

    @property
    def version(self) -> str:
        """The release's version."""
        return self.installed.manifest.version

    def infer(self, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        """Run and count; raises `MalformedRequest` or `InferenceBroke`."""
        started = time.perf_counter()
        try:
            outputs = self.session.infer(inputs)
        except model_errors.InvalidInput as error:
            self.counters.refused(str(error))
            raise MalformedRequest(str(error)) from error
        except model_errors.InferenceFailed as error:
            self.counters.failed(str(error))
            raise InferenceBroke(f"the model failed: {str(error)[:200]}") from error
        self.counters.answered(inputs, outputs, (time.perf_counter() - started) * 1e3)
        return outputs

    def probe(self, samples: int) -> Probed:
        """Run the first golden samples, counted as probes only."""
        result = run_golden(self.session, _first(self.installed.golden, samples))
        self.counters.probed(result.samples)
        return Probed(
            digest=self.digest,
            samples=result.samples,
            passed=result.passed,
            agreement=result.agreement,
            max_error=result.max_error,
            p95_ms=result.p95_ms,
            reason=result.reason[:600],
        )

    def close(self) -> None:
        """Give the runtime's memory back."""
        self.session.close()


def load_served(
    family: str, digest: str, directory: Path, variant: str, threads: int = 1
) -> Served:
    """Check every digest, load, and run one golden sample so that the first request is a warm one.

    Raises `Tampered`, `Malformed`, `Incompatible`, `TrialFailed` or `OutOfMemory`.
    """
    started = time.perf_counter()
    try:
        installed = open_installed(directory, variant, digest)
        if installed.manifest.family != family:
            raise Malformed(f"{installed.manifest.target} is not of family {family}")
        session = _open_warm(installed, threads)
        return Served(
            family=family,
            digest=digest,
            installed=installed,
            session=session,
            counters=_counters(installed, digest),
            load_ms=(time.perf_counter() - started) * 1e3,
        )
    except DigestMismatch as error:
        raise Tampered(str(error)) from error
    except model_errors.RuntimeUnavailable as error:
        raise Incompatible(str(error)) from error
    except (model_errors.ModelLoadFailed, model_errors.InferenceFailed) as error:
        raise TrialFailed(str(error)) from error
    except (model_errors.ModelError, ContractError, OSError) as error:
        raise Malformed(f"{directory}: {error}") from error
    except MemoryError as error:
        raise OutOfMemory(f"no memory left to load {directory}") from error


def _open_warm(installed: Installed, threads: int) -> Session:
    session = open_session(installed.variant, installed.model_path, threads)
    try:
        run_golden(session, _first(installed.golden, 1))
    except BaseException:
        session.close()
        raise
    return session


def _counters(installed: Installed, digest: str) -> Counters:
    profile = installed.profile_digest
    return Counters(digest, profile, DriftCounter(installed.profile, profile, digest))


def _first(golden: GoldenSamples, samples: int) -> GoldenSamples:
    return GoldenSamples(
        inputs={name: array[:samples] for name, array in golden.inputs.items()},
        outputs={name: array[:samples] for name, array in golden.outputs.items()},
        tolerance_abs=golden.tolerance_abs,
        min_agreement=golden.min_agreement,
    )
