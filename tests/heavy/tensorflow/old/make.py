"""Made the files beside it, under Python 3.7 with Keras 2.2.4 and TensorFlow 1.15.5.

No Python that we support runs these any more, so what they wrote is kept. To make it again:
`pip install tensorflow==1.15.5 keras==2.2.4 'h5py<3' 'protobuf<3.21'`, then
`python make.py IMAGES.npz` with `image` and `kinds` of `tests.heavy.digits.images(300, 7)`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

HERE = Path(__file__).parent


def build(k: Any) -> Any:
    """The network of the tests beside us, in layers that 2018 had."""
    np.random.seed(3)  # what these versions draw their weights from
    tf.compat.v1.set_random_seed(3)
    image = k.layers.Input((8, 8, 1), name="image")
    x = k.layers.Conv2D(8, 3, padding="same")(image)
    x = k.layers.BatchNormalization()(x)
    x = k.layers.LeakyReLU(alpha=0.1)(x)
    x = k.layers.DepthwiseConv2D(3)(x)
    x = k.layers.ReLU()(x)
    x = k.layers.Flatten()(x)
    return k.models.Model(image, k.layers.Dense(5, activation="softmax", name="scores")(x))


def trained(k: Any, shown: Any, kinds: Any) -> Any:
    """`build`, fitted."""
    model = build(k)
    model.compile(k.optimizers.Adam(lr=0.01), "sparse_categorical_crossentropy")
    model.fit(shown, kinds, epochs=25, verbose=0)
    return model


def main() -> None:
    """Each file, from the samples that the first argument names."""
    with np.load(sys.argv[1]) as file:
        shown, kinds = file["image"][..., None], file["kinds"]
    trained(keras, shown, kinds).save(str(HERE / "keras-2.2.4.h5"))
    keras.backend.clear_session()
    model = trained(tf.keras, shown, kinds)
    model.save(str(HERE / "tensorflow-1.15.h5"), include_optimizer=False)
    weights = model.get_weights()
    tf.keras.backend.clear_session()
    tf.keras.backend.set_learning_phase(0)  # what serves has no training in its graph
    model = build(tf.keras)
    model.set_weights(weights)
    tf.compat.v1.saved_model.simple_save(
        tf.keras.backend.get_session(),
        str(HERE / "tensorflow-1.15"),
        {"image": model.input},
        {"scores": model.output},
    )


if __name__ == "__main__":
    main()
