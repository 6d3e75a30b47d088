"""Matrix products with constants become layers where they can, and answer rightly in int8."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from converter.samples import Samples
from converter.tflite.flatbuffer import parse
from converter.tflite.int8 import make_tflite_int8
from converter.tflite.runner import TfliteRunner, real
from converter.tflite.source import TfliteModel, check_tflite, operator_name, operators
from tests.converter.tflite.models import Array, B, Graph

INPUTS, CHANNELS = 8, 10


def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def product(shape: list[int], weights: Array, *, turned: bool = False, uses: int = 1) -> bytes:
    """x times the weights; `uses`: how many products, added up, read the same constant."""
    g = Graph()
    x = g.tensor("x", [-1, *shape])
    w = g.tensor("w", list(weights.shape), weights)
    options = schema.BatchMatMulOptionsT()
    options.adjY = turned
    made = []
    for place in range(uses):
        made.append(g.tensor(f"y{place}", [-1, *shape[:-1], CHANNELS]))
        kind = schema.BuiltinOptions.BatchMatMulOptions
        g.operator(B.BATCH_MATMUL, [x, w], made[-1], kind, options)
    if uses == 1:
        return g.bytes([x], made)
    total = g.tensor("total", [-1, *shape[:-1], CHANNELS])
    kind = schema.BuiltinOptions.AddOptions
    g.operator(B.ADD, made, total, kind, schema.AddOptionsT())
    return g.bytes([x], [total])


def drawn(*shape: int) -> Array:
    return rng().normal(0, 0.5, shape).astype(np.float32)


def samples(shape: list[int]) -> Samples:
    return Samples("c", {"x": rng().normal(0, 1, (200, *shape)).astype(np.float32)})


def decibel(source: TfliteModel, data: bytes, given: Samples) -> float:
    (wanted,) = TfliteRunner(source.data).run(given).values()
    runner = TfliteRunner(data)
    (found,) = real(runner, runner.run(given)).values()
    return float(10 * np.log10(np.square(wanted).sum() / np.square(wanted - found).sum()))


def names(data: bytes) -> list[str]:
    return [operator_name(code) for code, _ in operators(parse(data, "x"))]


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("shape", [[INPUTS], [4, INPUTS], [3, 4, INPUTS]])
def test_a_product_with_constant_weights_is_a_layer_that_answers_the_same(
    shape: list[int], turned: bool
) -> None:
    weights = drawn(CHANNELS, INPUTS) if turned else drawn(INPUTS, CHANNELS)
    source = check_tflite(product(shape, weights, turned=turned), "p.tflite")
    assert names(source.data) == ["FULLY_CONNECTED"]
    given = samples(shape)
    (found,) = TfliteRunner(source.data).run(given).values()
    wanted = given.arrays["x"] @ (weights.T if turned else weights)
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() < 1e-5


@pytest.mark.parametrize("integer_io", [False, True])
@pytest.mark.parametrize("shape", [[INPUTS], [4, INPUTS]])
def test_it_is_good_in_int8(shape: list[int], integer_io: bool) -> None:
    source = check_tflite(product(shape, drawn(INPUTS, CHANNELS)), "p.tflite")
    given = samples(shape)
    made = make_tflite_int8(source, given, lambda share: None, integer_io=integer_io)
    assert (made.audit.integer, made.audit.floating) == (1, 0)
    assert decibel(source, made.data, given) > 30


def test_a_constant_of_two_products_is_turned_for_each() -> None:
    source = check_tflite(product([INPUTS], drawn(INPUTS, CHANNELS), uses=2), "p.tflite")
    assert names(source.data) == ["FULLY_CONNECTED", "FULLY_CONNECTED", "ADD"]
    given = samples([INPUTS])
    (found,) = TfliteRunner(source.data).run(given).values()
    assert np.abs(found - 2 * given.arrays["x"] @ drawn(INPUTS, CHANNELS)).max() < 1e-5


def test_the_file_grows_by_no_second_copy_of_the_weights() -> None:
    weights = drawn(256, CHANNELS)
    before = product([256], weights)
    after = check_tflite(before, "p.tflite").data
    assert len(after) < len(before) + weights.nbytes / 2


def test_a_stack_of_matrices_stays_a_product_and_is_good_in_int8() -> None:
    source = check_tflite(product([4, INPUTS], drawn(1, INPUTS, CHANNELS)), "p.tflite")
    assert names(source.data) == ["BATCH_MATMUL"]
    given = samples([4, INPUTS])
    made = make_tflite_int8(source, given, lambda share: None)
    assert (made.audit.integer, made.audit.floating) == (1, 0)
    assert decibel(source, made.data, given) > 30


def test_channels_of_different_sizes_have_scales_of_their_own() -> None:
    weights = drawn(INPUTS, CHANNELS) * np.logspace(-3, 0, CHANNELS, dtype=np.float32)
    source = check_tflite(product([INPUTS], weights), "p.tflite")
    data = make_tflite_int8(source, samples([INPUTS]), lambda share: None).data
    model = parse(data, "x")
    ((_, node),) = [each for each in operators(model) if each[0] == B.FULLY_CONNECTED]
    assert len(model.subgraphs[0].tensors[node.inputs[1]].quantization.scale) == CHANNELS
