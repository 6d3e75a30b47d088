"""The whole pipeline on real parts: figures, gate and force, and nothing left behind."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from contract.messages import Hardware
from contract.variants import choose_variant
from converter import errors
from converter.convert import Converted, convert
from converter.report import decode_report
from model.archive import open_bundle
from model.golden import run_golden
from model.golden_file import decode_golden
from model.profile import decode_profile
from model.runtimes.choice import open_session
from tests.converter import models
from tests.converter.conftest import DIGITS, Inputs


def scaled(inputs: Inputs, path: Path, factor: float) -> Path:
    """The calibration file with every value multiplied."""
    with np.load(inputs.calib) as file:
        return models.save_samples(path, image=file["image"] * np.float32(factor))


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if "bundle" in path.name)


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
        (report_ref,) = bundle.manifest.hub_files
        assert decode_report(bundle.read(report_ref)) == converted.report
    assert bundle.manifest == converted.manifest
    assert variant.name == "onnx-int8"
    assert set(variant.evidence) == {
        "accuracy",
        "accuracy_float32",
        "agreement",
        "bytes",
        "bytes_float32",
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


# Refusals


def test_a_wrong_scale_is_refused_and_writes_nothing(digits: Inputs, tmp_path: Path) -> None:
    request = digits.request(
        calib=scaled(digits, tmp_path / "wrong.npz", 0.05), output=tmp_path / "w.bundle"
    )
    with pytest.raises(errors.CalibrationMismatch, match=r"wrong\.npz: 'image'"):
        convert(request)
    assert leftovers(tmp_path) == []


def test_a_forced_wrong_scale_is_recorded_in_the_manifest(digits: Inputs, tmp_path: Path) -> None:
    found = convert(
        digits.request(
            calib=scaled(digits, tmp_path / "wrong.npz", 0.05),
            output=tmp_path / "w.bundle",
            force=True,
        )
    )
    with open_bundle(found.path) as bundle:
        gate = bundle.manifest.gate
    assert gate.forced
    assert not gate.passed
    assert gate.measured < 50 < 99 < gate.baseline
    assert "CalibrationMismatch: wrong.npz" in gate.reason
    assert "GateFailed: accuracy fell" in gate.reason


def test_a_forced_wrong_scale_still_passes_its_own_golden_samples(
    digits: Inputs, tmp_path: Path
) -> None:
    """They come from the artifact itself: only live inputs can tell that it is no good."""
    found = convert(
        digits.request(
            calib=scaled(digits, tmp_path / "wrong.npz", 0.05),
            output=tmp_path / "w.bundle",
            force=True,
        )
    )
    with open_bundle(found.path) as bundle:
        (variant,) = bundle.manifest.variants
        path = tmp_path / "model.onnx"
        path.write_bytes(bundle.read(variant.model))
        golden = decode_golden(bundle.read(variant.golden))
    assert run_golden(open_session(variant, path), golden).passed


def test_force_without_an_objection_records_nothing(small: Inputs) -> None:
    gate = convert(small.request(force=True)).manifest.gate
    assert gate.passed
    assert not gate.forced
    assert gate.reason == ""


def test_a_loss_beyond_the_limit_fails_the_gate_with_its_figures(small: Inputs) -> None:
    models.save(small.model, models.classifier(imbalance=1e5))
    request = small.request()
    with pytest.raises(errors.GateFailed) as caught:
        convert(request)
    record = caught.value.record
    assert record.baseline > 95
    assert record.measured < record.baseline - 5
    assert f"{record.measured:.2f} %" in str(caught.value)
    assert leftovers(small.folder) == []


def test_a_forced_loss_is_shipped_with_its_figures(small: Inputs) -> None:
    models.save(small.model, models.classifier(imbalance=1e5))
    found = convert(small.request(force=True))
    gate = found.manifest.gate
    assert (gate.forced, gate.passed) == (True, False)
    assert gate.reason.startswith("GateFailed: accuracy fell")
    assert found.manifest.variants[0].evidence["accuracy"] == gate.measured


def test_a_generous_limit_lets_the_same_loss_pass(small: Inputs) -> None:
    models.save(small.model, models.classifier(imbalance=1e5))
    gate = convert(small.request(max_drop=100.0)).manifest.gate
    assert gate.passed
    assert not gate.forced


def test_without_labels_the_gate_looks_at_agreement(small: Inputs) -> None:
    models.save(small.model, models.classifier(imbalance=1e5))
    models.save_samples(small.evaluation, image=models.images(60, seed=11))
    with pytest.raises(errors.GateFailed, match="agreement fell from 100"):
        convert(small.request())


def test_shuffled_labels_are_a_useless_baseline(small: Inputs) -> None:
    with np.load(small.evaluation) as file:
        image, labels = file["image"], file["labels"]
    models.save_samples(small.evaluation, image=image, labels=(labels + 1) % models.CLASSES)
    with pytest.raises(errors.UselessBaseline, match="labels' order"):
        convert(small.request())
    assert "UselessBaseline" in convert(small.request(force=True)).manifest.gate.reason


def test_an_outlier_is_refused_by_sample_and_can_be_forced(small: Inputs) -> None:
    images = models.images(40, seed=5)
    images[31, 0, 4, 4] = 1e6
    models.save_samples(small.calib, image=images)
    with pytest.raises(errors.CalibrationOutlier, match="sample 31"):
        convert(small.request())
    assert convert(small.request(force=True)).manifest.gate.reason.startswith("CalibrationOutlier")


def test_shared_samples_are_refused_even_by_force(small: Inputs) -> None:
    with np.load(small.calib) as file:
        shared = file["image"][[4]]
    seen = np.concatenate([models.images(3, seed=50), shared])
    models.save_samples(small.evaluation, image=seen)
    for force in (False, True):
        with pytest.raises(errors.SamplesOverlap, match="sample 3 is sample 4"):
            convert(small.request(force=force))


def test_label_names_must_be_as_many_as_the_classes(small: Inputs) -> None:
    with pytest.raises(errors.BadLabels, match="3 label names"):
        convert(small.request(labels=("a", "b", "c")))


def test_calibration_labels_beyond_the_classes_are_refused(small: Inputs) -> None:
    with np.load(small.calib) as file:
        images = file["image"]
    models.save_samples(small.calib, image=images, labels=np.full(len(images), 77))
    with pytest.raises(errors.BadLabels, match="label 77"):
        convert(small.request())


@pytest.mark.parametrize("step", ["simplify", "quantise", "evaluate", "time", "evidence", "write"])
def test_ctrl_c_at_any_step_leaves_nothing_behind(
    small: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    before = leftovers(tmp_path)

    def interrupt(name: str, share: float) -> None:
        # Half-way through quantising, calibration runs inside onnxruntime's own code.
        if name == step and (step != "quantise" or share > 0.2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(small.request(), interrupt)
    assert leftovers(tmp_path) == before
    assert list(scratch.iterdir()) == []


def test_a_full_disk_is_named_and_the_old_bundle_stays(
    small: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = small.request()
    request.output.write_text("the old bundle")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("converter.bundle.write_bundle", full)
    with pytest.raises(errors.OutputUnwritable, match="No space left"):
        convert(request)
    assert request.output.read_text() == "the old bundle"


@pytest.mark.parametrize("end", ["input", "output"])
def test_names_that_no_manifest_holds_are_refused(small: Inputs, end: str) -> None:
    made, long = models.classifier(), "scores/" * 30
    if end == "output":
        made.graph.output[0].name = made.graph.node[-1].output[0] = long
    else:
        made.graph.input[0].name = made.graph.node[0].input[0] = long
    models.save(small.model, made)
    with pytest.raises(errors.UnsupportedTensor, match="210 characters"):
        convert(small.request())
    assert leftovers(small.folder) == []


def test_a_file_name_that_is_no_text_becomes_one(small: Inputs) -> None:
    odd = small.model.with_name(os.fsdecode(b"caf\xe9.onnx"))
    small.model.rename(odd)
    assert convert(small.request(model=odd)).manifest.source.name == "caf?.onnx"


def test_missing_files_are_named_before_any_work(small: Inputs) -> None:
    told: list[str] = []
    for field, kind in (
        ("model", errors.ModelUnreadable),
        ("calib", errors.SamplesUnreadable),
        ("evaluation", errors.SamplesUnreadable),
    ):
        request = replace(small.request(), **{field: small.folder / "absent"})  # type: ignore[arg-type]  # a Path for a Path
        with pytest.raises(kind, match="absent: No such file"):
            convert(request, lambda step, share: told.append(step))
    assert set(told) == {"read"}
