"""Keras networks with constants between their layers become releases of both forms."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from converter.convert import convert
from converter.frontends.isolation import ROOT
from converter.frontends.settings import worker_environment
from converter.request import ConvertRequest
from tests.heavy.digits import Images, images

pytestmark = [
    pytest.mark.skipif(
        find_spec("tensorflow") is None, reason="runs in .make/heavy-tf: make test-heavy"
    ),
    pytest.mark.timeout(240),
]
SAVE = """
import sys
from pathlib import Path
import keras
from tests.heavy.tensorflow.test_constants import coloured
folder, k = Path(sys.argv[1]), keras.layers
shown, kinds = coloured(300, 7)
def front(name, image):
    if name == "normalization":
        return k.Normalization(mean=[0.2, 0.5, 0.3], variance=[0.1, 0.2, 0.05])(image)
    if name == "layer-norm":
        return k.LayerNormalization()(k.Conv2D(8, 3, activation="relu")(image))
    return k.BatchNormalization()(k.Conv2D(8, 3, activation="relu", padding="same")(image))
for name in ("normalization", "layer-norm", "batch-norm"):
    keras.utils.set_random_seed(3)
    image = keras.Input((8, 8, 3), name="image")
    x = k.Conv2D(8, 3, activation="relu", padding="same")(front(name, image))
    scores = k.Dense(5, activation="softmax", name="scores")(k.Flatten()(x))
    model = keras.Model(image, scores)
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(shown, kinds, epochs=8, verbose=0)
    model.save(folder / f"{name}.keras")
"""


def coloured(count: int, seed: int) -> tuple[Images, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """float32 [count, 8, 8, 3], each colour of another size, and their kinds."""
    shown, kinds = images(count, seed)
    return shown[..., None] * np.array([0.4, 1.0, 0.6], np.float32), kinds


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("constants")
    subprocess.run(
        [sys.executable, "-c", SAVE, str(folder)],
        env=worker_environment(ROOT),
        check=True,
        timeout=110,
    )
    return folder


@pytest.mark.parametrize("name", ["normalization", "layer-norm", "batch-norm"])
def test_both_variants_are_made_and_what_was_left_out_is_told(
    name: str, networks: Path, tmp_path: Path
) -> None:
    shown, kinds = coloured(150, 2)
    np.savez(tmp_path / "calib.npz", image=coloured(100, 1)[0])
    np.savez(tmp_path / "eval.npz", image=shown, labels=kinds)
    made = convert(
        ConvertRequest(
            model=networks / f"{name}.keras",
            calib=tmp_path / "calib.npz",
            evaluation=tmp_path / "eval.npz",
            family="kinds",
            version="1",
            output=tmp_path / "kinds.bundle",
        )
    )
    assert [variant.name for variant in made.manifest.variants] == ["onnx-int8", "tflite-int8"]
    assert made.manifest.variants[1].evidence["accuracy"] > 95
    (note,) = [said for said in made.notes if "is left out" in said]
    assert f"{name}.keras: ai-edge-quantizer failed" in note
    assert "OCTAV" in note
    assert note in made.report.quantiser.notes
