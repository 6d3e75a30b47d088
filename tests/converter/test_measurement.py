"""A measurement has one form, and a damaged or impossible one is refused by name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from converter.measurement import (
    MalformedMeasurement,
    decode_measurement,
    encode_measurement,
    key_of,
    measured_on,
    places,
)
from tests.converter.page.reports import measurement

PROJECT = Path(__file__).parents[2]


def test_it_comes_back_from_its_bytes() -> None:
    assert decode_measurement(encode_measurement(measurement())) == measurement()


def test_what_was_timed_in_another_way_is_another_measurement(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = measurement()
    key = key_of(found.subject, found.host)
    monkeypatch.setattr("converter.measurement.TIMING", 1)
    assert key_of(found.subject, found.host) != key


def test_the_key_is_of_what_was_measured_and_where_not_of_what_came_out() -> None:
    found = measurement()
    assert key_of(found.subject, found.host) == key_of(
        measurement(p50_ms=9.0, measured_at_ms=1).subject, "x86_64, 2 CPUs"
    )
    others = [
        key_of(found.subject, "aarch64, 4 CPUs"),
        key_of(measurement("onnxruntime 1.32.0").subject, found.host),
        key_of(msgspec.structs.replace(found.subject, threads=2), found.host),
        key_of(msgspec.structs.replace(found.subject, rounds=100), found.host),
    ]
    assert len({key_of(found.subject, found.host), *others}) == 5


def test_the_key_is_the_same_in_any_process() -> None:
    program = (
        "from converter.measurement import key_of;"
        "from tests.converter.page.reports import measurement;"
        "m = measurement(); print(key_of(m.subject, m.host))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONHASHSEED": "7"},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == key_of(measurement().subject, measurement().host)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"schema": 1}'])
def test_damage_is_one_error(data: bytes) -> None:
    with pytest.raises(MalformedMeasurement, match="not a measurement"):
        decode_measurement(data)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("schema", 2),
        ("p50_ms", 0),
        ("p50_ms", -1.0),
        ("p50_ms_float32", -0.0),
        ("p50_ms", "fast"),
        ("calls", -1),
        ("measured_at_ms", -1),
        ("measured_at_ms", 1 << 54),
        ("host", "x" * 201),
    ],
)
def test_what_no_clock_measures_is_refused(field: str, value: object) -> None:
    made = json.loads(encode_measurement(measurement()))
    made[field] = value
    with pytest.raises(MalformedMeasurement):
        decode_measurement(json.dumps(made).encode())


def test_days_are_utc() -> None:
    assert measured_on(measurement(measured_at_ms=0)) == "1970-01-01"
    assert measured_on(measurement(measured_at_ms=1_795_219_199_999)) == "2026-11-20"
    assert measured_on(measurement(measured_at_ms=1 << 53)) == "an unknown day"


def test_a_place_is_told_once() -> None:
    found = [measurement(), measurement(p50_ms=1.0), measurement("litert 2.1.6")]
    assert places(found) == [
        "x86_64, 2 CPUs, onnxruntime 1.31.1, 2026-11-20",
        "x86_64, 2 CPUs, litert 2.1.6, 2026-11-20",
    ]
