"""The int8 artifact as a whole: searched, softened where it must be, stable where it can be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from converter.canonical import canonicalise
from converter.convert import convert
from converter.errors import GateFailed
from converter.int8 import Int8Model, Int8Workshop
from converter.quantisation.search import PLAIN
from converter.samples import Samples, read_samples
from converter.source import read_source
from model.archive import open_bundle
from model.chunks import cut
from model.golden import run_golden
from model.golden_file import decode_golden
from model.runtimes.choice import open_session
from tests.converter import models
from tests.converter.conftest import DIGITS, Inputs


def silent(share: float) -> None:
    """Nobody listens."""


def workshop(path: Path, calibration: Samples, work: Path) -> Int8Workshop:
    source = read_source(path)
    return Int8Workshop(canonicalise(source, work), calibration, source.batch, work, silent)


def test_without_a_search_the_model_is_the_plain_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = read_source(models.save(tmp_path / "m.onnx", models.classifier()))
    model, given = canonicalise(source, tmp_path), Samples("c", {"image": models.images(40)})
    quick = Int8Workshop(model, given, -1, tmp_path, silent, searching=False).make(silent)
    monkeypatch.setattr("converter.quantisation.search.good_enough", lambda score: True)
    searched = Int8Workshop(model, given, -1, tmp_path, silent).make(silent)
    assert quick.recipe == searched.recipe == PLAIN
    assert quick.candidates == ()
    assert quick.data == searched.data


def stubborn(extra: int) -> onnx.ModelProto:
    """The classifier, one channel 1e5 times as large as the others, behind a bound that lets no
    factor pass; and so many layers more that change nothing."""
    made = models.classifier(norm=False)
    scaled = {"c1.w": np.s_[0], "c2.w": np.s_[:, 0]}
    for (name, part), factor in zip(scaled.items(), (1e5, 1e-5), strict=True):
        values = next(t for t in made.graph.initializer if t.name == name)
        array = numpy_helper.to_array(values).copy()
        array[part] *= np.float32(factor)
        models.replace_weight(made, name, array)
    relu = next(node for node in made.graph.node if node.name == "r1")
    relu.op_type = "Clip"
    relu.input.extend(["low", "high"])
    made.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value, np.float32), name)
        for name, value in (("low", 1e-30), ("high", 1e30))
    )
    pool = next(node for node in made.graph.node if node.name == "p")
    place, last = list(made.graph.node).index(pool), "r2"
    for i in range(extra):
        name = f"same{i}"
        made.graph.initializer.append(
            numpy_helper.from_array(np.eye(12, dtype=np.float32).reshape(12, 12, 1, 1), name)
        )
        made.graph.node.insert(place + i, helper.make_node("Conv", [last, name], [f"s{i}"]))
        last = f"s{i}"
    next(node for node in made.graph.node if node.name == "p").input[0] = last
    return made


# Mixed precision, on the whole way


def test_the_layers_around_a_spoiled_tensor_stay_float(small: Inputs) -> None:
    models.save(small.model, stubborn(extra=4))
    found = convert(small.request())
    assert found.report.gate.passed
    kept = [layer.name for layer in found.report.variants[0].layers if not layer.integer]
    assert len(kept) == 2
    fusion = found.report.variants[0].fusion
    assert fusion is not None
    assert (fusion.integer, fusion.floating) == (5, 2)
    assert fusion.left_float == kept
    assert any("mixed precision" in note for note in found.report.quantiser.notes)


def test_without_a_search_the_same_model_fails(small: Inputs) -> None:
    models.save(small.model, stubborn(extra=4))
    with pytest.raises(GateFailed):
        convert(small.request(search=False))


def test_a_model_that_would_be_half_float_fails_the_gate(small: Inputs) -> None:
    models.save(small.model, stubborn(extra=0))
    with pytest.raises(GateFailed):
        convert(small.request())


def test_softening_is_the_same_each_time(small: Inputs, tmp_path: Path) -> None:
    models.save(small.model, stubborn(extra=4))
    one = convert(small.request(output=tmp_path / "one.bundle"))
    two = convert(small.request(output=tmp_path / "two.bundle"))
    assert one.path.read_bytes() == two.path.read_bytes()


# What is reported


def test_candidates_layers_and_coverage_are_in_the_report(small: Inputs) -> None:
    report = convert(small.request()).report
    assert sum(candidate.chosen for candidate in report.candidates) == 1
    assert [layer.op for layer in report.variants[0].layers] == ["Conv", "Conv", "Gemm"]
    (covered,) = report.coverage
    assert covered.tensor == "image"
    assert 0 <= covered.outside < 1
    confusion = report.variants[0].confusion
    assert confusion is not None
    assert sum(cell.count for cell in confusion.cells) == 60


def test_a_plain_conversion_tries_nothing(small: Inputs) -> None:
    report = convert(small.request(search=False)).report
    assert report.candidates == []
    assert report.quantiser.ranges == "minimum and maximum"


def test_a_model_for_one_sample_a_call_is_made_when_asked(small: Inputs) -> None:
    found = convert(small.request(fixed_batch=True))
    (variant,) = found.manifest.variants
    assert [spec.shape[0] for spec in (*variant.inputs, *variant.outputs)] == [1, 1]
    with open_bundle(found.path) as bundle:
        data = bundle.read(variant.model)
    image = models.images(1, seed=77)
    assert models.run(data, image=image)[0].shape == (1, models.CLASSES)


# Integers at the boundary


def test_integer_inputs_and_outputs_cost_no_accuracy(small: Inputs, tmp_path: Path) -> None:
    plain = convert(small.request(output=tmp_path / "plain.bundle"))
    found = convert(small.request(integer_io=True))
    assert found.report.figures.accuracy == plain.report.figures.accuracy
    (variant,) = found.manifest.variants
    for spec in (*variant.inputs, *variant.outputs):
        assert spec.dtype == "uint8"
        assert spec.quantisation is not None


def test_a_device_feeds_floats_to_integer_inputs(small: Inputs, tmp_path: Path) -> None:
    found = convert(small.request(integer_io=True))
    with open_bundle(found.path) as bundle:
        (variant,) = bundle.manifest.variants
        path = tmp_path / "model.onnx"
        path.write_bytes(bundle.read(variant.model))
        golden = decode_golden(bundle.read(variant.golden))
    session = open_session(variant, path)
    assert run_golden(session, golden).passed
    assert golden.tolerance_abs < 0.11  # of probabilities; in steps it would be 25 and no bound
    images = models.images(25, seed=31)
    (scores,) = session.infer({"image": images}).values()
    assert scores.dtype == np.uint8
    assert (scores.argmax(axis=1) == models.kinds(25)).mean() > 0.95


# Stability


@pytest.mark.parametrize("name", ["digits-1.onnx", "digits-2.onnx"])
def test_digits_need_no_search(digits: Inputs, tmp_path: Path, name: str) -> None:
    source = read_source(DIGITS / name)
    calibration = read_samples(digits.calib, source.inputs)
    made = workshop(DIGITS / name, calibration, tmp_path).make(silent)
    assert made.recipe == PLAIN
    assert len(made.candidates) == 1


def test_a_retrained_last_layer_leaves_most_chunks(digits: Inputs, tmp_path: Path) -> None:
    one, two = (
        _shipped(digits, DIGITS / f"digits-{i}.onnx", tmp_path / f"{i}.bundle") for i in (1, 2)
    )
    known = {bytes(chunk) for chunk in cut(one)}
    new = sum(len(chunk) for chunk in cut(two) if bytes(chunk) not in known)
    assert new <= 0.15 * len(two)


def test_a_retrained_last_layer_leaves_equalised_layers_where_they_are(small: Inputs) -> None:
    first = models.classifier(imbalance=1e5)
    second = models.classifier(imbalance=1e5)
    weights = next(t for t in second.graph.initializer if t.name == "d.w")
    noise = models.rng(5).normal(0, 0.05, (12, models.CLASSES)).astype(np.float32)
    models.replace_weight(second, "d.w", numpy_helper.to_array(weights) + noise)
    made = []
    for model in (first, second):
        models.save(small.model, model)
        calibration = Samples("c", {"image": models.images(80, seed=5)})
        made.append(workshop(small.model, calibration, small.folder).make(silent))
    assert made[0].recipe == made[1].recipe != PLAIN
    assert _until_the_head(made[0]) == _until_the_head(made[1])


def _shipped(digits: Inputs, model: Path, output: Path) -> bytes:
    found = convert(digits.request(model=model, output=output))
    with open_bundle(output) as bundle:
        return bundle.read(found.manifest.variants[0].model)


def _until_the_head(made: Int8Model) -> dict[str, bytes]:
    """All weights that stand before the last layer's, by name."""
    graph = onnx.load_from_string(made.data).graph
    head = next(node for node in graph.node if node.op_type == "Gemm")
    makers = {name: node for node in graph.node for name in node.output}
    own = {name for tensor in head.input[1:] for name in makers[tensor].input}
    return {t.name: t.raw_data for t in graph.initializer if t.name not in own}
