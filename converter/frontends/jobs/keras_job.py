"""In the worker: a `.keras` or `.h5` file to a SavedModel folder, and on from there.

Lambda layers are pickled code: refused unless trusted. Old `.h5` files that Keras 3 does not
understand are read by the Keras 2 that is packaged as tf-keras.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from converter.frontends.jobs import savedmodel_job
from converter.frontends.refusal import Refusal, need
from converter.frontends.unpickling import RUNS_CODE, pickles

MAX_CONFIG = 64 << 20


def run(asked: Mapping[str, Any], work: Path) -> dict[str, Any]:
    """Files `model.onnx` and `model.tflite` in `work`."""
    need("keras", "tensorflow", "keras", "h5py")
    path, trusted = Path(asked["model"]), bool(asked.get("trust_pickle"))
    config = _config(path, str(asked["format"]))
    if not trusted and any(name == "Lambda" for name in _layers(config)):
        raise Refusal("PickleNotTrusted", f"has a Lambda layer: {RUNS_CODE}")
    folder = work / "exported"
    with pickles(trusted=trusted):
        note = _export(path, folder, trusted)
    result = savedmodel_job.convert(folder, work)
    result["notes"] += note
    return result


def _config(path: Path, format_: str) -> Any:
    """The network's description, out of the file and without Keras."""
    try:
        if format_ == "keras":
            with zipfile.ZipFile(path) as archive:
                if archive.getinfo("config.json").file_size > MAX_CONFIG:
                    raise Refusal("SourceDamaged", "its config.json is endless")
                return json.loads(archive.read("config.json"))
        return json.loads(_h5_config(path))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        words = " ".join(str(error).split())[:120]
        raise Refusal("SourceDamaged", f"truncated or damaged ({words}); save it again") from error


def _h5_config(path: Path) -> Any:
    import h5py

    with h5py.File(path, "r") as file:
        if "model_config" not in file.attrs:
            raise Refusal(
                "UnknownFormat",
                "holds weights without the network; save it with model.save, not save_weights",
            )
        return file.attrs["model_config"]


def _layers(config: Any) -> Iterator[str]:
    if isinstance(config, dict):
        if isinstance(config.get("class_name"), str):
            yield config["class_name"]
        for value in config.values():
            yield from _layers(value)
    elif isinstance(config, list):
        for value in config:
            yield from _layers(value)


def _export(path: Path, folder: Path, trusted: bool) -> list[str]:
    import keras

    source = path
    try:
        model = keras.saving.load_model(source, compile=False, safe_mode=not trusted)
    except Refusal:
        raise
    except Exception as error:  # Keras 3 stumbles over Keras 2 in many ways
        if path.suffix == ".keras":
            raise _unreadable(error) from error
        return _export_old(path, folder, error)
    model.export(str(folder), verbose=False)
    return []


def _export_old(path: Path, folder: Path, first: Exception) -> list[str]:
    try:
        import tensorflow as tf
        import tf_keras
    except ImportError:
        refusal = _unreadable(first)
        hint = "for an old file: pip install --no-deps tf-keras"
        raise Refusal(refusal.kind, f"{refusal}; {hint}") from first
    try:
        model = tf_keras.models.load_model(path, compile=False)
    except Refusal:
        raise
    except Exception as error:  # likewise
        raise _unreadable(error) from error
    specs = [tf.TensorSpec(i.shape, i.dtype, name=i.name.partition(":")[0]) for i in model.inputs]
    names = [name.partition("/")[0] for name in model.output_names]

    def serve(*inputs: Any) -> dict[str, Any]:
        answers = model(list(inputs) if len(inputs) > 1 else inputs[0], training=False)
        return dict(zip(names, answers if isinstance(answers, list) else [answers], strict=True))

    function = tf.function(serve, input_signature=specs)
    tf.saved_model.save(model, str(folder), {"serving_default": function})
    return ["read by Keras 2 (tf-keras)"]


def _unreadable(error: Exception) -> Refusal:
    words = " ".join(str(error).split())[:200]
    if "custom" in words.lower() or "Unknown layer" in words or "Could not locate class" in words:
        return Refusal(
            "UnsupportedOperator",
            f"has a layer that is not Keras's own ({words}); export the model as a SavedModel",
        )
    return Refusal("SourceDamaged", f"Keras does not load it ({words}); save it again")
