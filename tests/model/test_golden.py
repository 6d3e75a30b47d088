"""Golden samples: one encoding, a decoder that takes no harm, and a run that finds what is off."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.manifest import TensorSpec
from model.errors import InvalidInput, MalformedGolden
from model.golden import GoldenSamples, decode_golden, encode_golden, run_golden
from model.golden_file import MAGIC, MAX_SAMPLES
from model.runtimes import Session
from model.tensors import Array, Tensors
from tests.model.builders import images, linear_session, rng

SCORES = rng(3).normal(size=(8, 10)).astype(np.float32)
GOLDEN = GoldenSamples({"image": images(8)}, {"scores": SCORES}, 0.25, 0.9)
ENCODED = encode_golden(GOLDEN)


class Answering:
    """A session over a table of answers: what a faulty kernel or artifact would give."""

    def __init__(self, answers: Array) -> None:
        self.inputs = [TensorSpec(name="image", dtype="float32", shape=[-1, 1, 8, 8])]
        shape = [-1, *answers.shape[1:]]
        self.outputs = [TensorSpec(name="scores", dtype="float32", shape=shape)]
        self._rows = {images(8)[i].tobytes(): answers[i : i + 1] for i in range(8)}

    def infer(self, inputs: Tensors) -> dict[str, Array]:
        return {"scores": self._rows[inputs["image"][0].tobytes()]}

    def close(self) -> None:
        self._rows.clear()


def _golden(session: Session) -> GoldenSamples:
    samples = images(16, 5)
    return GoldenSamples({"image": samples}, session.infer({"image": samples}), 0.01, 1.0)


def _run(answers: Array, golden: GoldenSamples = GOLDEN) -> tuple[float, float, bool, str]:
    result = run_golden(Answering(answers), golden)
    return result.agreement, result.max_error, result.passed, result.reason


def test_golden_samples_come_back() -> None:
    found = decode_golden(ENCODED)
    np.testing.assert_array_equal(found.inputs["image"], GOLDEN.inputs["image"])
    np.testing.assert_array_equal(found.outputs["scores"], SCORES)
    assert (found.samples, found.tolerance_abs, found.min_agreement) == (8, 0.25, 0.9)


@pytest.mark.parametrize(
    "dtype", ["float32", "float16", "int8", "uint8", "int16", "int32", "int64", "bool"]
)
def test_every_dtype_comes_back_in_any_byte_order(dtype: str) -> None:
    array = rng().integers(0, 2, (3, 4)).astype(dtype)
    swapped = array.astype(array.dtype.newbyteorder(">"))
    for given_array in (array, swapped, np.asfortranarray(array)):
        data = encode_golden(GoldenSamples({"x": given_array}, {"y": array}, 0.0, 1.0))
        found = decode_golden(data)
        assert found.inputs["x"].dtype == np.dtype(dtype)
        np.testing.assert_array_equal(found.inputs["x"], array)


def test_equal_samples_give_equal_bytes_in_any_order() -> None:
    first, second = images(2, 1), images(2, 2)
    one = GoldenSamples({"a": first, "b": second}, {"y": first}, 0.0, 1.0)
    two = GoldenSamples({"b": second.copy(), "a": first.copy()}, {"y": first}, 0.0, 1.0)
    assert encode_golden(one) == encode_golden(two)


@pytest.mark.parametrize(
    "golden",
    [
        GoldenSamples({}, {"y": SCORES}, 0.0, 1.0),
        GoldenSamples({"x": SCORES[:0]}, {"y": SCORES[:0]}, 0.0, 1.0),
        GoldenSamples({"x": SCORES}, {"y": SCORES[:3]}, 0.0, 1.0),
        GoldenSamples({"x": SCORES}, {"y": SCORES}, -1.0, 1.0),
        GoldenSamples({"x": SCORES}, {"y": SCORES}, 0.0, 1.5),
        GoldenSamples({"x": SCORES}, {"y": SCORES}, float("nan"), 1.0),
        GoldenSamples({"x": SCORES}, {"y": SCORES}, float("inf"), 1.0),
        GoldenSamples({"x": SCORES.astype("complex64")}, {"y": SCORES}, 0.0, 1.0),
        GoldenSamples({"x": np.zeros((MAX_SAMPLES + 1, 1))}, {"y": SCORES}, 0.0, 1.0),
    ],
)
def test_what_could_not_be_read_back_is_not_encoded(golden: GoldenSamples) -> None:
    with pytest.raises(MalformedGolden):
        encode_golden(golden)


def test_an_allocation_is_never_larger_than_the_bytes_at_hand() -> None:
    header = ENCODED[len(MAGIC) + 4 :]
    lying = header.replace(b"[8,1,8,8]", b"[8,9,9,9999999]")
    length = len(header) - len(header[header.index(b"}]") :])
    assert lying != header
    with pytest.raises(MalformedGolden):
        decode_golden(MAGIC + length.to_bytes(4, "big") + lying)


def test_sizes_that_no_array_can_have_are_malformed() -> None:
    tensor = b'[{"name":"x","dtype":"int8","shape":[1,0,67108864,67108864,67108864]}]'
    header = b'{"inputs":%b,"outputs":%b,"tolerance_abs":0,"min_agreement":1}' % (tensor, tensor)
    with pytest.raises(MalformedGolden):
        decode_golden(MAGIC + len(header).to_bytes(4, "big") + header)


@pytest.mark.parametrize("data", [b"", MAGIC, MAGIC + b"\xff\xff\xff\xff", b"PK\x03\x04" * 50])
def test_what_is_no_golden_file_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedGolden):
        decode_golden(data)


@pytest.mark.parametrize("data", [ENCODED[:-1], ENCODED + b"\0"])
def test_a_golden_file_of_another_length_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedGolden, match="bytes of arrays"):
        decode_golden(data)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 300))
def test_no_bytes_raise_anything_but_malformed_golden(junk: bytes, place: int) -> None:
    for data in (MAGIC + junk, ENCODED[:place] + junk + ENCODED[place + len(junk) :]):
        try:
            decode_golden(data)
        except MalformedGolden:
            continue


def test_a_model_agrees_with_its_own_golden_samples(tmp_path: Path) -> None:
    session = linear_session(tmp_path)
    result = run_golden(session, decode_golden(encode_golden(_golden(session))))
    assert result.passed
    assert result.reason == ""
    assert (result.samples, result.agreement) == (16, 1.0)
    assert result.max_error < 1e-4
    assert 0 < result.p50_ms <= result.p95_ms


def test_another_model_does_not_agree(tmp_path: Path) -> None:
    golden = _golden(linear_session(tmp_path, 0))
    result = run_golden(linear_session(tmp_path, 1), golden)
    assert not result.passed
    assert "golden samples agree" in result.reason


def test_the_first_call_warms_up_and_is_not_timed() -> None:
    ticks = count(0, 2_000_000)
    result = run_golden(Answering(SCORES), GOLDEN, lambda: next(ticks))
    assert result.latencies_ms == [2.0] * 8


def test_a_small_error_agrees() -> None:
    agreement, worst, passed, _ = _run(SCORES + np.float32(0.125))
    assert (agreement, passed) == (1.0, True)
    assert worst == pytest.approx(0.125, abs=1e-6)


def test_one_value_beyond_the_tolerance_fails() -> None:
    answers = SCORES.copy()
    answers[3, int(SCORES[3].argmin())] -= 1.0
    agreement, worst, passed, reason = _run(answers)
    assert (agreement, passed) == (1.0, False)
    assert worst == pytest.approx(1.0, abs=1e-6)
    assert reason == "largest error 1; at most 0.25"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_answer_that_is_not_finite_fails(bad: float) -> None:
    answers = SCORES.copy()
    answers[7, 0] = bad
    _, worst, passed, reason = _run(answers)
    assert worst == float("inf")
    assert not passed
    assert "not finite" in reason


def test_no_answer_agrees_with_samples_that_are_not_finite() -> None:
    expected = np.full_like(SCORES, np.nan)
    answers = SCORES.copy()
    answers[:, 0] = 9.0
    _, worst, passed, _ = _run(
        answers, GoldenSamples({"image": images(8)}, {"scores": expected}, 0.25, 0.9)
    )
    assert worst == float("inf")
    assert not passed


def test_a_share_below_the_required_agreement_fails() -> None:
    answers = SCORES.copy()
    answers[:2] = -answers[:2]
    agreement, _, passed, reason = _run(answers)
    assert (agreement, passed) == (0.75, False)
    assert reason == "75.0% of the golden samples agree; at least 90.0%"


def test_outputs_without_classes_agree_by_tolerance() -> None:
    values = SCORES[:, :1]
    golden = GoldenSamples({"image": images(8)}, {"scores": values}, 0.25, 0.9)
    assert _run(values + np.float32(0.1), golden)[2]
    assert _run(values + np.float32(0.5), golden)[0] == 0.0


def test_samples_that_hold_whole_tensors_run_too() -> None:
    golden = GoldenSamples({"image": images(8)[:, None]}, {"scores": SCORES[:, None]}, 0.25, 0.9)
    assert run_golden(Answering(SCORES), golden).passed


def test_samples_of_another_model_are_malformed(tmp_path: Path) -> None:
    session = linear_session(tmp_path)
    with pytest.raises(MalformedGolden, match="'other'"):
        run_golden(session, GoldenSamples({"other": images(8)}, {"scores": SCORES}, 0.1, 0.9))
    wide = {"image": images(8).astype(np.float64)}
    with pytest.raises(MalformedGolden, match="not float32"):
        run_golden(session, GoldenSamples(wide, {"scores": SCORES}, 0.1, 0.9))
    with pytest.raises(InvalidInput, match="shape"):
        run_golden(
            session, GoldenSamples({"image": images(8)[:, :, :4]}, {"scores": SCORES}, 0.1, 0.9)
        )
