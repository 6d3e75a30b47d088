"""scikit-learn: trusted pickles only, exact conversion, and what ships instead of int8."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest

from converter import errors
from converter.convert import Converted, convert
from converter.frontends.opening import open_source
from converter.frontends.sources import SourceOptions
from converter.measurement_cache import keep
from converter.request import ConvertRequest
from model.archive import open_bundle
from model.golden import run_golden
from model.golden_file import decode_golden
from model.runtimes.choice import open_session
from tests.converter import models

pytest.importorskip("sklearn")
pytest.importorskip("skl2onnx")
import joblib  # comes with scikit-learn
from sklearn.base import clone

from tests.converter.frontends import estimators  # needs scikit-learn

TRUSTED = SourceOptions(trust_pickle=True)


class Witness:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return os.mkdir, (str(self.path),)


def request(folder: Path, kind: str, **changes: object) -> ConvertRequest:
    calib, evaluation = estimators.samples(folder)
    fields: dict[str, object] = {
        "model": estimators.dump(folder, kind),
        "calib": calib,
        "evaluation": evaluation,
        "family": "digits",
        "version": "1",
        "output": folder / "out.bundle",
        "trust_pickle": True,
    }
    return ConvertRequest(**{**fields, **changes})  # type: ignore[arg-type]  # tests pick fields


def golden_passes(made: Converted, folder: Path) -> bool:
    with open_bundle(made.path) as bundle:
        (variant,) = bundle.manifest.variants
        path = folder / "model.onnx"
        path.write_bytes(bundle.read(variant.model))
        golden = decode_golden(bundle.read(variant.golden))
    return run_golden(open_session(variant, path), golden).passed


def test_without_the_flag_nothing_is_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps(Witness(tmp_path / "ran")))
    with pytest.raises(errors.PickleNotTrusted, match=r"evil\.pkl: a pickle.*--trust-pickle"):
        open_source(path, SourceOptions())
    assert not (tmp_path / "ran").exists()


def test_with_the_flag_it_is(tmp_path: Path) -> None:
    """So that the test above would see it."""
    path = tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps(Witness(tmp_path / "ran")))
    with pytest.raises(errors.UnknownFormat, match="holds a NoneType, not an estimator"):
        open_source(path, TRUSTED)
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("kind", sorted(estimators._MADE))
def test_the_onnx_model_answers_like_the_estimator(kind: str, tmp_path: Path) -> None:
    made = open_source(estimators.dump(tmp_path, kind), TRUSTED)
    images, estimator = estimators.scans()[0], estimators.fitted(kind)
    assert made.onnx is not None
    assert made.small
    answers = models.run(made.onnx, input=images)
    ask = estimator.predict_proba if hasattr(estimator, "predict_proba") else estimator.predict
    assert len(answers) == 1
    assert np.abs(answers[0] - ask(images).reshape(answers[0].shape)).max() < 1e-4
    # What has an int8 form comes in standard operators; trees are marked as what they are.
    domains = {node.domain for node in onnx.load_from_string(made.onnx).graph.node}
    assert (made.trees is None) == (domains == {""})
    assert (made.trees is None) == (kind in ("logistic", "binary", "mlp", "ridge"))


def test_the_same_pickle_gives_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    path = estimators.dump(tmp_path, "forest")
    code = (
        "import sys, hashlib; from pathlib import Path\n"
        "from converter.frontends.opening import open_source\n"
        "from converter.frontends.sources import SourceOptions\n"
        "made = open_source(Path(sys.argv[1]), SourceOptions(trust_pickle=True))\n"
        "print(hashlib.sha256(made.onnx).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code, str(path)],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path.cwd())},
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_a_truncated_pickle_is_told_of(tmp_path: Path) -> None:
    path = estimators.dump(tmp_path, "logistic")
    path.write_bytes(path.read_bytes()[:-700])
    with pytest.raises(errors.SourceDamaged, match="not a readable pickle"):
        open_source(path, TRUSTED)


def test_an_estimator_that_was_never_fitted(tmp_path: Path) -> None:
    import joblib
    from sklearn.linear_model import LogisticRegression

    joblib.dump(LogisticRegression(), tmp_path / "raw.joblib")
    with pytest.raises(errors.UnknownFormat, match="has not been fitted"):
        open_source(tmp_path / "raw.joblib", TRUSTED)


def test_an_estimator_that_has_no_onnx_form(tmp_path: Path) -> None:
    import joblib
    from sklearn.semi_supervised import LabelPropagation

    images, classes = estimators.scans()
    joblib.dump(LabelPropagation().fit(images[:50], classes[:50]), tmp_path / "odd.joblib")
    with pytest.raises(errors.UnsupportedOperator, match="LabelPropagation"):
        open_source(tmp_path / "odd.joblib", TRUSTED)


def test_a_forest_is_shrunk_and_says_so(tmp_path: Path) -> None:
    made = convert(request(tmp_path, "forest"))
    figures, gate = made.report.figures, made.manifest.gate
    assert figures.bytes <= 0.3 * figures.bytes_float32
    assert gate.passed
    assert gate.baseline - gate.measured <= 1.0
    assert "trees have no int8 form" in gate.reason
    assert f"{figures.bytes} bytes" in gate.reason
    (variant,) = made.manifest.variants
    assert variant.name == "onnx-fp32"
    assert made.manifest.source.format == "scikit-learn"
    assert golden_passes(made, tmp_path)


def test_a_forest_calibrated_on_its_own_training_samples_still_passes_the_gate(
    tmp_path: Path,
) -> None:
    """There a handful of trees agrees with all of them; only evaluation tells."""
    wanted = request(tmp_path, "forest")
    np.savez(wanted.calib, input=estimators.scans()[0][: estimators.TRAINING])
    gate = convert(wanted).manifest.gate
    assert gate.passed
    assert gate.measured >= gate.baseline - 1.0


def test_a_tiny_network_ships_as_float_with_the_measured_reason(tmp_path: Path) -> None:
    made = convert(request(tmp_path, "mlp"))
    names = [variant.name for variant in made.manifest.variants]
    # Which one is faster is this machine's to say; the record follows the measurement.
    if names == ["onnx-fp32"]:
        assert "float32, since int8 takes" in made.manifest.gate.reason
        assert made.report.figures.agreement == 100.0
    else:
        assert made.latency.p50_ms <= made.latency.p50_ms_float32
    assert made.manifest.gate.passed
    assert golden_passes(made, tmp_path)


def test_bagged_trees_ship_whole(tmp_path: Path) -> None:
    made = convert(request(tmp_path, "bagging"))
    assert "trees have no int8 form" in made.manifest.gate.reason
    assert made.report.figures.agreement == 100.0


TINY = """
import sys
from pathlib import Path
from converter.convert import convert
from converter.request import ConvertRequest
model, calib, evaluation, output, cache = (Path(arg) for arg in sys.argv[1:])
convert(ConvertRequest(model=model, calib=calib, evaluation=evaluation, family="digits",
                       version="1", output=output, measurement_cache=cache, trust_pickle=True))
