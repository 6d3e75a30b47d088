"""The last look: finished variants through the device's own code, and artifacts of every kind."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from contract.manifest import Variant
from converter import errors
from converter.bundle import Artifact, build_variant
from converter.samples import Samples
from converter.tflite.int8 import make_tflite_int8
from converter.tflite.runner import TfliteRunner
from converter.tflite.source import check_tflite
from converter.verify import verify
from model.golden import decode_golden
from tests.converter import models
from tests.converter.tflite import models as tflite_models

Built = tuple[Variant, dict[str, bytes]]
ONNX = models.classifier().SerializeToString()
IMAGES = Samples("calib", {"image": models.images(20)})


def built(integer_io: bool = False, batch: int = -1) -> Built:
    source = check_tflite(tflite_models.classifier(batch), "digits.tflite")
    calibration = tflite_models.calibration().take(slice(0, 60))
    made = make_tflite_int8(source, calibration, lambda share: None, integer_io=integer_io)
    runner = TfliteRunner(made.data, batch)
    artifact = Artifact(
        "tflite-int8",
        made.data,
        runner.run(calibration),
        0.1,
        {},
        runtime="litert",
        inputs=tuple(runner.inputs),
        outputs=tuple(runner.output_specs),
    )
    return build_variant(artifact, calibration, source.inputs, ())


def onnx_built(accelerators: tuple[str, ...] = ()) -> Built:
    from converter.sessions import Runner
    from tests.model.builders import IMAGE

    answers = Runner(ONNX).run(IMAGES)
    artifact = Artifact("onnx-fp16", ONNX, answers, 0.01, {}, accelerators=accelerators)
    return build_variant(artifact, IMAGES, [IMAGE], ())


@pytest.mark.parametrize("integer_io", [False, True])
@pytest.mark.parametrize("batch", [-1, 1])
def test_a_tflite_variant_passes_as_on_a_device(integer_io: bool, batch: int) -> None:
    variant, files = built(integer_io, batch)
    verify(variant, files)
    assert variant.runtime == "litert"
    assert variant.model.path == "tflite-int8/model.tflite"
    assert variant.requires.min_runtime == "2.1"


def test_golden_samples_of_an_integer_boundary_are_integers() -> None:
    variant, files = built(integer_io=True)
    golden = decode_golden(files[variant.golden.path])
    assert golden.inputs["image"].dtype == np.int8
    assert golden.outputs["scores"].dtype == np.int8
    assert variant.inputs[0].quantisation is not None


def test_a_variant_for_cuda_is_run_on_the_cpu() -> None:
    variant, files = onnx_built(("cuda",))
    assert variant.requires.accelerators == ["cuda"]
    verify(variant, files)


def test_another_model_than_was_measured_is_found_out() -> None:
    variant, files = onnx_built()
    files[variant.model.path] = models.classifier(seed=9).SerializeToString()
    with pytest.raises(errors.VerificationFailed, match="golden samples"):
        verify(variant, files)


def test_other_tensors_than_the_manifests_are_found_out() -> None:
    variant, files = onnx_built()
    wrong = [msgspec.structs.replace(variant.inputs[0], name="picture")]
    with pytest.raises(errors.VerificationFailed, match="picture"):
        verify(msgspec.structs.replace(variant, inputs=wrong), files)


def test_a_file_that_the_runtime_refuses_is_found_out() -> None:
    variant, files = built()
    files[variant.model.path] = files[variant.model.path][:3000]
    with pytest.raises(errors.VerificationFailed, match="LiteRT"):
        verify(variant, files)
