"""What one served model has done: cumulative counts, cheap enough for every request.

Owns no decision: the probation's judge and the reports read snapshots. Called from the inference
threads, hence the locks. Drift statistics of one large image take milliseconds: they wait, within
bounds, until `settle` is called after the answer has gone out; a snapshot settles first. A constant
run counts only rows whose input differs from the row before: a still scene that gives one answer
for an hour is no fault of the model.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.serving.protocol import ModelCounters
from model.drift import DriftCounter
from model.latency import LatencyCounts

Arrays = Mapping[str, npt.NDArray[Any]]
MAX_ERROR_TEXT = 300
MAX_UNSETTLED = 8
_log = logging.getLogger(__name__)


class Counters:
    """Counts of one model since it began to serve."""

    def __init__(self, digest: str, profile: str, drift: DriftCounter) -> None:
        self._digest = digest
        self._profile = profile
        self._drift = drift
        self._latency = LatencyCounts()
        self._latency_max_ms = 0.0
        self._good = self._errors = self._invalid = self._refused = self._probes = 0
        self._uncounted = 0
        self._last_error = ""
        self._run = _ConstantRun()
        self._lock = threading.Lock()
        self._unsettled: deque[tuple[Arrays, Arrays]] = deque()
        self._settling = threading.Lock()

    def answered(self, inputs: Arrays, outputs: Arrays, latency_ms: float) -> None:
        """The runtime answered; `latency_ms` is its call alone."""
        valid = all(_is_finite(array) for array in outputs.values())
        with self._lock:
            self._latency.add(latency_ms)
            self._latency_max_ms = max(self._latency_max_ms, latency_ms)
            if not valid:
                self._invalid += 1
                self._last_error = "the outputs hold NaN or Inf"
                return
            self._good += 1
            self._run.see(inputs, outputs)
            self._unsettled.append((inputs, outputs))
        if len(self._unsettled) >= MAX_UNSETTLED:
            self.settle()

    def settle(self) -> None:
        """Count the drift of every answer so far."""
        with self._settling:
            while self._unsettled:
                inputs, outputs = self._unsettled.popleft()
                try:
                    self._drift.count(inputs, outputs)
                except Exception:  # noqa: BLE001 - what cannot be counted must not cost an answer
                    if not self._uncounted:
                        _log.exception("%s: a request could not be counted", self._digest[:16])
                    self._uncounted += 1

    def failed(self, reason: str) -> None:
        """The runtime failed on a well-formed request."""
        with self._lock:
            self._errors += 1
            self._last_error = reason[:MAX_ERROR_TEXT]

    def refused(self, reason: str) -> None:
        """A request did not fit the model's inputs."""
        with self._lock:
            self._refused += 1
            self._last_error = reason[:MAX_ERROR_TEXT]

    def probed(self, samples: int) -> None:
        """Golden samples ran for lack of traffic."""
        with self._lock:
            self._probes += samples

    def snapshot(self) -> ModelCounters:
        """The counts so far."""
        self.settle()
        with self._lock:
            return ModelCounters(
                digest=self._digest,
                profile=self._profile,
                inferences=self._good + self._errors + self._invalid,
                good=self._good,
                errors=self._errors,
                invalid=self._invalid,
                refused=self._refused,
                probes=self._probes,
                latency_counts=self._latency.counts(),
                latency_max_ms=self._latency_max_ms,
                drift=self._drift.window(),
                longest_constant_run=self._run.longest,
                last_error=self._last_error,
            )


class _ConstantRun:
    """The longest run of rows with equal outputs for differing inputs."""

    def __init__(self) -> None:
        self.longest = 0
        self._now = 0
        self._last: tuple[npt.NDArray[Any], npt.NDArray[Any]] | None = None

    def see(self, inputs: Arrays, outputs: Arrays) -> None:
        given, answer = _rows(inputs), _rows(outputs)
        if len(given) != len(answer):  # no common batch: the request is one row
            given, answer = given.reshape(1, -1), answer.reshape(1, -1)
        for moved, equal in self._steps(given, answer):
            self._now = self._now + int(moved) if equal else 1
            self.longest = max(self.longest, self._now)
        self._last = (given[-1].copy(), answer[-1].copy())

    def _steps(
        self, given: npt.NDArray[Any], answer: npt.NDArray[Any]
    ) -> Iterator[tuple[bool, bool]]:
        """Per row: whether its input differs from, and its output equals, the row before."""
        if self._last is None:
            yield True, False
        else:
            before, said = self._last
            yield not np.array_equal(before, given[0]), np.array_equal(said, answer[0])
        if len(given) > 1:
            moved = (given[1:] != given[:-1]).any(axis=1)
            equal = (answer[1:] == answer[:-1]).all(axis=1)
            yield from zip(moved.tolist(), equal.tolist(), strict=True)


def _rows(arrays: Arrays) -> npt.NDArray[Any]:
    """All tensors side by side as bytes, one row a sample; one row where batches differ, or where
    there is none (a detector that found nothing)."""
    batches = {array.shape[0] if array.ndim > 1 else 1 for array in arrays.values()}
    rows = (batches.pop() or 1) if len(batches) == 1 else 1
    parts = [
        np.ascontiguousarray(arrays[name]).reshape(rows, -1).view(np.uint8)
        for name in sorted(arrays)
    ]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def _is_finite(array: npt.NDArray[Any]) -> bool:
    if array.dtype.kind != "f":
        return True
    return bool(np.isfinite(array).all())
