"""Where a latency comes from: what was given, else what is kept of this host, else the clock.

Owns that order, the list of what was used (it goes into the report), and what is to be told of it.
Without a directory to keep measurements in, each conversion measures for itself.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from contract.ids import digest_of
from converter import measurement_cache
from converter.engine import Engine
from converter.given_measurements import Given
from converter.host import describe_host
from converter.latency import BUDGET_S, ROUNDS, WARM_UP, Latency, measure_latency
from converter.measurement import MalformedMeasurement, Measurement, Side, Subject, measured_on
from converter.samples import Samples
from model.runtimes import installed_runtimes


@dataclass(frozen=True)
class Timed:
    """A model in its runtime (`onnxruntime`, `litert`), and the bytes that it was loaded from."""

    engine: Engine
    data: bytes
    runtime: str = "onnxruntime"


class Stopwatch:
    """Latencies for one conversion. `anew`: the clock in any case, and what it says is kept.

    `taken`: every measurement that was used. `notes`: what a person is to know of them.
    """

    def __init__(self, cache: Path | None, *, anew: bool = False, given: Given | None = None):
        self.taken: list[Measurement] = []
        self.notes: list[str] = []
        self._cache, self._anew, self._given = cache, anew, given
        self._host, self._runtimes = describe_host(), installed_runtimes()

    def time(self, name: str, artifact: Timed, float32: Timed, samples: Samples) -> Latency:
        """How long `artifact`, the variant `name`, takes beside `float32`.

        Raises `MeasurementsMismatch` when measurements were given, and none is of these two.
        """
        subject = self._subject(artifact, float32)
        if self._given is not None:
            found = self._given.of(name, subject)
            self._tell(
                f"latency measured {measured_on(found)} on {found.host},"
                f" out of {self._given.path.name}"
            )
        else:
            kept = self._kept(subject)
            found = kept or self._keep(self._measure(subject, artifact, float32, samples))
        if found not in self.taken:
            self.taken.append(found)
        return Latency(found.p50_ms, found.p50_ms_float32, found.calls)

    def _kept(self, subject: Subject) -> Measurement | None:
        if self._cache is None or self._anew:
            return None
        try:
            found = measurement_cache.find(self._cache, subject, self._host)
        except MalformedMeasurement as error:
            self._tell(f"a kept latency is not readable ({error}) and is measured anew")
            return None
        except OSError:
            return None  # keeping fails for the same reason, and tells it
        if found is not None:
            day = measured_on(found)
            self._tell(f"latency measured {day} on this host; --remeasure to measure anew")
        return found

    def _measure(
        self, subject: Subject, artifact: Timed, float32: Timed, samples: Samples
    ) -> Measurement:
        found = measure_latency(artifact.engine, float32.engine, samples)
        return Measurement(
            subject=subject,
            host=self._host,
            p50_ms=found.p50_ms,
            p50_ms_float32=found.p50_ms_float32,
            calls=found.rounds,
            measured_at_ms=time.time_ns() // 1_000_000,
        )

    def _keep(self, measured: Measurement) -> Measurement:
        if self._cache is None:
            return measured
        try:
            return measurement_cache.keep(self._cache, measured, anew=self._anew)
        except OSError as error:
            self._tell(
                f"the measured latency cannot be kept ({self._cache}:"
                f" {error.strerror or 'not writable'}): the next conversion measures anew, and its"
                " bundle will not have the same bytes"
            )
            return measured

    def _subject(self, artifact: Timed, float32: Timed) -> Subject:
        return Subject(
            artifact=self._side(artifact),
            float32=self._side(float32),
            threads=1,
            warm_up=WARM_UP,
            rounds=ROUNDS,
            budget_s=BUDGET_S,
        )

    def _side(self, timed: Timed) -> Side:
        version = self._runtimes.get(timed.runtime, "")
        return Side(digest=digest_of(timed.data), runtime=f"{timed.runtime} {version}".rstrip())

    def _tell(self, words: str) -> None:
        if words not in self.notes:
            self.notes.append(words)
