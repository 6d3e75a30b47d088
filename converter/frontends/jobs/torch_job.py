"""In the worker: TorchScript or an exported program to ONNX of opset 17, and to TFLite on request.

The older exporter is used on purpose: it writes opset 17, which older runtimes load. What it made
is run beside the original before it is handed on.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from converter.frontends.jobs.torch_answers import require_close, words
from converter.frontends.jobs.torch_tflite import to_tflite
from converter.frontends.pt2_code import find_code
from converter.frontends.refusal import Refusal, need
from converter.frontends.script_code import find_reach
from converter.frontends.unpickling import RUNS_CODE, pickles

OPSET = 17
_SEED = 20


def run(asked: Mapping[str, Any], work: Path) -> dict[str, Any]:
    """Files `model.onnx`, and `model.tflite` when asked for and possible."""
    torch = need("torch", "torch", "onnx")
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(_SEED)
    path, trusted = Path(asked["model"]), bool(asked.get("trust_pickle"))
    if asked["format"] == "pt2":
        model, examples, names, dynamic = _exported(torch, path, trusted)
        traced = torch.jit.trace(model, examples)
    else:
        model, examples, names = _scripted(torch, path, asked["shapes"], trusted)
        traced, dynamic = model, True
    _to_onnx(torch, traced, examples, names, dynamic, work / "model.onnx")
    _require_same(torch, traced, examples, names, work / "model.onnx")
    result: dict[str, Any] = {"onnx": "model.onnx", "notes": []}
    if asked["tflite"]:
        to_tflite(torch, model, examples, names, dynamic, work / "model.tflite")
        result["tflite"] = "model.tflite"
    return result


def _scripted(
    torch: Any, path: Path, shapes: Mapping[str, Any], trusted: bool
) -> tuple[Any, Any, list[str]]:
    if not trusted:
        _refuse_code(path, find_reach)
    try:
        model = torch.jit.load(str(path), map_location="cpu").eval()
    except (RuntimeError, ValueError) as error:
        raise Refusal("SourceDamaged", f"torch does not load it ({words(error)})") from error
    names = [argument.name for argument in model.forward.schema.arguments[1:]]
    missing = [name for name in names if name not in shapes]
    if missing:
        raise Refusal(
            "ShapeUnknown",
            f"TorchScript does not say the shapes of its inputs {names}; name the calibration"
            " arrays like them, or save the model with torch.export.save",
        )
    # Two samples: with one, the tracer would take the batch for a constant.
    examples = tuple(_example(torch, shapes[n]["dtype"], [2, *shapes[n]["sample"]]) for n in names)
    return model, examples, names


def _exported(torch: Any, path: Path, trusted: bool) -> tuple[Any, Any, list[str], bool]:
    if not trusted:
        _refuse_code(path, find_code)
    try:
        with pickles(trusted=trusted):
            program = torch.export.load(str(path))
    except Refusal:
        raise
    except Exception as error:  # torch raises whatever a damaged archive leads to
        raise Refusal("SourceDamaged", f"torch does not load it ({words(error)})") from error
    wanted = list(program.graph_signature.user_inputs)
    values = {n.name: n.meta["val"] for n in program.graph.nodes if n.op == "placeholder"}
    if not all(isinstance(values.get(name), torch.Tensor) for name in wanted):
        raise Refusal("UnsupportedTensor", f"its inputs {wanted} are not tensors alone")
    shapes = [[_size(size) for size in values[name].shape] for name in wanted]
    dynamic = all(shape and shape[0] == -1 for shape in shapes)
    if any(-1 in shape[1:] for shape in shapes):
        raise Refusal("UnsupportedTensor", "only the batch may be dynamic; export it again")
    examples = tuple(
        _example(torch, str(values[name].dtype).removeprefix("torch."), [2, *shape[1:]])
        if dynamic
        else _example(torch, str(values[name].dtype).removeprefix("torch."), shape)
        for name, shape in zip(wanted, shapes, strict=True)
    )
    return program.module(), examples, wanted, dynamic


def _refuse_code(path: Path, find: Callable[[Path], str | None]) -> None:
    """By the archive's own words, before torch reads it: whatever reading it would run."""
    try:
        found = find(path)
    except (ValueError, zipfile.BadZipFile) as error:
        raise Refusal("SourceDamaged", f"not as torch writes it ({words(error)})") from error
    if found is not None:
        raise Refusal("PickleNotTrusted", f"{found}: {RUNS_CODE}")


def _size(size: Any) -> int:
    return size if isinstance(size, int) else -1


def _example(torch: Any, dtype: str, shape: Sequence[int]) -> Any:
    kind = getattr(torch, dtype)
    if kind.is_floating_point:
        return torch.rand(*shape, dtype=kind)
    return torch.zeros(*shape, dtype=kind)


def _to_onnx(
    torch: Any, traced: Any, examples: Any, names: list[str], dynamic: bool, target: Path
) -> None:
    with torch.no_grad():
        answers = traced(*examples)
    outputs = _outputs(torch, answers)
    axes = {name: {0: "N"} for name in (*names, *outputs)} if dynamic else None
    try:
        torch.onnx.export(
            traced,
            examples,
            str(target),
            input_names=names,
            output_names=outputs,
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )
    except torch.onnx.errors.UnsupportedOperatorError as error:
        raise Refusal(
            "UnsupportedOperator", f"{words(error)}; build the model of standard layers"
        ) from error


def _outputs(torch: Any, answers: Any) -> list[str]:
    if isinstance(answers, torch.Tensor):
        return ["output"]
    if isinstance(answers, (tuple, list)) and all(isinstance(a, torch.Tensor) for a in answers):
        return [f"output_{i}" for i in range(len(answers))]
    raise Refusal(
        "UnsupportedTensor",
        f"answers with a {type(answers).__name__}; wrap the model so that it returns tensors",
    )


def _require_same(torch: Any, traced: Any, examples: Any, names: list[str], path: Path) -> None:
    """One batch through both: a tracer bakes in what depends on the input, without a word."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    ours = session.run(None, {n: e.numpy() for n, e in zip(names, examples, strict=True)})
    with torch.no_grad():
        theirs = traced(*examples)
    require_close(torch, ours, theirs, "ONNX")