"""


@pytest.mark.parametrize(("slower", "ships"), [(3.0, "onnx-fp32"), (0.5, "onnx-int8")])
def test_a_kept_latency_decides_what_ships_and_gives_the_same_bytes(
    tmp_path: Path, slower: float, ships: str
) -> None:
    cache = tmp_path / "measurements"
    wanted = request(tmp_path, "mlp", measurement_cache=cache)
    (found,) = convert(wanted).report.measurements
    keep(cache, msgspec.structs.replace(found, p50_ms=slower * found.p50_ms_float32), anew=True)
    made = convert(wanted)
    (variant,) = made.manifest.variants
    assert variant.name == ships
    if ships == "onnx-fp32":
        assert made.manifest.gate.reason == "float32, since int8 takes 3.00 times as long"
        assert variant.evidence["p50_ms"] == found.p50_ms_float32
    # What did not ship was measured all the same, and the bundle says how.
    assert made.report.measurements[0].subject == found.subject
    for seed in ("0", "31"):
        output = tmp_path / f"{seed}.bundle"
        paths = (wanted.model, wanted.calib, wanted.evaluation, output, cache)
        subprocess.run(
            [sys.executable, "-c", TINY, *map(str, paths)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[3],
            check=True,
        )
        assert output.read_bytes() == made.path.read_bytes()
    again = tmp_path / "again.bundle"
    convert(replace(wanted, measurements=made.path, measurement_cache=None, output=again))
    assert again.read_bytes() == made.path.read_bytes()


def test_trees_have_their_latency_and_give_the_same_bytes(tmp_path: Path) -> None:
    cache = tmp_path / "measurements"
    wanted = request(tmp_path, "bagging", measurement_cache=cache)
    made = convert(wanted)
    (variant,) = made.report.variants
    assert variant.latency is not None
    assert variant.latency.p50_ms == made.latency.p50_ms
    again = convert(replace(wanted, output=tmp_path / "again.bundle"))
    assert again.path.read_bytes() == made.path.read_bytes()


WORDS = ("apple", "fig", "pear", "plum", "quince", "rowan", "sloe", "tansy", "vine", "yew")


def named_tables(folder: Path) -> dict[str, Path]:
    """A model trained on named columns and classes; its samples in other orders of the columns."""
    images, classes = estimators.scans()
    names = [f"pixel {place}" for place in range(images.shape[1])]
    model = clone(estimators.fitted("logistic"))
    model.fit(images[: estimators.TRAINING], np.array(WORDS)[classes[: estimators.TRAINING]])
    model[0].feature_names_in_ = np.array(names, object)  # as fit() does of a data frame
    joblib.dump(model, folder / "fruit.joblib")
    paths = {"model": folder / "fruit.joblib"}
    ends = (("calib", estimators.TRAINING), ("evaluation", estimators.CALIBRATION))
    for seed, (part, start) in enumerate(ends):
        order = np.random.default_rng(seed).permutation(len(names))
        lines = [",".join([*(names[place] for place in order), "fruit"])]
        for image, number in zip(images[start : start + 200], classes[start:], strict=False):
            lines.append(",".join([*map(str, image[order].tolist()), WORDS[number]]))
        paths[part] = folder / f"{part}.csv"
        paths[part].write_text("\n".join(lines))
    return paths


def test_the_models_own_names_of_columns_and_classes_are_used(tmp_path: Path) -> None:
    made = convert(request(tmp_path, "logistic", **named_tables(tmp_path), label_column="fruit"))
    assert made.manifest.labels == list(WORDS)
    assert made.report.figures.accuracy is not None
    assert made.report.figures.accuracy > 90


def test_columns_that_the_model_does_not_know_are_refused(tmp_path: Path) -> None:
    paths = named_tables(tmp_path)
    text = paths["calib"].read_text().replace("pixel 7,", "pixel seven,")
    paths["calib"].write_text(text)
    with pytest.raises(errors.WrongArrays, match=r"'pixel seven' is not one of fruit\.joblib"):
        convert(request(tmp_path, "logistic", **paths, label_column="fruit"))
