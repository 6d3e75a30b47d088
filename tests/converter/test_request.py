"""A request that cannot be right is refused before any file is read."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from converter.errors import InvalidRequest, OutputUnwritable
from converter.request import ConvertRequest, check_request


def request(tmp_path: Path, **changes: Any) -> ConvertRequest:
    plain = ConvertRequest(
        model=tmp_path / "m.onnx",
        calib=tmp_path / "c.npz",
        evaluation=tmp_path / "e.npz",
        family="digits",
        version="1",
        output=tmp_path / "out.bundle",
    )
    return replace(plain, **changes)


def test_a_good_request_passes_and_reads_nothing(tmp_path: Path) -> None:
    check_request(request(tmp_path))


@pytest.mark.parametrize(
    "changes",
    [
        {"family": "Digits"},
        {"family": ""},
        {"family": "root"},
        {"family": "a/b"},
        {"version": "1/2"},
        {"version": ""},
        {"device_classes": ("pi-5", "Jetson Orin")},
        {"max_drop": -0.1},
        {"max_drop": 101.0},
        {"max_drop": float("nan")},
        {"labels": ("",)},
        {"labels": ("cat", "\udcff")},
        {"labels": ("x" * 121,)},
        {"labels": ("x",) * 5000},
    ],
)
def test_bad_names_and_limits(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_request(request(tmp_path, **changes))
    assert "\n" not in str(caught.value)


def test_a_pipe_or_a_device_is_not_replaced_by_a_bundle(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "out.bundle")
    with pytest.raises(OutputUnwritable, match="another -o"):
        check_request(request(tmp_path))
    with pytest.raises(OutputUnwritable):
        check_request(request(tmp_path, output=Path("/dev/null")))


def test_one_file_cannot_calibrate_and_evaluate(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    same = tmp_path / "d" / ".." / "c.npz"
    with pytest.raises(InvalidRequest, match="same file"):
        check_request(request(tmp_path, evaluation=same))


@pytest.mark.parametrize("field", ["model", "calib", "evaluation"])
def test_the_bundle_never_overwrites_an_input(tmp_path: Path, field: str) -> None:
    with pytest.raises(InvalidRequest, match="overwrite"):
        check_request(request(tmp_path, **{field: tmp_path / "out.bundle"}))


@pytest.mark.parametrize("field", ["with_float", "with_cuda"])
def test_integer_and_float_interfaces_share_no_release(tmp_path: Path, field: str) -> None:
    with pytest.raises(InvalidRequest, match="another interface"):
        check_request(request(tmp_path, integer_io=True, **{field: True}))


def test_measuring_anew_and_taking_what_was_measured_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="--remeasure and --measurements"):
        check_request(request(tmp_path, remeasure=True, measurements=tmp_path / "a.bundle"))


@pytest.mark.parametrize("ratio", [0.0, -1.0, float("inf"), float("nan")])
def test_a_latency_limit_is_a_positive_number(tmp_path: Path, ratio: float) -> None:
    with pytest.raises(InvalidRequest, match="max-latency-ratio"):
        check_request(request(tmp_path, max_latency_ratio=ratio))


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(OutputUnwritable, match="create it first"):
        check_request(request(tmp_path, output=tmp_path / "no" / "out.bundle"))


def test_a_folder_as_output(tmp_path: Path) -> None:
    (tmp_path / "out.bundle").mkdir()
    with pytest.raises(OutputUnwritable, match="choose another"):
        check_request(request(tmp_path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "sealed"
    folder.mkdir(mode=0o500)
    with pytest.raises(OutputUnwritable):
        check_request(request(tmp_path, output=folder / "out.bundle"))
