"""ONNX models through the real onnxruntime: right answers, and named errors for the rest."""

from __future__ import annotations

import threading
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from contract.manifest import TensorSpec
from model.errors import InferenceFailed, InvalidInput, ModelLoadFailed, RuntimeUnavailable
from model.runtimes import Session, open_session
from tests.model.builders import IMAGE, SCORES, images, linear_onnx, linear_session, variant


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return linear_session(tmp_path)


def _weights() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    model = onnx.load_from_string(linear_onnx())
    return onnx.numpy_helper.to_array(model.graph.initializer[0])


def _gather(directory: Path) -> Session:
    """i int64 [N] picks from a table of 3: an index out of range fails while it runs."""
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "i"], ["y"])],
        "gather",
        [helper.make_tensor_value_info("i", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor("table", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = directory / "gather.onnx"
    path.write_bytes(model.SerializeToString())
    inputs = [TensorSpec(name="i", dtype="int64", shape=[-1])]
    outputs = [TensorSpec(name="y", dtype="float32", shape=[-1])]
    return open_session(variant(inputs=inputs, outputs=outputs), path)


def test_answers_are_the_models(session: Session) -> None:
    batch = images(5)
    found = session.infer({"image": batch})
    assert found.keys() == {"scores"}
    np.testing.assert_allclose(found["scores"], batch.reshape(5, 64) @ _weights(), atol=1e-4)


def test_any_batch_size_runs(session: Session) -> None:
    for rows in (1, 2, 17):
        assert session.infer({"image": images(rows)})["scores"].shape == (rows, 10)


def test_its_tensors_are_the_manifests(session: Session) -> None:
    assert (session.inputs, session.outputs) == ([IMAGE], [SCORES])


def test_inputs_that_do_not_fit_never_reach_the_runtime(session: Session) -> None:
    with pytest.raises(InvalidInput, match="missing"):
        session.infer({})
    with pytest.raises(InvalidInput, match="shape"):
        session.infer({"image": images(1)[..., :4]})


def test_a_failing_run_is_an_inference_failed_and_the_next_one_works(tmp_path: Path) -> None:
    session = _gather(tmp_path)
    with pytest.raises(InferenceFailed, match="onnxruntime"):
        session.infer({"i": np.array([99])})
    assert session.infer({"i": np.array([2])})["y"].tolist() == [3.0]


def test_threads_may_run_at_once(session: Session) -> None:
    batch = images(3)
    wanted = session.infer({"image": batch})["scores"]
    wrong: list[int] = []

    def run(index: int) -> None:
        for _ in range(50):
            if not np.array_equal(session.infer({"image": batch})["scores"], wanted):
                wrong.append(index)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_closed_session_fails_and_may_be_closed_again(session: Session) -> None:
    session.close()
    session.close()
    with pytest.raises(InferenceFailed, match="closed"):
        session.infer({"image": images(1)})


@pytest.mark.parametrize("data", [b"", b"not a model", linear_onnx()[:200]])
def test_a_broken_file_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelLoadFailed, match=r"model\.onnx|the model's"):
        open_session(variant(), path)


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadFailed, match=r"none\.onnx"):
        open_session(variant(), tmp_path / "none.onnx")


@pytest.mark.parametrize(
    ("side", "change", "message"),
    [
        ("inputs", {"name": "other"}, r"inputs are \['image'\]; must be \['other'\]"),
        ("inputs", {"dtype": "uint8"}, "input image: dtype float32; must be uint8"),
        ("inputs", {"shape": [-1, 1, 9, 9]}, "input image: shape"),
        ("inputs", {"shape": [-1, 64]}, "input image: shape"),
        ("outputs", {"name": "other"}, r"outputs are \['scores'\]"),
        ("outputs", {"shape": [-1, 9]}, "output scores: shape"),
    ],
)
def test_a_model_that_is_not_the_manifests_is_refused(
    tmp_path: Path, side: str, change: dict[str, object], message: str
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(linear_onnx())
    spec = msgspec.structs.replace({"inputs": IMAGE, "outputs": SCORES}[side], **change)
    described = msgspec.structs.replace(variant(), **{side: [spec]})
    with pytest.raises(ModelLoadFailed, match=message):
        open_session(described, path)


def test_an_accelerator_that_is_not_here_is_said_to_be_missing(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(linear_onnx())
    with pytest.raises(RuntimeUnavailable, match="CUDAExecutionProvider"):
        open_session(variant(accelerators=["cuda"]), path)
