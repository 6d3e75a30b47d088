"""One small network, trained once in a process of its own, saved in each of TensorFlow's forms."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from converter.frontends.isolation import ROOT
from converter.frontends.settings import worker_environment

SAVE = """
import sys
from pathlib import Path
import keras, tensorflow as tf, tf_keras
from tests.heavy.digits import images
folder = Path(sys.argv[1])
def build(k):
    image = k.Input((8, 8, 1), name="image")
    x = k.layers.Conv2D(8, 3, padding="same")(image)
    x = k.layers.BatchNormalization()(x)
    x = k.layers.ReLU()(x)
    x = k.layers.DepthwiseConv2D(3)(x)
    x = k.layers.ReLU()(x)
    x = k.layers.Flatten()(x)
    return k.Model(image, k.layers.Dense(5, activation="softmax", name="scores")(x))
shown, kinds = images(300, 7)
for k, names in ((keras, ["new.keras", "new.h5"]), (tf_keras, ["old.h5"])):
    k.utils.set_random_seed(3)
    model = build(k)
    model.compile(k.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(shown[..., None], kinds, epochs=8, verbose=0)
    for name in names:
        model.save(folder / name)
    if k is keras:
        model.export(folder / "exported", verbose=False)
        model.save_weights(folder / "bare.weights.h5")
    doubled = k.Input((4,))
    lam = k.Model(doubled, k.layers.Lambda(lambda x: x * 2)(doubled))
    lam.save(folder / ("lambda.keras" if k is keras else "lambda.h5"))
module = tf.Module()
module.run = tf.function(
    lambda image: {"scores": tf.linalg.expm(image)},
    input_signature=[tf.TensorSpec([None, 8, 8], tf.float32, name="image")],
)
tf.saved_model.save(module, str(folder / "foreign"), {"serving_default": module.run})
"""


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    subprocess.run(
        [sys.executable, "-c", SAVE, str(folder)],
        env=worker_environment(ROOT),
        check=True,
        timeout=110,
    )
    return folder
