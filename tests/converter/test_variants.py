"""Releases of several variants, end to end: what is in the bundle, and who gets which."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from PIL import Image

from contract.manifest import Variant
from contract.messages import Hardware
from contract.processing import ImageInput, Processing, TableInput
from contract.variants import choose_variant
from converter import convert as pipeline
from converter import errors
from converter.convert import Converted, convert
from converter.frontends.loading import open_model
from converter.request import ConvertRequest
from converter.tflite.flatbuffer import parse, values
from converter.tflite.source import check_tflite
from model.archive import open_bundle
from model.golden import run_golden
from model.golden_file import decode_golden
from model.profile import decode_profile
from model.runtimes.choice import open_session
from tests.converter import models as onnx_models
from tests.converter.conftest import Inputs
from tests.converter.tflite import models

BOTH = {"onnxruntime": "1.31.1", "litert": "2.3.0"}


def hardware(runtimes: dict[str, str], *accelerators: str) -> Hardware:
    return Hardware(
        machine="aarch64", runtimes=runtimes, accelerators=list(accelerators), memory_bytes=0
    )


def twin() -> bytes:
    """The TFLite classifier's own weights as an ONNX model of the same layout."""
    model = parse(models.classifier(), "x")
    tensors = model.subgraphs[0].tensors

    def weight(place: int, *shape: int) -> np.ndarray:
        raw = values(model, tensors[place])
        assert raw is not None
        return raw.view(np.float32).reshape(shape)

    kernel = weight(1, models.FILTERS, 3, 3, 1).transpose(0, 3, 1, 2)
    nodes = [
        helper.make_node("Transpose", ["picture"], ["first"], perm=[0, 3, 1, 2]),
        helper.make_node(
            "Conv", ["first", "k", "o"], ["conv"], strides=[2, 2], auto_pad="SAME_UPPER"
        ),
        helper.make_node("Relu", ["conv"], ["plane"]),
        helper.make_node("Transpose", ["plane"], ["last"], perm=[0, 2, 3, 1]),
        helper.make_node("Flatten", ["last"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w", "b"], ["dense"], transB=1),
        helper.make_node("Softmax", ["dense"], ["probabilities"], axis=1),
    ]
    weights = {
        "k": np.ascontiguousarray(kernel),
        "o": weight(2, models.FILTERS),
        "w": weight(7, models.CLASSES, 16 * models.FILTERS),
        "b": weight(8, models.CLASSES),
    }
    made = onnx_models.model(
        nodes,
        [onnx_models.tensor("picture", "N", 8, 8, 1)],
        [onnx_models.tensor("probabilities", "N", 10)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    data: bytes = made.SerializeToString()
    return data


def samples(folder: Path, name: str) -> tuple[Path, Path]:
    images, labels = models.digits()
    calib = onnx_models.save_samples(folder / "calib.npz", **{name: images[:300]})
    return calib, onnx_models.save_samples(
        folder / "eval.npz", **{name: images[1200:], "labels": labels[1200:]}
    )


@pytest.fixture(scope="module")
def tflite(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    """A .tflite file alone."""
    folder = tmp_path_factory.mktemp("tflite")
    path = models.save(folder / "digits.tflite", models.classifier())
    return convert(Inputs(path, *samples(folder, "image"), folder).request())


@pytest.fixture(scope="module")
def all_of_them(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    """ONNX and TFLite forms of one model, with everything that can go along."""
    folder = tmp_path_factory.mktemp("all")
    path = onnx_models.save(folder / "digits.onnx", onnx.load_from_string(twin()))
    request = Inputs(path, *samples(folder, "picture"), folder).request(
        with_cuda=True, with_float=True
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "open_model", _with_tflite)
        return convert(request)


def _with_tflite(path: Path, calib: Path, options: object) -> object:
    """As a frontend hands it over that makes both forms, without TensorFlow."""
    opened = open_model(path, calib, options)  # type: ignore[arg-type]  # handed through
    form = check_tflite(models.classifier(), "digits.tflite")
    return replace(opened, sources=replace(opened.sources, tflite=form))


def test_a_tflite_file_becomes_a_release(tflite: Converted) -> None:
    (variant,) = tflite.manifest.variants
    assert (variant.name, variant.runtime) == ("tflite-int8", "litert")
    assert tflite.manifest.source.format == "tflite"
    assert tflite.report.gate.passed
    assert tflite.report.figures.agreement >= 98
    assert tflite.report.quantiser.integer_layers == 2
    assert "ai-edge-quantizer" in tflite.manifest.produced_by
    assert len(tflite.report.candidates) == 3


def test_the_same_tflite_file_gives_the_same_bundle(tflite: Converted, tmp_path: Path) -> None:
    path = models.save(tmp_path / "digits.tflite", models.classifier())
    kept = tflite.path.parent / "measurements"
    request = Inputs(path, *samples(tmp_path, "image"), tmp_path).request(measurement_cache=kept)
    assert convert(request).manifest_digest == tflite.manifest_digest


def test_every_variant_is_timed_beside_the_float_model(all_of_them: Converted) -> None:
    for variant in all_of_them.manifest.variants:
        assert variant.evidence["p50_ms"] > 0, variant.name
        assert variant.evidence["p50_ms_float32"] > 0, variant.name
    told = {each.name: each.latency for each in all_of_them.report.variants}
    assert set(told) == {"onnx-fp16", "onnx-int8", "tflite-int8"}
    assert all(latency is not None for latency in told.values())
    runtimes = [m.subject.artifact.runtime.split()[0] for m in all_of_them.report.measurements]
    assert sorted(runtimes) == ["litert", "onnxruntime", "onnxruntime", "onnxruntime"]


def test_a_tflite_file_gets_integer_inputs_and_outputs_when_asked(tmp_path: Path) -> None:
    path = models.save(tmp_path / "digits.tflite", models.classifier())
    request = Inputs(path, *samples(tmp_path, "image"), tmp_path).request(integer_io=True)
    (variant,) = convert(request).manifest.variants
    for spec in (*variant.inputs, *variant.outputs):
        assert spec.dtype == "int8"
        assert spec.quantisation is not None
    with open_bundle(request.output) as bundle:
        golden = decode_golden(bundle.read(variant.golden))
    assert golden.tolerance_abs < 0.11  # of probabilities; in steps it would be 25 and no bound


def test_the_variants_stand_in_the_order_of_preference(all_of_them: Converted) -> None:
    names = [variant.name for variant in all_of_them.manifest.variants]
    assert names == ["onnx-fp16", "onnx-int8", "tflite-int8", "onnx-fp32"]
    reported = [variant.name for variant in all_of_them.report.variants]
    assert reported == ["onnx-fp16", "onnx-int8", "tflite-int8"]


@pytest.mark.parametrize(
    ("runtimes", "accelerators", "wanted"),
    [
        (BOTH, (), "onnx-int8"),
        (BOTH, ("cuda",), "onnx-fp16"),
        ({"litert": "2.3.0"}, (), "tflite-int8"),
        ({"tflite-runtime": "2.14.0"}, (), "tflite-int8"),
        ({"litert": "2.3.0"}, ("cuda",), "tflite-int8"),
    ],
)
def test_each_device_gets_what_it_can_run(
    all_of_them: Converted, runtimes: dict[str, str], accelerators: tuple[str, ...], wanted: str
) -> None:
    found = choose_variant(all_of_them.manifest, hardware(runtimes, *accelerators))
    assert found.name == wanted


def test_all_variants_have_one_interface(all_of_them: Converted) -> None:
    boundaries = {
        (tuple(s.name for s in (*v.inputs, *v.outputs)), v.inputs[0].dtype)
        for v in all_of_them.manifest.variants
    }
    assert boundaries == {(("picture", "probabilities"), "float32")}


def test_every_variant_was_measured_and_passes_its_own_golden_samples(
    all_of_them: Converted, tmp_path: Path
) -> None:
    with open_bundle(all_of_them.path) as bundle:
        bundle.check()
        for variant in bundle.manifest.variants:
            path = tmp_path / Path(variant.model.path).name
            path.write_bytes(bundle.read(variant.model))
            session = open_session(_anywhere(variant), path)
            assert run_golden(session, decode_golden(bundle.read(variant.golden))).passed
            assert decode_profile(bundle.read(variant.profile)).variant == variant.name
            assert variant.evidence["accuracy"] > 85


def _anywhere(variant: Variant) -> Variant:
    """Without the accelerators that this machine lacks."""
    requires = msgspec.structs.replace(variant.requires, accelerators=[])
    return msgspec.structs.replace(variant, requires=requires)


def test_a_variant_that_fails_the_gate_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = models.changed(models.classifier(), _spoil)

    def opened(path: Path, calib: Path, options: object) -> object:
        found = open_model(path, calib, options)  # type: ignore[arg-type]  # handed through
        return replace(found, sources=replace(found.sources, tflite=check_tflite(bad, "bad")))

    monkeypatch.setattr(pipeline, "open_model", opened)
    path = onnx_models.save(tmp_path / "digits.onnx", onnx.load_from_string(twin()))
    request = Inputs(path, *samples(tmp_path, "picture"), tmp_path).request()
    with pytest.raises(errors.GateFailed, match="tflite-int8: accuracy fell"):
        convert(request)
    assert not request.output.exists()


def _spoil(model: object) -> None:
    """Another network than the ONNX one: its classes are turned around."""
    buffer = model.buffers[model.subgraphs[0].tensors[8].buffer]  # type: ignore[attr-defined]  # a ModelT
    bias = np.frombuffer(bytes(buffer.data), np.float32).copy()
    bias[3] += 50
    buffer.data = np.frombuffer(bias.tobytes(), np.uint8)


@pytest.mark.parametrize("option", ["with_cuda", "with_float", "fixed_batch"])
def test_onnx_variants_of_a_tflite_file_are_refused(tmp_path: Path, option: str) -> None:
    path = models.save(tmp_path / "digits.tflite", models.classifier())
    request = Inputs(path, *samples(tmp_path, "image"), tmp_path).request(**{option: True})
    with pytest.raises(errors.NoOnnxForm, match="no ONNX form"):
        convert(request)
    assert not request.output.exists()


def test_integers_at_the_boundary_when_asked(tmp_path: Path) -> None:
    path = models.save(tmp_path / "digits.tflite", models.classifier())
    request = Inputs(path, *samples(tmp_path, "image"), tmp_path).request(integer_io=True)
    (variant,) = convert(request).manifest.variants
    for spec in (*variant.inputs, *variant.outputs):
        assert spec.dtype == "int8"
        assert spec.quantisation is not None


# Raw files and their recipe


def folder_request(folder: Path, **changes: object) -> ConvertRequest:
    """Digits as PNG files of 16 x 16 in folders named by their class."""
    images, labels = models.digits()
    for part, places in (("calib", range(80)), ("eval", range(1300, 1400))):
        for place in places:
            path = folder / part / f"digit-{labels[place]}" / f"{place}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.rint(images[place, ..., 0] * 255).astype(np.uint8)
            Image.fromarray(pixels.repeat(2, 0).repeat(2, 1)).save(path)
    recipe = ImageInput(input="image", height=8, width=8, channels="gray")
    fields: dict[str, object] = {"processing": Processing(inputs=[recipe]), "max_drop": 3.0}
    model = models.save(folder / "digits.tflite", models.classifier())
    return Inputs(model, folder / "calib", folder / "eval", folder).request(**{**fields, **changes})


def test_folders_of_images_calibrate_and_their_names_evaluate(tmp_path: Path) -> None:
    found = convert(folder_request(tmp_path))
    assert found.report.data.labelled
    assert found.report.figures.accuracy is not None
    assert found.report.figures.accuracy > 80
    assert found.manifest.labels == [f"digit-{place}" for place in range(10)]
    with open_bundle(found.path) as bundle:
        assert bundle.manifest.processing == folder_request(tmp_path).processing


def test_a_recipe_that_does_not_fit_the_model_is_refused(tmp_path: Path) -> None:
    recipe = ImageInput(input="image", height=8, width=9, channels="gray")
    request = folder_request(tmp_path, processing=Processing(inputs=[recipe]))
    with pytest.raises(errors.InvalidRequest, match=r"--processing.*\[8, 9, 1\]"):
        convert(request)


def test_a_class_that_is_missing_from_the_folders_is_found_out(tmp_path: Path) -> None:
    request = folder_request(tmp_path)
    for part in ("calib", "eval"):
        (tmp_path / part / "digit-4").rename(tmp_path / part / ".hidden")
    with pytest.raises(errors.BadLabels, match="9 label names"):
        convert(request)


def test_a_table_calibrates_and_its_label_column_evaluates(tmp_path: Path) -> None:
    images, labels = models.digits()
    columns = [f"p{place}" for place in range(64)]
    for name, places in (("calib", range(80)), ("eval", range(1300, 1400))):
        lines = [",".join([*columns, "digit"])]
        for place in places:
            cells = [repr(float(v)) for v in images[place].ravel()]
            lines.append(",".join([*cells, str(labels[place])]))
        (tmp_path / f"{name}.csv").write_text("\n".join(lines))
    drawn = np.random.default_rng(5)
    weights = {
        "w": drawn.normal(0, 0.3, (64, 32)).astype(np.float32),
        "v": drawn.normal(0, 0.3, (32, 10)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Gemm", ["row", "w"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "v"], ["y"]),
    ]
    made = onnx_models.model(
        nodes,
        [onnx_models.tensor("row", "N", 64)],
        [onnx_models.tensor("y", "N", 10)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = onnx_models.save(tmp_path / "table.onnx", made)
    recipe = TableInput(input="row", columns=columns)
    inputs = Inputs(model, tmp_path / "calib.csv", tmp_path / "eval.csv", tmp_path)
    found = convert(
        inputs.request(
            processing=Processing(inputs=[recipe]), label_column="digit", force=True, max_drop=5.0
        )
    )
    assert found.report.data.labelled
    assert found.report.data.evaluation_samples == 100
    assert found.report.figures.agreement > 90
