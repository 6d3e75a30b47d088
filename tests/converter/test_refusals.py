"""What the pipeline refuses or lets be forced, and that it then leaves nothing behind."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from converter import errors
from converter.convert import convert
from model.archive import open_bundle
from model.golden import run_golden
from model.golden_file import decode_golden
from model.runtimes.choice import open_session
from tests.agent.disks import SmallDisk
from tests.converter import models
from tests.converter.conftest import Inputs


def scaled(inputs: Inputs, path: Path, factor: float) -> Path:
    """The calibration file with every value multiplied."""
    with np.load(inputs.calib) as file:
        return models.save_samples(path, image=file["image"] * np.float32(factor))


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if "bundle" in path.name)


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
    request = small.request(search=False)
    with pytest.raises(errors.GateFailed) as caught:
        convert(request)
    record = caught.value.record
    assert record.baseline > 95
    assert record.measured < record.baseline - 5
    assert f"{record.measured:.2f} %" in str(caught.value)
    assert leftovers(small.folder) == []


def test_a_forced_loss_is_shipped_with_its_figures(small: Inputs) -> None:
    models.save(small.model, models.classifier(imbalance=1e5))
    found = convert(small.request(force=True, search=False))
    gate = found.manifest.gate
    assert (gate.forced, gate.passed) == (True, False)
    assert gate.reason.startswith("GateFailed: accuracy fell")
    assert found.manifest.variants[0].evidence["accuracy"] == gate.measured


def test_a_generous_limit_lets_the_same_loss_pass(small: Inputs) -> None:
    models.save(small.model, models.classifier(imbalance=1e5))
    gate = convert(small.request(max_drop=100.0, search=False)).manifest.gate
    assert gate.passed
    assert not gate.forced


def test_without_labels_the_gate_looks_at_agreement(small: Inputs) -> None:
    models.save(small.model, models.classifier(imbalance=1e5))
    models.save_samples(small.evaluation, image=models.images(60, seed=11))
    with pytest.raises(errors.GateFailed, match="agreement fell from 100"):
        convert(small.request(search=False))


def test_the_search_rescues_what_plain_int8_loses(small: Inputs) -> None:
    models.save(small.model, models.classifier(imbalance=1e5))
    found = convert(small.request())
    assert found.report.gate.passed
    assert "equalised" in found.report.quantiser.ranges
    chosen = [candidate for candidate in found.report.candidates if candidate.chosen]
    assert [candidate.name for candidate in chosen] == [found.report.quantiser.ranges]


def test_shuffled_labels_are_a_useless_baseline(small: Inputs) -> None:
    with np.load(small.evaluation) as file:
        image, labels = file["image"], file["labels"]
    models.save_samples(small.evaluation, image=image, labels=(labels + 1) % models.CLASSES)
    with pytest.raises(errors.UselessBaseline, match="labels' order"):
        convert(small.request())
    assert "UselessBaseline" in convert(small.request(force=True)).manifest.gate.reason


@pytest.mark.parametrize("width", [0.02, 20.0])
def test_noise_instead_of_data_is_refused(digits: Inputs, tmp_path: Path, width: float) -> None:
    noise = models.rng(5).normal(0, width, (200, 1, 8, 8)).astype(np.float32)
    calib = models.save_samples(tmp_path / "noise.npz", image=noise)
    with pytest.raises(errors.Objection, match=r"noise\.npz"):
        convert(digits.request(calib=calib, output=tmp_path / "n.bundle"))
    assert leftovers(tmp_path) == []


def test_noise_alone_gets_no_agreement_out_of_one_constant_answer(small: Inputs) -> None:
    """Evaluation held out of noise: that both agree on a single class proves nothing."""
    blank = models.rng(5).normal(0, 1e-3, (60, 1, 8, 8)).astype(np.float32)
    models.save_samples(small.calib, image=blank)
    with pytest.raises(errors.OneAnswer, match=r"calib\.npz: .* all 15 samples"):
        convert(small.request(evaluation=None))
    assert leftovers(small.folder) == []
    gate = convert(small.request(evaluation=None, force=True)).manifest.gate
    assert gate.forced
    assert gate.reason.startswith("OneAnswer")


@pytest.mark.parametrize("search", [True, False])
def test_an_output_that_int8_spoils_is_named_though_the_classes_agree(
    small: Inputs, search: bool
) -> None:
    models.save(small.model, models.detector())
    for path, seed in ((small.calib, 1), (small.evaluation, 2)):
        x = models.rng(seed).normal(size=(80, 8)).astype(np.float32)
        models.save_samples(path, x=x)
    request = small.request(search=search)
    with pytest.raises(errors.GateFailed, match="values of output 'box'"):
        convert(request)
    assert not request.output.exists()


def test_labels_of_one_class_are_refused_and_can_be_forced(small: Inputs) -> None:
    """Every fourth of samples that turn through four classes, too, is of one class."""
    place = np.flatnonzero(models.kinds(100) < 4)
    image, labels = models.images(100, seed=11)[place], models.kinds(100)[place]
    models.save_samples(small.calib, image=image, labels=labels)
    with pytest.raises(errors.OneAnswer, match=r"calib\.npz: all 20 labels"):
        convert(small.request(evaluation=None))
    assert leftovers(small.folder) == []
    assert "OneAnswer" in convert(small.request(evaluation=None, force=True)).manifest.gate.reason


def test_too_few_samples_are_refused_by_file_and_can_be_forced(small: Inputs) -> None:
    models.save_samples(small.calib, image=models.images(3, seed=5))
    with pytest.raises(errors.TooFewSamples, match=r"calib\.npz: 3 samples"):
        convert(small.request())
    assert leftovers(small.folder) == []
    assert "TooFewSamples" in convert(small.request(force=True)).manifest.gate.reason


def test_an_outlier_is_refused_by_sample_and_can_be_forced(small: Inputs) -> None:
    images = models.images(40, seed=5)
    images[31, 0, 4, 4] = 1e6
    models.save_samples(small.calib, image=images)
    with pytest.raises(errors.CalibrationOutlier, match="sample 31"):
        convert(small.request())
    assert convert(small.request(force=True)).manifest.gate.reason.startswith("CalibrationOutlier")


def test_a_failed_gate_names_the_sample_that_took_the_range(small: Inputs) -> None:
    """Not so large that it is refused by itself, and large enough to spoil int8."""
    images = models.images(40, seed=5)
    images[31, 0, 4, 4] = 90.0
    models.save_samples(small.calib, image=images)
    with pytest.raises(errors.GateFailed, match=r"calib\.npz \(sample 31 of 'image' reaches 90"):
        convert(small.request(search=False))
    assert leftovers(small.folder) == []


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
    small: Inputs, small_disk: SmallDisk
) -> None:
    request = small.request(output=small_disk.directory / "out.bundle")
    request.output.write_text("the old bundle")
    small_disk.fill()
    before = leftovers(small_disk.directory)
    with pytest.raises(errors.OutputUnwritable, match="No space left"):
        convert(request)
    assert request.output.read_text() == "the old bundle"
    assert leftovers(small_disk.directory) == before


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
