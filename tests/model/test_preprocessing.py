"""From a raw input to the network's, through whichever recipe the release gives."""

from __future__ import annotations

import numpy as np
import pytest

from contract.manifest import Quantisation, TensorSpec
from contract.processing import AudioInput, ImageInput, Processing, TableInput, shape_of
from model.errors import InvalidInput
from model.preprocessing import Raw, Sound, prepare, prepare_request, why_unfit

IMAGE = ImageInput(input="image", height=4, width=4)
SOUND = AudioInput(
    input="sound", sample_rate=8000, clip_length=800, frame_length=200, frame_step=100
)
TABLE = TableInput(input="row", columns=["a", "b"], mean=[1.0, 2.0], std=[2.0, 4.0])
ALL = Processing(inputs=[IMAGE, SOUND, TABLE])
PIXELS = np.full((8, 8, 3), 255, np.uint8)
NOISE = Sound(np.random.default_rng(0).uniform(-1, 1, 800), 8000)


def spec(name: str, *shape: int, dtype: str = "float32") -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=[-1, *shape])  # type: ignore[arg-type]  # tests pick


def test_each_kind_of_input_goes_its_way() -> None:
    raw: dict[str, Raw] = {"image": PIXELS, "sound": NOISE, "row": np.array([3.0, 10.0])}
    made = prepare_request(ALL, raw)
    assert {name: list(array.shape) for name, array in made.items()} == {
        recipe.input: [1, *shape_of(recipe)] for recipe in ALL.inputs
    }
    np.testing.assert_allclose(made["image"], 1.0)
    np.testing.assert_array_equal(made["row"], [[1.0, 2.0]])


def test_an_input_without_a_recipe_is_handed_on() -> None:
    made = prepare_request(Processing(), {"x": np.arange(3)})
    np.testing.assert_array_equal(made["x"], [[0, 1, 2]])


def test_the_same_input_gives_the_same_bytes() -> None:
    assert prepare(SOUND, NOISE).tobytes() == prepare(SOUND, NOISE).tobytes()
    assert prepare(IMAGE, PIXELS).tobytes() == prepare(IMAGE, PIXELS).tobytes()


def test_columns_without_statistics_pass_as_they_are() -> None:
    plain = TableInput(input="row", columns=["a", "b"])
    np.testing.assert_array_equal(prepare(plain, np.array([3.0, -1.0])), [3.0, -1.0])


def test_kinds_are_not_mixed_up() -> None:
    with pytest.raises(InvalidInput, match="sound was given for an image"):
        prepare(IMAGE, NOISE)
    with pytest.raises(InvalidInput, match="sound was given for columns"):
        prepare(TABLE, NOISE)
    with pytest.raises(InvalidInput, match="sample rate"):
        prepare(SOUND, NOISE.signal)
    with pytest.raises(InvalidInput, match="no recipe"):
        prepare_request(Processing(), {"x": NOISE})


@pytest.mark.parametrize("values", [np.zeros(3), np.zeros((1, 2)), np.zeros(2, np.int64)])
def test_other_columns_than_the_recipes_are_refused(values: np.ndarray) -> None:
    with pytest.raises(InvalidInput, match="must be 2 floats"):
        prepare(TABLE, values)


def test_recipes_that_fit_the_network() -> None:
    inputs = [spec(recipe.input, *shape_of(recipe)) for recipe in ALL.inputs]
    assert why_unfit(ALL, inputs) is None


def test_an_integer_network_that_quantises_by_itself_fits() -> None:
    row = TensorSpec(name="row", dtype="int8", shape=[-1, 2], quantisation=Quantisation(0.1, 0))
    assert why_unfit(Processing(inputs=[TABLE]), [row]) is None


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([spec("other", 2)], "no input 'row'"),
        ([spec("row", 3)], r"prepared as \[2\], the model takes \[3\]"),
        ([spec("row", 2, dtype="int64")], "the model takes int64"),
    ],
)
def test_recipes_that_do_not_fit_are_explained(inputs: list[TensorSpec], words: str) -> None:
    import re

    reason = why_unfit(Processing(inputs=[TABLE]), inputs)
    assert reason is not None
    assert re.search(words, reason)
