"""The whole pipeline on real parts: what it measures and what the bundle then holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from contract.messages import Hardware
from contract.variants import choose_variant
from converter.convert import Converted, convert
from converter.page import render
from converter.report import decode_report
from model.archive import open_bundle
from model.golden import run_golden
from model.golden_file import decode_golden
from model.profile import decode_profile
from model.runtimes.choice import open_session
from tests.converter import models
from tests.converter.conftest import DIGITS, Inputs
from tests.converter.test_canonical import tied

# The digits example


def test_digits_keep_their_accuracy_at_a_quarter_of_the_size(converted: Converted) -> None:
    figures = converted.report.figures
    assert figures.accuracy is not None
    assert figures.accuracy_float32 is not None
    assert figures.accuracy >= figures.accuracy_float32 - 0.34
    assert figures.agreement >= 99.0
    assert figures.sqnr_db > 40
    assert figures.bytes < 0.3 * figures.bytes_float32
    assert converted.report.gate.passed
    assert not converted.report.gate.forced


def test_every_layer_of_digits_runs_in_integers(converted: Converted) -> None:
    quantiser = converted.report.quantiser
    assert (quantiser.integer_layers, quantiser.float_layers) == (5, 0)
    assert quantiser.activations == "uint8"


def test_the_second_digits_model_converts_as_well(digits: Inputs, tmp_path: Path) -> None:
    found = convert(
        digits.request(model=DIGITS / "digits-2.onnx", version="2", output=tmp_path / "two.bundle")
    )
    assert found.report.figures.agreement >= 99.0
    assert found.manifest.target == "digits/2"


def test_the_bundle_is_whole_and_names_what_was_measured(converted: Converted) -> None:
    with open_bundle(converted.path) as bundle:
        bundle.check()
        (variant,) = bundle.manifest.variants
        page, report = bundle.manifest.hub_files
        assert (page.path, report.path) == ("report.html", "report.json")
        assert decode_report(bundle.read(report)) == converted.report
        assert bundle.read(page) == render(converted.report)
    assert bundle.manifest == converted.manifest
    assert variant.name == "onnx-int8"
    assert set(variant.evidence) == {
        "accuracy",
        "accuracy_float32",
        "agreement",
        "bytes",
        "bytes_float32",
        "p50_ms",
        "p50_ms_float32",
        "sqnr_db",
    }
    assert variant.evidence["bytes"] == variant.model.length


def test_the_shipped_artifact_passes_its_own_golden_samples(
    converted: Converted, tmp_path: Path
) -> None:
    with open_bundle(converted.path) as bundle:
        (variant,) = bundle.manifest.variants
        path = tmp_path / "model.onnx"
        path.write_bytes(bundle.read(variant.model))
        golden = decode_golden(bundle.read(variant.golden))
    result = run_golden(open_session(variant, path), golden)
    assert result.passed, result.reason
    assert result.agreement == 1.0
    assert set(golden.outputs["probabilities"].argmax(axis=1)) == set(range(10))


def test_the_profile_holds_the_calibrated_range_and_the_artifacts_answers(
    converted: Converted,
) -> None:
    with open_bundle(converted.path) as bundle:
        profile = decode_profile(bundle.read(bundle.manifest.variants[0].profile))
    assert profile.samples == 200
    assert (profile.ranges["image"].low, profile.ranges["image"].high) == (0.0, 1.0)
    assert profile.classes is not None
    assert sum(profile.classes.counts) == 200
    assert min(profile.classes.counts) >= 15


def test_a_device_with_an_old_onnxruntime_may_take_it(converted: Converted) -> None:
    old = Hardware(machine="aarch64", runtimes={"onnxruntime": "1.16.3"})
    assert choose_variant(converted.manifest, old).name == "onnx-int8"


# Options


def test_progress_grows_from_nothing_to_done(small: Inputs) -> None:
    told: list[tuple[str, float]] = []
    convert(small.request(), lambda step, share: told.append((step, share)))
    shares = [share for _, share in told]
    assert shares == sorted(shares)
    assert told[0] == ("read", 0.0)
    assert told[-1] == ("done", 1.0)
    assert {"simplify", "quantise", "evaluate", "time", "evidence", "write"} <= {s for s, _ in told}


def test_labels_and_device_classes_are_in_the_manifest(small: Inputs) -> None:
    found = convert(
        small.request(labels=("a", "b", "c", "d", "e"), device_classes=("pi-5", "jetson-orin"))
    )
    assert found.manifest.labels == ["a", "b", "c", "d", "e"]
    assert found.manifest.device_classes == ["jetson-orin", "pi-5"]


def test_the_float_model_goes_along_when_asked(small: Inputs, tmp_path: Path) -> None:
    found = convert(small.request(with_float=True))
    assert [v.name for v in found.manifest.variants] == ["onnx-int8", "onnx-fp32"]
    with open_bundle(found.path) as bundle:
        variant = bundle.manifest.variants[1]
        path = tmp_path / "float.onnx"
        path.write_bytes(bundle.read(variant.model))
        golden = decode_golden(bundle.read(variant.golden))
    assert run_golden(open_session(variant, path), golden).passed
    images = models.images(9, seed=21)
    np.testing.assert_allclose(
        models.run(path.read_bytes(), image=images)[0],
        models.run(small.model.read_bytes(), image=images)[0],
        atol=1e-5,
    )


def test_without_evaluation_data_a_quarter_is_held_out(small: Inputs) -> None:
    found = convert(small.request(evaluation=None, max_drop=20.0))
    data = found.report.data
    assert data.held_out
    assert (data.calibration_samples, data.evaluation_samples) == (30, 10)
    assert found.report.gate.metric == "agreement"
    assert found.report.figures.accuracy is None


def test_an_old_bundle_is_replaced(small: Inputs) -> None:
    request = small.request()
    request.output.write_text("an older bundle")
    convert(request)
    with open_bundle(request.output) as bundle:
        bundle.check()


def test_a_model_of_fixed_batch_converts(small: Inputs) -> None:
    models.save(small.model, models.classifier(batch=1))
    (variant,) = convert(small.request()).manifest.variants
    assert variant.inputs[0].shape == [1, 1, 8, 8]
    assert variant.outputs[0].shape == [1, models.CLASSES]


def test_a_regression_of_several_tensors_converts(tmp_path: Path) -> None:
    draw = models.rng(4)

    def samples(name: str, count: int) -> Path:
        return models.save_samples(
            tmp_path / name,
            left=draw.normal(size=(count, 12)).astype(np.float32),
            right=draw.normal(size=(count, 3)).astype(np.float32),
        )

    inputs = Inputs(
        models.save(tmp_path / "reg.onnx", models.regressor()),
        samples("calib.npz", 200),
        samples("eval.npz", 100),
        tmp_path,
    )
    found = convert(inputs.request(max_drop=5.0))
    assert [spec.name for spec in found.manifest.variants[0].outputs] == ["place", "size"]
    assert found.report.gate.metric == "agreement"
    assert found.report.figures.sqnr_db > 25


def test_tied_weights_and_a_shared_bias_convert(tmp_path: Path) -> None:
    """The quantiser failed on the one, and our own retuning of its biases on the other."""

    def samples(name: str, seed: int) -> Path:
        x = models.rng(seed).normal(size=(100, 8)).astype(np.float32)
        return models.save_samples(tmp_path / name, x=x)

    model = models.save(tmp_path / "tied.onnx", tied())
    inputs = Inputs(model, samples("calib.npz", 1), samples("eval.npz", 2), tmp_path)
    found = convert(inputs.request(max_drop=10.0))
    assert found.report.figures.sqnr_db > 25
    assert (found.report.quantiser.integer_layers, found.report.quantiser.float_layers) == (3, 0)
