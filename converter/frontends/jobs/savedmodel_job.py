"""In the worker: a SavedModel folder to float TFLite, and through tf2onnx to ONNX of opset 17.

A SavedModel holds graphs and no Python, so loading it runs TensorFlow's operators only. Refuses
graphs without exactly one way in, and what needs TensorFlow's own operators at run time.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from converter.frontends.refusal import Refusal, need

OPSET = 17
DEFAULT_SIGNATURE = "serving_default"


def run(asked: Mapping[str, Any], work: Path) -> dict[str, Any]:
    """Files `model.onnx` and `model.tflite` in `work`, and what was left out."""
    return convert(Path(asked["model"]), work)


def convert(folder: Path, work: Path) -> dict[str, Any]:
    """The same for a job that has made the folder itself."""
    tf = need("keras", "tensorflow", "tf2onnx", "onnx")
    plain = without_optimizer(folder, work / "plain")
    try:
        loaded = tf.saved_model.load(str(plain))
    except (OSError, ValueError, tf.errors.OpError) as error:
        words = " ".join(str(error).split())[:200]
        raise Refusal("SourceDamaged", f"TensorFlow does not load it ({words})") from error
    name = _signature(loaded)
    (work / "model.tflite").write_bytes(_to_tflite(tf, loaded, name))
    _to_onnx(tf, plain, name, work / "model.onnx")
    return {"onnx": "model.onnx", "tflite": "model.tflite", "notes": []}


def without_optimizer(folder: Path, target: Path) -> Path:
    """A copy whose object graph has no optimizer slots: newer TensorFlow cannot revive old ones."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    try:
        saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    except DecodeError as error:
        raise Refusal(
            "SourceDamaged", "saved_model.pb is truncated; save the model again"
        ) from error
    for graph in saved.meta_graphs:
        for node in graph.object_graph_def.nodes:
            del node.slot_variables[:]
    target.mkdir()
    (target / "saved_model.pb").write_bytes(saved.SerializeToString(deterministic=True))
    for entry in folder.iterdir():
        if entry.name not in ("saved_model.pb", "fingerprint.pb"):
            os.symlink(entry.absolute(), target / entry.name)
    return target


def _signature(loaded: Any) -> str:
    names = sorted(loaded.signatures)
    if DEFAULT_SIGNATURE in names:
        return DEFAULT_SIGNATURE
    if len(names) != 1:
        raise Refusal(
            "UnsupportedTensor",
            f"has the signatures {names}; save it with one of the name {DEFAULT_SIGNATURE!r}",
        )
    return str(names[0])


def _to_tflite(tf: Any, loaded: Any, name: str) -> bytes:
    converter = tf.lite.TFLiteConverter.from_concrete_functions([loaded.signatures[name]], loaded)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    try:
        data: bytes = converter.convert()
    except Exception as error:  # the converter's error class moves between releases
        words = " ".join(str(error).split())
        if "custom op" in words or "Flex" in words or "neither a custom op" in words:
            raise Refusal(
                "UnsupportedOperator",
                f"uses operators that no device's runtime has ({_operators(words)}); build the"
                " model of standard layers",
            ) from error
        raise
    return data


def _operators(words: str) -> str:
    """From `... Flex ops: FlexErf ...` or `custom ops: Foo ...`, the names."""
    for mark in ("Flex ops:", "Custom ops:", "error: "):
        if mark in words:
            return words.partition(mark)[2].strip()[:120]
    return words[:120]


def _to_onnx(tf: Any, folder: Path, name: str, target: Path) -> None:
    from tf2onnx import tf_loader
    from tf2onnx.convert import _convert_common  # the one entry that keeps the signature's names

    graph, inputs, outputs, tables, renames = tf_loader.from_saved_model(
        str(folder),
        None,
        None,
        tag=["serve"],
        signatures=[name],
        return_initialized_tables=True,
        return_tensors_to_rename=True,
    )
    with tf.device("/cpu:0"):
        model, _ = _convert_common(
            graph,
            name="model",
            opset=OPSET,
            input_names=inputs,
            output_names=outputs,
            tensors_to_rename=renames,
            initialized_tables=tables,
        )
    target.write_bytes(model.SerializeToString(deterministic=True))
