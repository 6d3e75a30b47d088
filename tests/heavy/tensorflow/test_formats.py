"""SavedModel, .keras and .h5 (new and old) become float ONNX and TFLite, the same every time."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest

from converter import errors
from converter.convert import convert
from converter.frontends.isolation import Limits, run_job
from converter.frontends.opening import open_source
from converter.frontends.sources import SourceOptions, Sources
from converter.samples import Samples
from converter.sessions import Runner
from converter.tflite.runner import TfliteRunner
from tests.heavy.digits import images, request

pytestmark = pytest.mark.skipif(
    find_spec("tensorflow") is None, reason="runs in .make/heavy-tf: make test-heavy"
)
FORMS = ("exported", "new.keras", "new.h5", "old.h5")
PLAIN = SourceOptions()
KWS = os.environ.get("OUTRIDER_KWS_DATA")


@pytest.fixture(scope="session")
def opened(saved: Path) -> dict[str, Sources]:
    return {name: open_source(saved / name, PLAIN) for name in FORMS}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", FORMS)
def test_both_forms_answer_alike_and_rightly(name: str, opened: dict[str, Sources]) -> None:
    made, (shown, kinds) = opened[name], images(100, 9)
    assert made.onnx is not None
    assert made.tflite is not None
    samples = Samples("test", {"image": shown[..., np.newaxis]})
    (one,) = Runner(made.onnx).run(samples).values()
    (other,) = TfliteRunner(made.tflite.data).run(samples).values()
    assert np.abs(one - other).max() < 1e-4
    assert (one.argmax(axis=1) == kinds).mean() > 0.95


@pytest.mark.parametrize("name", FORMS)
def test_the_boundary_keeps_its_names_and_layout(name: str, opened: dict[str, Sources]) -> None:
    made = opened[name]
    graph = onnx.load_from_string(made.onnx or b"").graph
    assert [value.name for value in graph.input] == ["image"]
    assert made.tflite is not None
    assert [(spec.name, spec.shape) for spec in made.tflite.inputs] == [("image", [-1, 8, 8, 1])]


def test_opset_and_inner_names_are_fixed(opened: dict[str, Sources]) -> None:
    model = onnx.load_from_string(opened["exported"].onnx or b"")
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    assert model.ir_version <= 8
    assert [node.name for node in model.graph.node] == [
        f"n{i}" for i in range(len(model.graph.node))
    ]


def test_the_same_file_gives_the_same_bytes(saved: Path, opened: dict[str, Sources]) -> None:
    again = open_source(saved / "exported", PLAIN)
    assert again.onnx == opened["exported"].onnx
    assert again.tflite is not None
    assert opened["exported"].tflite is not None
    assert again.tflite.data == opened["exported"].tflite.data


def test_an_old_file_is_read_by_keras_2_and_says_so(opened: dict[str, Sources]) -> None:
    assert any("Keras 2" in note for note in opened["old.h5"].notes)
    assert opened["new.h5"].notes == ()


def test_a_keras_file_becomes_a_bundle(saved: Path, tmp_path: Path) -> None:
    made = convert(request(saved / "new.keras", tmp_path, -1))
    assert made.manifest.gate.passed
    assert made.manifest.source.format == "keras"
    assert made.manifest.source.length == (saved / "new.keras").stat().st_size


@pytest.mark.parametrize("name", ["lambda.keras", "lambda.h5"])
def test_a_lambda_layer_is_code_and_needs_the_flag(name: str, saved: Path) -> None:
    with pytest.raises(errors.PickleNotTrusted, match=r"Lambda layer.*--trust-pickle"):
        open_source(saved / name, PLAIN)


def test_weights_without_the_network(saved: Path) -> None:
    with pytest.raises(errors.UnknownFormat, match=r"bare\.weights\.h5: holds weights"):
        open_source(saved / "bare.weights.h5", PLAIN)


def test_an_operator_that_no_device_has(saved: Path) -> None:
    with pytest.raises((errors.UnsupportedOperator, errors.FrontendFailed), match="foreign"):
        open_source(saved / "foreign", PLAIN)


@pytest.mark.parametrize("name", ["new.keras", "new.h5"])
def test_a_truncated_file(name: str, saved: Path, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes((saved / name).read_bytes()[:-2000])
    with pytest.raises(errors.SourceDamaged, match=name):
        open_source(path, PLAIN)


@pytest.mark.parametrize("part", ["saved_model.pb", "variables/variables.data-00000-of-00001"])
def test_a_truncated_saved_model(part: str, saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cut"
    shutil.copytree(saved / "exported", folder)
    (folder / part).write_bytes((folder / part).read_bytes()[:-100])
    with pytest.raises((errors.SourceDamaged, errors.FrontendFailed), match="cut"):
        open_source(folder, PLAIN)


def test_too_little_memory_is_an_error_with_the_last_words(saved: Path, tmp_path: Path) -> None:
    with pytest.raises((errors.FrontendCrashed, errors.FrontendFailed, errors.ExtraMissing)):
        run_job(
            "savedmodel", saved / "exported", tmp_path, Limits(100, 200 << 20), format="savedmodel"
        )


def test_too_little_time(saved: Path) -> None:
    with pytest.raises(errors.FrontendTimedOut, match=r"no result after 0\.5 s.*--source-timeout"):
        open_source(saved / "exported", SourceOptions(timeout_s=0.5))


@pytest.mark.skipif(KWS is None, reason="OUTRIDER_KWS_DATA is not set")
def test_keyword_spotting_from_its_saved_model() -> None:
    made = open_source(Path(str(KWS)) / "saved_model", PLAIN)
    with np.load(Path(str(KWS)) / "samples.npz", allow_pickle=False) as file:
        features = (file["features_int8"].astype(np.float32) - 83) * np.float32(0.5847029089927673)
        labels = file["labels"]
    samples = Samples("kws", {"input_1": features[..., np.newaxis]})
    assert made.onnx is not None
    assert made.tflite is not None
    (one,) = Runner(made.onnx).run(samples).values()
    (other,) = TfliteRunner(made.tflite.data).run(samples).values()
    reference = Path(str(KWS)) / "float32.onnx"
    (wanted,) = Runner(reference.read_bytes()).run(samples).values()
    assert np.abs(one - wanted).max() < 1e-4
    assert np.abs(other - wanted).max() < 1e-4
    assert (one.argmax(axis=1) == labels).mean() >= 0.912
