"""The quantiser: settings that devices rely on, what stays float, and a silent terminal."""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from converter.errors import NothingToQuantise, QuantisationFailed
from converter.quantise import OPERATORS, quantise
from converter.samples import BATCH, Samples
from converter.sessions import quiet
from tests.converter import models
from tests.converter.calibrated import inferred, plain_ranges

SILENT = """
import sys
from pathlib import Path
from converter.canonical import canonicalise
from converter.int8 import make_int8
from converter.samples import Samples
from converter.source import read_source
from tests.converter import models
work = Path(sys.argv[1])
model = canonicalise(read_source(models.save(work / "m.onnx", models.classifier())), work)
make_int8(model, Samples("c", {"image": models.images(40)}), -1, work, lambda share: None)
"""


def calibration(count: int = 20) -> Samples:
    return Samples("calib.npz", {"image": models.images(count)})


def int8(samples: Samples | None = None) -> onnx.ModelProto:
    model = inferred(models.classifier(norm=False))
    return quantise(model, plain_ranges(model, samples or calibration()))[0]


def test_weights_are_int8_per_channel_and_activations_uint8() -> None:
    made = int8()
    weights = {t.name: numpy_helper.to_array(t) for t in made.graph.initializer}
    assert weights["c2.w_quantized"].dtype == np.int8
    assert weights["c2.w_scale"].shape == (12,)
    assert weights["image_zero_point"].dtype == np.uint8


def test_quantising_goes_through_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = int8().SerializeToString(deterministic=True)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    assert int8().SerializeToString(deterministic=True) == wanted


def test_shapes_that_nobody_wrote_down_are_inferred() -> None:
    model = models.classifier(norm=False)
    assert not model.graph.value_info
    ranges = plain_ranges(inferred(model), calibration())
    assert {node.op_type for node in quantise(model, ranges)[0].graph.node} >= {"QuantizeLinear"}


def test_the_opset_stays_17() -> None:
    assert {(o.domain, o.version) for o in int8().opset_import if o.domain == ""} == {("", 17)}


def test_probabilities_stay_float() -> None:
    last = int8().graph.node[-1]
    assert (last.op_type, list(last.output)) == ("Softmax", ["scores"])


def test_the_operators_are_given_in_a_fixed_order() -> None:
    assert sorted(OPERATORS) == OPERATORS
    assert {"Conv", "Gemm", "MatMul"} <= set(OPERATORS)


def test_every_sample_counts_for_the_range() -> None:
    images = models.images(BATCH + 5)
    images[-1, 0, 0, 0] = 2.0
    made = int8(Samples("c", {"image": images}))
    scale = next(t for t in made.graph.initializer if t.name == "image_scale")
    assert float(numpy_helper.to_array(scale)) == pytest.approx(2.0 / 255)


def test_a_node_that_is_to_stay_float_keeps_its_weights() -> None:
    model = inferred(models.classifier(norm=False))
    made, _ = quantise(model, plain_ranges(model, calibration()), keep_float=["c2"])
    names = {tensor.name for tensor in made.graph.initializer}
    assert "c2.w" in names
    assert "c1.w_quantized" in names


def test_a_grouped_deconvolution_stays_float_and_the_rest_does_not() -> None:
    """onnxruntime's quantiser fails on its weights per channel."""
    nodes = [
        helper.make_node("Conv", ["image", "c.w"], ["c"], name="c"),
        helper.make_node("ConvTranspose", ["c", "d.w", "d.b"], ["y"], name="d", group=2),
    ]
    weights = [models.weight("c.w", 4, 1, 3, 3), models.weight("d.w", 4, 3, 3, 3)]
    made = inferred(
        models.model(
            nodes,
            [models.tensor("image", "N", 1, 8, 8)],
            [models.tensor("y", "N", 6, 8, 8)],
            [*weights, models.weight("d.b", 6)],
        )
    )
    quantised, _ = quantise(made, plain_ranges(made, calibration()))
    names = {tensor.name for tensor in quantised.graph.initializer}
    assert {"d.w", "c.w_quantized"} <= names


def test_the_float_model_stays_as_it_was() -> None:
    model = inferred(models.classifier(norm=False))
    before = model.SerializeToString()
    quantise(model, plain_ranges(model, calibration()))
    assert model.SerializeToString() == before


def test_a_model_without_layers_is_refused() -> None:
    made = models.model(
        [helper.make_node("Relu", ["image"], ["y"])],
        [models.tensor("image", "N", 1, 8, 8)],
        [models.tensor("y", "N", 1, 8, 8)],
        [],
    )
    with pytest.raises(NothingToQuantise, match=r"Conv.*no such network is shipped as float"):
        quantise(made, {})


def test_a_failure_of_the_quantiser_is_one_line() -> None:
    with pytest.raises(QuantisationFailed) as caught:
        quantise(inferred(models.classifier(norm=False)), {})
    assert "\n" not in str(caught.value)


def test_nothing_reaches_the_terminal(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", SILENT, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert (run.stdout, run.stderr) == ("", "")


def test_warnings_are_kept_and_the_logging_is_put_back(
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    with quiet() as notes:
        logging.warning("failed to infer the type of tensor: t")
        logging.info("of no interest")
        print("Collecting tensor data ...")  # noqa: T201 - what the library does, too
    assert notes == ["failed to infer the type of tensor: t"]
    assert (root.handlers, root.level) == before
    assert capsys.readouterr() == ("", "")


def test_logging_is_put_back_after_an_error() -> None:
    root = logging.getLogger()
    before = root.handlers[:]
    with pytest.raises(KeyboardInterrupt), quiet():
        raise KeyboardInterrupt
    assert root.handlers == before
