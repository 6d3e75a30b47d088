"""One measured latency as a value: of what, where, when, and what came out. Pure.

A measurement is an input of a conversion, as the samples are: it decides what ships, and it stands
in the bundle. Owns its form, and when two are of the same thing. Measures nothing, keeps nothing.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from contract.ids import Digest, TimeMs, digest_of

SCHEMA = 1
TIMING = 2
"""The way that is timed: since 2 without our own conversion between floats and integers. What was
kept of another way is not found, and measured anew."""
Words = Annotated[str, Meta(max_length=200)]
Calls = Annotated[int, Meta(ge=0, le=1 << 53)]


class MalformedMeasurement(ValueError):
    """The record is damaged, of a newer program, or holds what no clock can have measured."""


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One of the two models: its bytes, and what ran them, e.g. `onnxruntime 1.31.1`."""

    digest: Digest
    runtime: Words


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured and how; on one host no subject is measured twice without being asked."""

    artifact: Side
    float32: Side
    """The model that the artifact took turns with."""
    threads: Calls
    warm_up: Calls
    rounds: Calls
    """Calls that were planned for each."""
    budget_s: float


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """Medians of one call on one sample, in ms, rounded to 0.1 us."""

    schema: int = SCHEMA
    subject: Subject
    host: Words
    p50_ms: float
    p50_ms_float32: float
    calls: Calls
    """Of each model, that fitted into the budget."""
    measured_at_ms: TimeMs


def key_of(subject: Subject, host: str) -> str:
    """The digest under which the measurement of `subject` on `host` is kept."""
    return digest_of(msgspec.json.encode((SCHEMA, TIMING, subject, host), order="sorted"))


def measured_on(found: Measurement) -> str:
    """The day in UTC, `2026-11-20`; `an unknown day` for what no calendar holds."""
    try:
        moment = datetime.datetime.fromtimestamp(found.measured_at_ms / 1000, datetime.timezone.utc)
    except (ValueError, OverflowError, OSError):
        return "an unknown day"
    return moment.date().isoformat()


def places(measurements: Sequence[Measurement]) -> list[str]:
    """Where, by what and when, each place once: `x86_64, 2 CPUs, litert 2.1.6, 2026-11-20`."""
    told = (f"{m.host}, {m.subject.artifact.runtime}, {measured_on(m)}" for m in measurements)
    return list(dict.fromkeys(told))


def encode_measurement(measurement: Measurement) -> bytes:
    """Readable JSON; equal measurements give equal bytes."""
    encoded = msgspec.json.encode(measurement, order="sorted")
    return msgspec.json.format(encoded, indent=1) + b"\n"


def decode_measurement(data: bytes) -> Measurement:
    """Parse and check one record; raises `MalformedMeasurement` and nothing else."""
    try:
        found = msgspec.json.decode(data, type=Measurement)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise MalformedMeasurement(f"not a measurement: {str(error)[:200]}") from error
    return sound(found)


def sound(found: Measurement) -> Measurement:
    """`found` when a conversion can rest on it; raises `MalformedMeasurement`."""
    if found.schema != SCHEMA:
        raise MalformedMeasurement(f"schema {found.schema}; this program reads {SCHEMA}")
    if not all(math.isfinite(ms) and ms > 0 for ms in (found.p50_ms, found.p50_ms_float32)):
        raise MalformedMeasurement("a latency that is not above 0")
    return found
