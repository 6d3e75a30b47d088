"""TorchScript and exported programs become float ONNX, and exported programs TFLite too."""

from __future__ import annotations

import io
import json
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest

from converter import errors
from converter.convert import convert
from converter.frontends.opening import open_source
from converter.frontends.sources import InputShape, SourceOptions, Sources
from converter.samples import Samples
from converter.sessions import Runner
from converter.tflite.runner import TfliteRunner
from tests.heavy.digits import images, request

pytestmark = pytest.mark.skipif(
    find_spec("litert_torch") is None, reason="runs in .make/heavy-torch: make test-heavy"
)
FORMS = ("traced.pt", "scripted.pt", "dynamic.pt2", "fixed.pt2")
KNOWN = SourceOptions(shapes={"image": InputShape("float32", (1, 8, 8))})


@pytest.fixture(scope="session")
def opened(saved: Path) -> dict[str, Sources]:
    return {name: open_source(saved / name, KNOWN) for name in FORMS}


@pytest.mark.parametrize("name", FORMS)
def test_the_onnx_model_is_right_in_batches(name: str, opened: dict[str, Sources]) -> None:
    shown, kinds = images(100, 9)
    data = opened[name].onnx
    assert data is not None
    model = onnx.load_from_string(data)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    batch = 1 if name == "fixed.pt2" else -1
    (answers,) = Runner(data, batch).run(Samples("test", {"image": shown[:, np.newaxis]})).values()
    assert (answers.argmax(axis=1) == kinds).mean() > 0.95


def test_every_form_of_the_network_is_the_same_onnx_model(opened: dict[str, Sources]) -> None:
    assert len({opened[name].onnx for name in FORMS if name != "fixed.pt2"}) == 1


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", ["dynamic.pt2", "fixed.pt2"])
def test_an_exported_program_becomes_tflite(name: str, saved: Path) -> None:
    made = open_source(saved / name, SourceOptions(tflite=True))
    shown, _ = images(20, 9)
    samples = Samples("test", {"image": shown[:, np.newaxis]})
    assert made.tflite is not None
    assert made.onnx is not None
    assert [(spec.name, spec.shape) for spec in made.tflite.inputs] == [("image", [1, 1, 8, 8])]
    (one,) = TfliteRunner(made.tflite.data, 1).run(samples).values()
    (other,) = Runner(made.onnx, 1).run(samples).values()
    assert np.abs(one - other).max() < 1e-4


def test_a_fixed_batch_of_several_is_refused(saved: Path) -> None:
    with pytest.raises(errors.UnsupportedTensor, match=r"four\.pt2.*batch, dynamic or 1"):
        open_source(saved / "four.pt2", SourceOptions(tflite=True))


def test_torchscript_takes_its_shapes_from_the_calibration_file(
    saved: Path, tmp_path: Path
) -> None:
    made = convert(request(saved / "traced.pt", tmp_path, 1))
    assert made.manifest.gate.passed
    assert made.manifest.source.format == "torchscript"


def test_torchscript_without_shapes(saved: Path) -> None:
    with pytest.raises(errors.ShapeUnknown, match=r"inputs \['image'\]; name the calibration"):
        open_source(saved / "traced.pt", SourceOptions())


@pytest.mark.parametrize("name", ["weights.pt", "eager.pt"])
def test_a_checkpoint_is_refused_without_reading_its_pickle(name: str, saved: Path) -> None:
    with pytest.raises(errors.UnknownFormat, match=r"checkpoint.*torch\.export\.save"):
        open_source(saved / name, KNOWN)


def test_an_operator_without_an_onnx_form(saved: Path) -> None:
    with pytest.raises((errors.UnsupportedOperator, errors.FrontendFailed), match=r"foreign\.pt"):
        open_source(saved / "foreign.pt", KNOWN)


@pytest.mark.parametrize("name", ["traced.pt", "dynamic.pt2"])
def test_a_truncated_file(name: str, saved: Path, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes((saved / name).read_bytes()[:-500])
    with pytest.raises(errors.SourceDamaged, match=name):
        open_source(path, KNOWN)


def test_a_pickle_inside_of_an_exported_program_is_not_read(saved: Path, tmp_path: Path) -> None:
    """torch.export.load would hand a weight that is marked so to a full unpickler."""
    path, ran = tmp_path / "evil.pt2", tmp_path / "ran"
    with zipfile.ZipFile(saved / "fixed.pt2") as source, zipfile.ZipFile(path, "w") as target:
        for entry in source.infolist():
            target.writestr(entry, _poisoned(entry.filename, source.read(entry), ran))
    with pytest.raises(errors.PickleNotTrusted, match="--trust-pickle"):
        open_source(path, KNOWN)
    assert not ran.exists()


def test_a_pickle_in_the_example_inputs_is_not_read(saved: Path, tmp_path: Path) -> None:
    path, ran = tmp_path / "evil.pt2", tmp_path / "ran"
    with zipfile.ZipFile(saved / "fixed.pt2") as source, zipfile.ZipFile(path, "w") as target:
        for entry in source.infolist():
            data = source.read(entry)
            if "sample_inputs" in entry.filename:
                data = _pickle(ran)
            target.writestr(entry, data)
    with pytest.raises((errors.PickleNotTrusted, errors.SourceDamaged)):
        open_source(path, KNOWN)
    assert not ran.exists()


def _poisoned(name: str, data: bytes, ran: Path) -> bytes:
    if name.endswith("weights_config.json"):
        config = json.loads(data)
        for entry in config["config"].values():
            entry["use_pickle"] = True
        return json.dumps(config).encode()
    return _pickle(ran) if "/weights/weight_" in name else data


def _pickle(ran: Path) -> bytes:
    import torch

    class Witness:
        def __reduce__(self) -> tuple[object, tuple[str, ...]]:
            import os

            return os.mkdir, (str(ran),)

    buffer = io.BytesIO()
    torch.save({"weight": Witness()}, buffer)
    return buffer.getvalue()
