"""Given latencies are read out of what is at hand, and believed of the same models only."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from converter.convert import Converted
from converter.errors import BundleUnreadable, MeasurementsMismatch, MeasurementsUnreadable
from converter.given_measurements import Given, read_given
from converter.inspection import MAX_REPORT_BYTES
from converter.measurement import Subject, encode_measurement
from converter.report_files import report_files, write_report
from tests.converter.page.reports import full, measurement


def test_a_bundle_its_report_and_a_record_give_the_same(
    converted: Converted, tmp_path: Path
) -> None:
    write_report(tmp_path, converted.report)
    (taken,) = converted.report.measurements
    record = tmp_path / "record.json"
    record.write_bytes(encode_measurement(taken))
    for path in (converted.path, tmp_path / "report.json", record):
        assert read_given(path) == Given(path, (taken,))


def test_the_host_does_not_matter_and_the_models_do() -> None:
    found = measurement(host="aarch64, Raspberry Pi 5, 4 CPUs")
    given = Given(Path("a.bundle"), (measurement("litert 2.1.6"), found))
    assert given.of("onnx-int8", measurement().subject) == found
    other = other_model(found.subject)
    with pytest.raises(MeasurementsMismatch, match=r"a\.bundle: holds no latency of the onnx-int8"):
        given.of("onnx-int8", other)


def other_model(subject: Subject) -> Subject:
    artifact = msgspec.structs.replace(subject.artifact, digest="cd" * 32)
    return msgspec.structs.replace(subject, artifact=artifact)


def test_another_version_of_the_runtime_is_named() -> None:
    given = Given(Path("a.bundle"), (measurement("onnxruntime 1.30.0"),))
    with pytest.raises(MeasurementsMismatch, match=r"by onnxruntime 1\.30\.0 .* 1\.31\.1"):
        given.of("onnx-int8", measurement().subject)


def test_other_measuring_is_another_measurement() -> None:
    given = Given(Path("a.bundle"), (measurement(),))
    subject = msgspec.structs.replace(measurement().subject, rounds=50)
    with pytest.raises(
        MeasurementsMismatch, match=r"calls 200 after 10, .* here it would be .* calls 50 "
    ):
        given.of("onnx-int8", subject)


def report_with(**changes: object) -> bytes:
    return json.dumps(json.loads(report_files(full())["report.json"]) | changes).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"{}",
        b'{"measurements": 7}',
        b'{"measurements": [{}]}',
        b'{"measurements": ' + b"[" * 100_000,
        b"{" + b" " * MAX_REPORT_BYTES,
        report_with(measurements=[]),
        encode_measurement(measurement(p50_ms=-1.0)),
        encode_measurement(measurement()).replace(b'"schema": 1', b'"schema": 2'),
    ],
)
def test_what_holds_no_latency_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "given.json"
    path.write_bytes(content)
    with pytest.raises(MeasurementsUnreadable, match=r"given\.json: "):
        read_given(path)


def test_what_is_no_bundle_or_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "given.bundle"
    path.write_bytes(b"PK\x03\x04 no more")
    with pytest.raises(BundleUnreadable, match=r"given\.bundle"):
        read_given(path)
    with pytest.raises(MeasurementsUnreadable, match="No such file"):
        read_given(tmp_path / "none.bundle")
    with pytest.raises(MeasurementsUnreadable, match="directory"):
        read_given(tmp_path)
