"""The depthwise network of the benchmark: spread channels, rescued by the search."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from benchmarks import converter as benchmark
from benchmarks.depthwise import data
from benchmarks.depthwise.spread import spread
from benchmarks.tasks import Task, spread_depthwise
from converter.convert import Converted
from converter.samples import Samples
from converter.sessions import Runner

MODEL = Path(benchmark.__file__).parent / "depthwise" / "depthwise.onnx"


@pytest.fixture(scope="module")
def task() -> Task:
    return spread_depthwise(120)


@pytest.fixture(scope="module")
def searched(task: Task, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Converted]:
    folder = tmp_path_factory.mktemp("depthwise")
    benchmark.write_inputs(task, folder)
    return benchmark.converted(folder, search=True)


def accuracy(task: Task, model: bytes) -> float:
    answers = Runner(model).run(Samples("e", {task.input_name: task.samples}))[task.output_name]
    return 100 * float((answers.argmax(axis=1) == task.labels).mean())


def test_spreading_changes_no_bit_of_the_float_answers(task: Task) -> None:
    few = Samples("e", {task.input_name: task.samples[:64]})
    plain = Runner(MODEL.read_bytes()).run(few)[task.output_name]
    np.testing.assert_array_equal(Runner(task.model).run(few)[task.output_name], plain)


def test_channels_are_spread_by_up_to_sixteen() -> None:
    before = onnx.load(MODEL)
    after = spread(before)
    one, two = (
        next(numpy_helper.to_array(t) for t in m.graph.initializer if t.dims[:2] == [64, 1])
        for m in (before, after)
    )
    ratios = np.abs(two).reshape(64, -1).max(axis=1) / np.abs(one).reshape(64, -1).max(axis=1)
    assert (ratios.min(), ratios.max()) == (1 / 16, 16)


def test_the_raw_tool_loses_tens_of_points(task: Task, tmp_path: Path) -> None:
    assert accuracy(task, benchmark.raw(task, tmp_path)) < accuracy(task, task.model) - 30


def test_the_search_stays_within_three_tenths_of_a_point(
    task: Task, searched: tuple[bytes, Converted]
) -> None:
    model, done = searched
    assert accuracy(task, model) >= accuracy(task, task.model) - 0.3
    assert len(model) <= 0.36 * len(task.model)
    assert done.report.quantiser.float_layers == 0
    assert "equalised" in done.report.quantiser.ranges


def test_the_pictures_are_the_same_each_time() -> None:
    one, two = data.calibration(30), data.calibration(30)
    np.testing.assert_array_equal(one.image, two.image)
    assert one.image.shape == (30, 1, data.SIZE, data.SIZE)
    assert data.calibration(5).image.dtype == np.float32
