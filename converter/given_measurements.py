"""Measurements that a person gives: out of a bundle, its report.json, or one record of a cache.

Owns the reading, bounded, and the answer to "is this of what I made?", which is an error when it is
not: a bundle that is to be made again must not rest on another one's figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from converter.errors import MeasurementsMismatch, MeasurementsUnreadable
from converter.inspection import MAX_REPORT_BYTES, read_report
from converter.measurement import MalformedMeasurement, Measurement, Subject, sound


@dataclass(frozen=True)
class Given:
    """What `path` holds; at least one measurement."""

    path: Path
    measurements: tuple[Measurement, ...]

    def of(self, name: str, subject: Subject) -> Measurement:
        """The measurement of the variant `name`, wherever it was taken.

        Raises `MeasurementsMismatch` when there is none of these very bytes and runtimes.
        """
        for found in self.measurements:
            if found.subject == subject:
                return found
        raise MeasurementsMismatch(f"{self.path}: {self._why_not(name, subject)}")

    def _why_not(self, name: str, subject: Subject) -> str:
        digests = (subject.artifact.digest, subject.float32.digest)
        for found in self.measurements:
            if (found.subject.artifact.digest, found.subject.float32.digest) == digests:
                return (
                    f"{name} was measured by {_how(found.subject)}, and here it would be by"
                    f" {_how(subject)}; use the same version, or leave --measurements out"
                )
        return (
            f"holds no latency of the {name} that was made here ({digests[0][:12]}, from"
            f" {digests[1][:12]}); give the same model, samples, options and versions of the tools"
            " as then, or leave --measurements out"
        )


def read_given(path: Path) -> Given:
    """Read `path`, a bundle or JSON; raises `MeasurementsUnreadable` or `BundleUnreadable`."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_REPORT_BYTES + 1)
    except OSError as error:
        raise MeasurementsUnreadable(
            f"{path}: {error.strerror or 'cannot be read'}; give a bundle or its report.json"
        ) from error
    try:
        found = _parsed(data) if data.lstrip()[:1] == b"{" else read_report(path).measurements
        checked = tuple(sound(measurement) for measurement in found)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise MeasurementsUnreadable(
            f"{path}: {str(error)[:200]}; give a bundle or its report.json"
        ) from error
    if not checked:
        raise MeasurementsUnreadable(
            f"{path}: holds no measured latency; it was made by an older program, convert again"
        )
    return Given(path, checked)


class _Report(msgspec.Struct, frozen=True):
    """The little of a report.json that is needed."""

    measurements: list[Measurement]


def _parsed(data: bytes) -> list[Measurement]:
    if len(data) > MAX_REPORT_BYTES:
        raise MalformedMeasurement(f"more than {MAX_REPORT_BYTES} bytes")
    if "measurements" in msgspec.json.decode(data, type=dict[str, msgspec.Raw]):
        return msgspec.json.decode(data, type=_Report).measurements
    return [msgspec.json.decode(data, type=Measurement)]


def _how(subject: Subject) -> str:
    return (
        f"{subject.artifact.runtime} beside {subject.float32.runtime} (threads {subject.threads},"
        f" calls {subject.rounds} after {subject.warm_up}, at most {subject.budget_s:g} s)"
    )
