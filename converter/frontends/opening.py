"""`open_source`: any trained model in, checked float ONNX and float TFLite out, or a named error.

Owns which way each kind of model goes. ONNX files pass through untouched: their reader is
`converter.source`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from converter.errors import ExtraMissing, FrontendCrashed, FrontendFailed, PickleNotTrusted
from converter.frontends.forest import KINDS as TREE_NODES
from converter.frontends.formats import detect
from converter.frontends.isolation import Limits, read_result, run_job
from converter.frontends.linear import standardise
from converter.frontends.names import tidy
from converter.frontends.sources import Format, SourceOptions, Sources, Trees
from converter.tflite.source import TfliteModel, check_tflite

_JOBS: dict[Format, str] = {
    "savedmodel": "savedmodel",
    "keras": "keras",
    "h5": "keras",
    "torchscript": "torch",
    "pt2": "torch",
    "scikit-learn": "sklearn",
}
TFLITE_TIMEOUT_S = 120.0
BY_ONNX2TF = "TFLite was made by onnx2tf out of the ONNX form, since litert-torch makes none of it"
_TORCH = ("torchscript", "pt2")


def open_source(path: Path, options: SourceOptions) -> Sources:
    """The model at `path` in the pipeline's forms; raises a `ConvertError` of one line."""
    kind = detect(path)
    if kind == "onnx":
        return Sources(kind, onnx=path.read_bytes())
    if kind == "tflite":
        return Sources(kind, tflite=safe_tflite(path, path.name, options))
    if kind == "scikit-learn" and not options.trust_pickle:
        raise PickleNotTrusted(
            f"{path}: a pickle, which runs code out of the file when it is read; give"
            " --trust-pickle if you know who made it"
        )
    with tempfile.TemporaryDirectory(prefix="outrider-source-") as directory:
        return _with_second_way(path, kind, options, Path(directory))


def safe_tflite(path: Path, name: str, options: SourceOptions) -> TfliteModel:
    """A checked float TFLite file, after a process of its own has loaded and run it once."""
    with tempfile.TemporaryDirectory(prefix="outrider-tflite-") as directory:
        limits = Limits(min(options.timeout_s, TFLITE_TIMEOUT_S), options.memory_bytes)
        run_job("tflite", path, Path(directory), limits, name=name)
    return check_tflite(path.read_bytes(), name)


def _with_second_way(path: Path, kind: Format, options: SourceOptions, work: Path) -> Sources:
    """What litert-torch cannot make, onnx2tf may, later and out of the ONNX form, if it is there.

    So the second time the ONNX form alone is asked for.
    """
    if kind not in _TORCH or not options.tflite or options.onnx2tf_python is None:
        return _by_worker(path, kind, options, work)
    try:
        return _by_worker(path, kind, options, work)
    except (ExtraMissing, FrontendCrashed, FrontendFailed):
        made = _by_worker(path, kind, replace(options, tflite=False), work)
        # Without the reason, whose words differ from run to run: notes stand in the bundle.
        return replace(made, notes=(*made.notes, BY_ONNX2TF))


def _by_worker(path: Path, kind: Format, options: SourceOptions, work: Path) -> Sources:
    answer = run_job(
        _JOBS[kind],
        path,
        work,
        Limits(options.timeout_s, options.memory_bytes),
        format=kind,
        trust_pickle=options.trust_pickle,
        tflite=options.tflite,
        shapes={
            name: {"dtype": shape.dtype, "sample": list(shape.sample)}
            for name, shape in options.shapes.items()
        },
    )
    tflite = None
    if "tflite" in answer:
        tflite = safe_tflite(work / "model.tflite", path.name, options)
    data = _onnx(path, kind, work)
    made = Sources(kind, data, tflite, notes=tuple(map(str, answer.get("notes", ()))))
    return _estimator(made, answer) if kind == "scikit-learn" else made


def _onnx(path: Path, kind: Format, work: Path) -> bytes:
    data = read_result(path, work / "model.onnx")
    try:
        model = onnx.load_from_string(data)
    except Exception as error:  # protobuf's DecodeError, whose package ships no types
        raise FrontendFailed(f"{path}: the tool wrote a damaged ONNX model") from error
    if kind == "scikit-learn":
        model = standardise(tidy(model))
    made: bytes = tidy(model).SerializeToString(deterministic=True)
    return made


def _estimator(made: Sources, answer: Mapping[str, Any]) -> Sources:
    known = answer.get("trees")
    trees = Trees(bool(known["averaged"]), int(known["per_round"])) if known else None
    model = onnx.load_from_string(made.onnx or b"")
    if trees is None and any(node.op_type in TREE_NODES for node in model.graph.node):
        trees = Trees(averaged=False, per_round=0)
    labels = tuple(str(label)[:120] for label in answer.get("labels", ()))
    columns = tuple(str(column).strip() for column in answer.get("columns", ()))
    return replace(made, labels=labels, columns=columns, trees=trees, small=True)
