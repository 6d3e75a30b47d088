"""TensorFlow Lite models through the real LiteRT."""

from __future__ import annotations

import threading
from pathlib import Path

import msgspec
import numpy as np
import pytest

from model.errors import InferenceFailed, InvalidInput, ModelLoadFailed
from model.golden import GoldenSamples, decode_golden, encode_golden, run_golden
from model.runtimes import Session, open_session
from tests.model.builders import dense_tflite, dense_variant, rng

WEIGHTS = np.array([[1, 2, 3, 4], [-1, 0, 1, 2], [5, 5, -5, -5]])


@pytest.fixture
def session(tmp_path: Path) -> Session:
    path = tmp_path / "dense.tflite"
    path.write_bytes(dense_tflite(WEIGHTS))
    return open_session(dense_variant(), path)


def _x(*rows: list[int]) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.int8]]]:
    return {"x": np.array(rows, np.int8)}


def test_answers_are_the_models(session: Session) -> None:
    # y = W (0.5 x), in steps of 1.
    assert session.infer(_x([2, 4, 6, 8]))["y"].tolist() == [[30, 10, -20]]


def test_any_batch_size_runs_in_any_order(session: Session) -> None:
    for rows in (1, 3, 3, 1, 8):
        found = session.infer(_x(*[[2, 0, 0, 0]] * rows))["y"]
        assert found.tolist() == [[1, -1, 5]] * rows


def test_floats_are_quantised_by_the_spec(session: Session) -> None:
    floats = {"x": np.array([[1.0, 2.0, 3.0, 4.0]], np.float32)}
    assert session.infer(floats)["y"].tolist() == [[30, 10, -20]]


def test_the_answer_is_the_callers_own(session: Session) -> None:
    first = session.infer(_x([2, 0, 0, 0]))["y"]
    session.infer(_x([0, 0, 0, 0]))
    assert first.tolist() == [[1, -1, 5]]


def test_inputs_that_do_not_fit_never_reach_the_runtime(session: Session) -> None:
    with pytest.raises(InvalidInput, match="shape"):
        session.infer(_x([1, 2, 3]))
    assert session.infer(_x([2, 0, 0, 0]))["y"].tolist() == [[1, -1, 5]]


def test_threads_wait_for_each_other(session: Session) -> None:
    wrong: list[int] = []

    def run(rows: int) -> None:
        for _ in range(50):
            if session.infer(_x(*[[2, 0, 0, 0]] * rows))["y"].tolist() != [[1, -1, 5]] * rows:
                wrong.append(rows)

    threads = [threading.Thread(target=run, args=(i + 1,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_closed_session_fails(session: Session) -> None:
    session.close()
    with pytest.raises(InferenceFailed, match="closed"):
        session.infer(_x([1, 2, 3, 4]))


@pytest.mark.parametrize("data", [b"", b"not a model at all", dense_tflite(WEIGHTS)[:40]])
def test_a_broken_file_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "dense.tflite"
    path.write_bytes(data)
    with pytest.raises(ModelLoadFailed, match="LiteRT"):
        open_session(dense_variant(), path)


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadFailed, match=r"none\.tflite"):
        open_session(dense_variant(), tmp_path / "none.tflite")


def test_a_model_that_is_not_the_manifests_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "dense.tflite"
    path.write_bytes(dense_tflite(WEIGHTS))
    with pytest.raises(ModelLoadFailed, match="input x: shape"):
        open_session(dense_variant(columns=5), path)
    floats = msgspec.structs.replace(dense_variant().inputs[0], dtype="float32")
    described = msgspec.structs.replace(dense_variant(), inputs=[floats])
    with pytest.raises(ModelLoadFailed, match="dtype int8; must be float32"):
        open_session(described, path)


def test_golden_samples_of_a_quantised_model_pass(session: Session) -> None:
    x = rng().integers(-20, 20, (16, 4)).astype(np.int8)
    golden = GoldenSamples({"x": x}, session.infer({"x": x}), 1.0, 0.9)
    result = run_golden(session, decode_golden(encode_golden(golden)))
    assert result.passed
    assert result.samples == 16
