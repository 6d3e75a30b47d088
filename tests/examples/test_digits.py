"""The digits example: its parts never overlap, and its committed models are what they claim."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import onnx
import pytest
from sklearn.datasets import load_digits

from examples.digits import clean, data, measure, train

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "examples" / "digits"
HEAD = {"gemm1.weight", "gemm1.bias"}
# Imports first, and takes torch away after: scikit-learn looks at `sys.modules["torch"]` itself.
TRAIN_WITHOUT_TORCH = """
import sys
from examples.digits import train
assert "torch" not in sys.modules, "importing the command line loaded torch"
sys.modules["torch"] = None
sys.exit(train.main(["--out", sys.argv[1]]))
"""


@pytest.fixture(scope="module")
def splits() -> data.Splits:
    return data.load_splits()


@pytest.fixture(scope="module")
def models() -> dict[str, bytes]:
    return {name: (DIGITS / name).read_bytes() for name in measure.MODEL_FILES}


@pytest.fixture(scope="module")
def record() -> measure.Record:
    return measure.read_record(DIGITS / measure.RECORD_FILE)


def parts(splits: data.Splits) -> list[data.Samples]:
    return [splits.train, splits.calibration, splits.evaluation, splits.live]


def weights(model: bytes) -> dict[str, bytes]:
    graph = onnx.load_from_string(model).graph
    return {weight.name: weight.SerializeToString() for weight in graph.initializer}


# The parts


def test_no_scan_is_in_two_parts_by_index(splits: data.Splits) -> None:
    for one, other in combinations(parts(splits), 2):
        assert not set(one.index.tolist()) & set(other.index.tolist())


def test_no_scan_is_in_two_parts_by_content(splits: data.Splits) -> None:
    contents = [{scan.tobytes() for scan in part.image} for part in parts(splits)]
    for one, other in combinations(contents, 2):
        assert not one & other


def test_the_parts_hold_every_scan_once(splits: data.Splits) -> None:
    together = np.concatenate([part.index for part in parts(splits)])
    assert sorted(together.tolist()) == list(range(1797))
    assert splits.sizes() == {"train": 997, "calibration": 200, "evaluation": 300, "live": 300}


def test_held_out_parts_hold_each_class_equally(splits: data.Splits) -> None:
    for part, each in [(splits.calibration, 20), (splits.evaluation, 30), (splits.live, 30)]:
        assert np.bincount(part.labels).tolist() == [each] * data.CLASSES


def test_scans_are_float32_pictures_in_0_to_1(splits: data.Splits) -> None:
    for part in parts(splits):
        assert part.image.dtype == np.float32
        assert part.image.shape == (len(part), 1, 8, 8)
        assert part.image.min() == 0.0
        assert part.image.max() == 1.0
        assert part.labels.dtype == np.int64


def test_the_cut_is_the_one_the_committed_models_were_trained_with(splits: data.Splits) -> None:
    # Frozen: another cut would put scans that the models were trained on among the live ones.
    digest = hashlib.sha256(b"".join(part.index.tobytes() for part in parts(splits))).hexdigest()
    assert digest == "39ac4d52f6e8df94d1174df8a75c00ba626ee7aea8c832b26ded43957aea409e"


def test_the_same_seed_gives_the_same_parts_and_another_seed_others(splits: data.Splits) -> None:
    again, other = data.load_splits(), data.load_splits(seed=data.SEED + 1)
    for first, second in zip(parts(splits), parts(again), strict=True):
        assert np.array_equal(first.index, second.index)
        assert np.array_equal(first.image, second.image)
    assert not np.array_equal(splits.live.index, other.live.index)


def test_another_dataset_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = load_digits()
    whole.images = whole.images[:-1]
    monkeypatch.setattr(data, "load_digits", lambda: whole)
    with pytest.raises(data.UnexpectedDatasetError, match=r"1797 scans.*\(1796, 8, 8\)"):
        data.load_splits()


# The files for the converter


def test_conversion_inputs_are_keyed_by_the_models_input(
    tmp_path: Path, splits: data.Splits
) -> None:
    calib, evaluation = data.write_conversion_inputs(tmp_path / "new")
    with np.load(calib, allow_pickle=False) as arrays:
        assert arrays.files == ["image"]
        assert np.array_equal(arrays["image"], splits.calibration.image)
    with np.load(evaluation, allow_pickle=False) as arrays:
        assert arrays.files == ["image", "labels"]
        assert np.array_equal(arrays["image"], splits.evaluation.image)
        assert np.array_equal(arrays["labels"], splits.evaluation.labels)


def test_conversion_inputs_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    first = data.write_conversion_inputs(tmp_path / "a")
    second = data.write_conversion_inputs(tmp_path / "b")
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "calib.npz"
    data.write_npz(path, {"image": np.zeros(3)})
    before = path.read_bytes()

    class Unreadable:
        def __array__(self, *_: object, **__: object) -> None:
            raise OSError("the scanner went away")

    with pytest.raises(OSError, match="scanner"):
        data.write_npz(path, {"image": Unreadable()})  # type: ignore[dict-item]  # on purpose
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# The committed models


@pytest.mark.parametrize("name", measure.MODEL_FILES)
def test_a_committed_model_reaches_its_recorded_accuracy(
    name: str, models: dict[str, bytes], record: measure.Record, splits: data.Splits
) -> None:
    recorded, measured = record.models[name], measure.measure_model(models[name], splits)
    assert measured.sha256 == recorded.sha256
    assert measured.bytes == recorded.bytes
    # One scan of 300: another processor's float rounding may tip a single close call.
    assert measured.evaluation_accuracy == pytest.approx(recorded.evaluation_accuracy, abs=0.0034)
    assert measured.live_accuracy == pytest.approx(recorded.live_accuracy, abs=0.0034)
    assert measured.live_confidence == pytest.approx(recorded.live_confidence, abs=0.001)
    assert min(recorded.evaluation_accuracy, recorded.live_accuracy) > 0.98


def test_the_record_names_the_sizes_and_seed_of_the_cut(
    record: measure.Record, splits: data.Splits
) -> None:
    assert record.splits == splits.sizes()
    assert record.seed == data.SEED
    assert record.torch == train.TORCH


def test_only_the_last_layer_differs_between_the_models(models: dict[str, bytes]) -> None:
    first, second = (weights(models[name]) for name in measure.MODEL_FILES)
    assert list(first) == list(second)
    assert {name for name in first if first[name] != second[name]} == HEAD


def test_outside_the_last_layers_weights_the_files_are_the_same_bytes(
    models: dict[str, bytes],
) -> None:
    stripped = []
    for content in models.values():
        rest, held = content, weights(content)
        for name in HEAD:
            rest = rest.replace(held[name], b"")
        stripped.append(rest)
    assert stripped[0] == stripped[1]
    assert len(set(models.values())) == 2


def test_the_models_answer_any_batch_with_probabilities(
    models: dict[str, bytes], splits: data.Splits
) -> None:
    for content in models.values():
        for count in (1, 7):
            answer = measure.probabilities(content, splits.live.image[:count])
            assert answer.shape == (count, data.CLASSES)
            assert np.allclose(answer.sum(axis=1), 1.0, atol=1e-5)


def test_the_models_load_on_older_runtimes_and_name_no_machine(models: dict[str, bytes]) -> None:
    for content in models.values():
        model = onnx.load_from_string(content)
        assert model.ir_version <= 9
        assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 17)]
        assert not model.metadata_props
        assert not model.graph.value_info
        for item in (*model.graph.node, *model.graph.initializer):
            assert not item.doc_string
            assert not item.metadata_props
        assert 100_000 < len(content) < 300_000
        names = {item.name for item in (*model.graph.node, *model.graph.initializer)}
        assert all(re.fullmatch(r"[a-z]+\d(\.(weight|bias))?", name) for name in names)


def test_the_last_layers_weights_stand_last(models: dict[str, bytes]) -> None:
    for content in models.values():
        assert list(weights(content))[-2:] == ["gemm1.weight", "gemm1.bias"]


def test_cleaning_a_clean_model_changes_no_byte(models: dict[str, bytes]) -> None:
    for content in models.values():
        assert clean.clean_model(onnx.load_from_string(content)) == content


def test_cleaning_takes_out_what_an_exporter_left(models: dict[str, bytes]) -> None:
    content = models["digits-1.onnx"]
    dirty = onnx.load_from_string(content)
    dirty.doc_string = "made in /home/somebody"
    dirty.producer_version = "9"
    dirty.graph.node[0].doc_string = "/home/somebody/net.py:12"
    dirty.graph.node[0].metadata_props.add(key="stack", value="/home/somebody/net.py:12")
    dirty.graph.initializer[0].doc_string = "/home/somebody"
    assert clean.clean_model(dirty) == content


# Training's pure parts


def test_a_record_survives_writing_and_reading(tmp_path: Path, record: measure.Record) -> None:
    path = tmp_path / measure.RECORD_FILE
    measure.write_record(path, record)
    assert measure.read_record(path) == record
    assert path.read_bytes() == (DIGITS / measure.RECORD_FILE).read_bytes()


def test_the_check_names_each_fact_that_differs(record: measure.Record) -> None:
    changed = replace(record.models["digits-2.onnx"], live_accuracy=0.5)
    fresh = replace(record, seed=1, models={**record.models, "digits-2.onnx": changed})
    assert measure.differences(record, record) == []
    assert measure.differences(record, fresh) == [
        f"seed: committed {record.seed}, now 1",
        f"digits-2.onnx: live_accuracy: committed "
        f"{record.models['digits-2.onnx'].live_accuracy}, now 0.5",
    ]


def test_the_check_passes_on_the_committed_files(
    record: measure.Record, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.report_check(DIGITS, record) == 0
    assert capsys.readouterr().out.startswith("reproduced")


def test_the_check_finds_a_file_that_is_not_the_recorded_one(
    tmp_path: Path,
    models: dict[str, bytes],
    record: measure.Record,
    capsys: pytest.CaptureFixture[str],
) -> None:
    train.write_models(tmp_path, {"digits-1.onnx": models["digits-2.onnx"]}, record)
    assert train.report_check(tmp_path, record) == 1
    said = capsys.readouterr().out
    assert "digits-1.onnx: sha256 is" in said
    assert "digits-2.onnx: absent" in said


def test_written_models_are_the_given_bytes_and_nothing_else(
    tmp_path: Path, models: dict[str, bytes], record: measure.Record
) -> None:
    train.write_models(tmp_path / "out", models, record)
    written = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert set(written) == {*measure.MODEL_FILES, measure.RECORD_FILE}
    assert measure.unlike_record(tmp_path / "out", record) == []


def test_a_check_without_a_record_fails_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main(["--check", "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"no accuracy.json in {tmp_path} to check against\n"


def test_help_needs_no_torch_and_no_working_directory(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(DIGITS / "train.py"), "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--check" in done.stdout


def test_training_without_torch_says_what_to_install_and_writes_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TRAIN_WITHOUT_TORCH, str(tmp_path / "out")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "training needs torch: pip install torch==2.13.0 onnx\n"
    assert not (tmp_path / "out").exists()


def test_the_network_compiles_on_this_python() -> None:
    source = (DIGITS / "network.py").read_text(encoding="utf-8")
    compile(source, "network.py", "exec")
