"""In the worker: a pickled scikit-learn estimator or pipeline to ONNX. Unpickles; asked only then.

Keeps the scores and drops the label output: which class won is the device's arithmetic, and an
integer output beside the scores has no int8 form.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from converter.frontends.refusal import Refusal, need
from converter.frontends.unpickling import RUNS_CODE, pickles

OPSETS = {"": 17, "ai.onnx.ml": 3}
"""Of the second domain, the version that onnxruntime 1.16 knows."""
INPUT = "input"
_AVERAGED = ("RandomForest", "ExtraTrees", "DecisionTree", "ExtraTree")
_SUMMED = ("GradientBoosting", "HistGradientBoosting")


def run(asked: Mapping[str, Any], work: Path) -> dict[str, Any]:
    """File `model.onnx`, the classes' names, and how the trees add up where there are any."""
    if not asked.get("trust_pickle"):
        raise Refusal("PickleNotTrusted", RUNS_CODE)
    need("sklearn", "skl2onnx", "sklearn", "joblib")
    warnings.filterwarnings("ignore")
    estimator = _read(Path(asked["model"]))
    model = _convert(estimator)
    _scores_only(model)
    (work / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))
    return {
        "onnx": "model.onnx",
        "notes": [f"scikit-learn {_name(_last(estimator))}"],
        "labels": [str(label) for label in getattr(estimator, "classes_", [])],
        "columns": [str(column) for column in getattr(estimator, "feature_names_in_", [])],
        "trees": _trees(_last(estimator)),
    }


def _read(path: Path) -> Any:
    import joblib

    try:
        with pickles(trusted=True):
            estimator = joblib.load(path)
    except (OSError, EOFError, ValueError, KeyError, IndexError, pickle.UnpicklingError) as error:
        words = " ".join(str(error).split())[:200] or type(error).__name__
        raise Refusal("SourceDamaged", f"not a readable pickle ({words}); dump it again") from error
    except (ImportError, AttributeError) as error:
        raise Refusal(
            "UnsupportedOperator", f"made of classes that are not here ({error}); install them"
        ) from error
    if not hasattr(estimator, "predict"):
        raise Refusal(
            "UnknownFormat",
            f"holds a {_name(estimator)}, not an estimator; dump the fitted model itself",
        )
    return estimator


def _convert(estimator: Any) -> Any:
    import skl2onnx
    from skl2onnx.common.data_types import FloatTensorType
    from skl2onnx.common.exceptions import MissingConverter, MissingShapeCalculator

    features = getattr(estimator, "n_features_in_", None)
    if features is None:
        raise Refusal("UnknownFormat", "has not been fitted; dump it after fit()")
    _plain_numbers()
    options = {id(estimator): {"zipmap": False}} if hasattr(estimator, "predict_proba") else None
    try:
        return skl2onnx.to_onnx(
            estimator,
            initial_types=[(INPUT, FloatTensorType([None, int(features)]))],
            target_opset=OPSETS,
            options=options,
        )
    except (MissingConverter, MissingShapeCalculator) as error:
        raise Refusal(
            "UnsupportedOperator",
            f"{_name(_last(estimator))}, or a step before it, has no ONNX form",
        ) from error


def _plain_numbers() -> None:
    """skl2onnx hands numpy's booleans and integers to onnx, which takes Python's alone."""
    from onnx import helper
    from skl2onnx.common import _container

    def make_node(*arguments: Any, **attributes: Any) -> Any:
        return helper.make_node(*arguments, **{n: _plain(v) for n, v in attributes.items()})

    _container.make_node = make_node


def _plain(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    plain = [item.item() if hasattr(item, "item") else item for item in value]
    return [int(item) if isinstance(item, bool) else item for item in plain]


def _scores_only(model: Any) -> None:
    """Of `label` and `probabilities`, or a regressor's `variable`, the one with the numbers."""
    from onnx import TensorProto

    scores = [o for o in model.graph.output if o.type.tensor_type.elem_type == TensorProto.FLOAT]
    if len(scores) != 1:
        raise Refusal(
            "UnsupportedTensor",
            f"has the outputs {[o.name for o in model.graph.output]}; use an estimator with"
            " predict_proba, or a regressor",
        )
    del model.graph.output[:]
    model.graph.output.extend(scores)


def _trees(estimator: Any) -> dict[str, Any] | None:
    name = _name(estimator)
    if name.startswith(_AVERAGED):
        return {"averaged": True, "per_round": 1}
    if name.startswith(_SUMMED):
        classes = len(getattr(estimator, "classes_", ()))
        return {"averaged": False, "per_round": classes if classes > 2 else 1}
    return None


def _last(estimator: Any) -> Any:
    return estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator


def _name(estimator: Any) -> str:
    return type(estimator).__name__
