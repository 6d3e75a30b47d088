"""int8 .tflite models out of TensorFlow's, as the runtime of 32-bit boards sees them.

tflite-runtime needs numpy 1, so it runs in an environment of its own, as a process.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from converter.convert import convert
from converter.frontends.isolation import ROOT
from converter.frontends.opening import open_source
from converter.frontends.sources import SourceOptions
from converter.request import ConvertRequest
from converter.samples import Samples
from converter.tflite.int8 import make_tflite_int8
from converter.tflite.runner import TfliteRunner
from converter.tflite.source import TfliteModel
from model.archive import open_bundle
from tests.heavy.digits import images, request

OLD = ROOT / ".make" / "heavy-tflite" / "bin" / "python"
KWS = os.environ.get("OUTRIDER_KWS_DATA")
CALIBRATION = 100
pytestmark = pytest.mark.skipif(
    find_spec("tensorflow") is None, reason="runs in .make/heavy-tf: make test-heavy"
)
needs_old = pytest.mark.skipif(not OLD.exists(), reason="no .make/heavy-tflite: needs Python 3.11")
needs_kws = pytest.mark.skipif(KWS is None, reason="OUTRIDER_KWS_DATA is not set")
Array = NDArray[np.float32]

RUN = """
import sys
import numpy as np
from tflite_runtime.interpreter import Interpreter, OpResolverType
model, samples, answers = sys.argv[1:]
kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
run = Interpreter(model_path=model, num_threads=1, experimental_op_resolver_type=kernels)
(taken,), (given,) = run.get_input_details(), run.get_output_details()
values = np.load(samples)
if taken["dtype"] == np.int8:
    scale, zero = taken["quantization"]
    values = np.rint(values.astype(np.float64) / scale) + zero
    values = np.clip(values, -128, 127).astype(np.int8)
run.resize_tensor_input(taken["index"], values.shape)
run.allocate_tensors()
run.set_tensor(taken["index"], values)
run.invoke()
np.save(answers, run.get_tensor(given["index"]))
"""


def by_tflite_runtime(data: bytes, samples: Array, folder: Path) -> NDArray[np.generic]:
    """The answers of tflite-runtime 2.14's built-in kernels."""
    (folder / "model.tflite").write_bytes(data)
    np.save(folder / "samples.npy", samples)
    files = [str(folder / name) for name in ("model.tflite", "samples.npy", "answers.npy")]
    subprocess.run([str(OLD), "-c", RUN, *files], check=True, timeout=60, capture_output=True)
    found: NDArray[np.generic] = np.load(folder / "answers.npy")
    return found


def exported(saved: Path) -> TfliteModel:
    made = open_source(saved / "exported", SourceOptions(tflite=True)).tflite
    assert made is not None
    return made


def kws_samples() -> tuple[Array, NDArray[np.int64]]:
    with np.load(Path(str(KWS)) / "samples.npz", allow_pickle=False) as file:
        features = (file["features_int8"].astype(np.float32) - 83) * np.float32(0.5847029089927673)
        return features[..., np.newaxis], file["labels"]


@pytest.fixture(scope="module")
def kws_model() -> TfliteModel:
    made = open_source(Path(str(KWS)) / "saved_model", SourceOptions(tflite=True)).tflite
    assert made is not None
    return made


@needs_old
@pytest.mark.parametrize("integer_io", [False, True])
def test_tflite_runtime_gives_the_same_bits(saved: Path, tmp_path: Path, integer_io: bool) -> None:
    model = exported(saved)
    calibration = Samples("calib", {"image": images(100, 1)[0][..., np.newaxis]})
    data = make_tflite_int8(model, calibration, lambda share: None, integer_io=integer_io).data
    shown = images(200, 2)[0][..., np.newaxis]
    (ours,) = TfliteRunner(data, reference=True).run(Samples("test", {"image": shown})).values()
    np.testing.assert_array_equal(ours, by_tflite_runtime(data, shown, tmp_path))


@needs_old
@needs_kws
@pytest.mark.parametrize("integer_io", [False, True])
def test_tflite_runtime_gives_the_same_bits_for_keyword_spotting(
    kws_model: TfliteModel, tmp_path: Path, integer_io: bool
) -> None:
    features, _ = kws_samples()
    calibration = Samples("calib", {"input_1": features[:CALIBRATION]})
    data = make_tflite_int8(kws_model, calibration, lambda share: None, integer_io=integer_io).data
    (ours,) = TfliteRunner(data, reference=True).run(Samples("kws", {"input_1": features})).values()
    np.testing.assert_array_equal(ours, by_tflite_runtime(data, features, tmp_path))


@needs_kws
def test_keyword_spotting_is_as_good_and_as_small_as_promised(kws_model: TfliteModel) -> None:
    features, labels = kws_samples()
    whole = Samples("kws", {"input_1": features})
    made = make_tflite_int8(kws_model, whole.take(slice(0, CALIBRATION)), lambda share: None)
    (reference,) = TfliteRunner(kws_model.data).run(whole).values()
    (answers,) = TfliteRunner(made.data).run(whole).values()
    assert 100 * (answers.argmax(axis=1) == labels).mean() >= 91.0
    assert 100 * (answers.argmax(axis=1) == reference.argmax(axis=1)).mean() >= 98.5
    assert len(made.data) <= 35_000
    assert (made.audit.integer, made.audit.floating) == (10, 0)


@pytest.mark.timeout(240)
def test_a_saved_model_becomes_one_release_of_both_formats(saved: Path, tmp_path: Path) -> None:
    found = convert(replace(request(saved / "exported", tmp_path, 3), max_drop=3.0))
    onnx, tflite = found.manifest.variants
    assert (onnx.name, tflite.name) == ("onnx-int8", "tflite-int8")
    assert [s.name for s in onnx.inputs] == [s.name for s in tflite.inputs] == ["image"]
    assert [s.name for s in onnx.outputs] == [s.name for s in tflite.outputs]
    with open_bundle(found.path) as bundle:
        bundle.check()


@needs_kws
@pytest.mark.timeout(240)
def test_keyword_spotting_from_its_saved_model_to_a_release(tmp_path: Path) -> None:
    features, labels = kws_samples()
    np.savez(tmp_path / "calib.npz", input_1=features[:CALIBRATION])
    np.savez(tmp_path / "eval.npz", input_1=features[CALIBRATION:], labels=labels[CALIBRATION:])
    found = convert(
        ConvertRequest(
            model=Path(str(KWS)) / "saved_model",
            calib=tmp_path / "calib.npz",
            evaluation=tmp_path / "eval.npz",
            family="kws",
            version="1",
            output=tmp_path / "kws.bundle",
        )
    )
    onnx, tflite = found.manifest.variants
    assert (onnx.name, tflite.name) == ("onnx-int8", "tflite-int8")
    for variant in (onnx, tflite):
        assert variant.evidence["accuracy"] >= variant.evidence["accuracy_float32"] - 0.5
        assert variant.evidence["agreement"] >= 98.5
