"""Counting: every row once, however it came, and only counts remain."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading

import msgspec
import numpy as np
import pytest

from contract import codec
from contract.ids import digest_of
from contract.manifest import TensorSpec
from contract.messages import DriftWindow, Report, Stamp
from model.drift import DriftCounter, class_shares, out_of_range_share
from model.errors import InvalidInput
from model.profile import ReferenceProfile, build_profile
from model.tensors import Array
from tests.model.builders import IMAGE, SCORES, images, rng

PROFILE_DIGEST, DIGEST = "a" * 64, "b" * 64
REFERENCE = images(400, 1)
LOGITS = rng(1).normal(0, 2, (400, 10)).astype(np.float32)
PROFILE = build_profile(
    "onnx-int8", [IMAGE], [SCORES], {"image": REFERENCE}, {"scores": LOGITS}, 10
)
TABLE = TensorSpec(name="t", dtype="float32", shape=[-1, 2])


def _counter(profile: ReferenceProfile = PROFILE) -> DriftCounter:
    return DriftCounter(profile, PROFILE_DIGEST, DIGEST)


def _counted(scans: Array, logits: Array, step: int) -> DriftWindow:
    counter = _counter()
    for i in range(0, len(scans), step):
        counter.count({"image": scans[i : i + step]}, {"scores": logits[i : i + step]})
    return counter.window()


def _table(rows: list[list[float]], step: int = 1) -> DriftWindow:
    reference = rng(2).random((200, 2), dtype=np.float32)
    answers = np.zeros((200, 1), np.float32)
    value = TensorSpec(name="v", dtype="float32", shape=[-1, 1])
    profile = build_profile("a", [TABLE], [value], {"t": reference}, {"v": answers})
    counter = _counter(profile)
    array = np.array(rows, np.float32)
    for i in range(0, len(array), step):
        counter.count({"t": array[i : i + step]}, {"v": answers[:step]})
    return counter.window()


def test_nothing_counted_is_a_window_of_zeros() -> None:
    window = _counter().window()
    assert (window.digest, window.profile) == (DIGEST, PROFILE_DIGEST)
    assert window.classes == [0] * 10
    assert all(f.n == 0 and len(f.bins) == 16 for f in window.features.values())
    assert class_shares(window) == []
    assert out_of_range_share(window) == 0.0


def test_the_reference_counts_as_it_did_when_the_profile_was_made() -> None:
    window = _counted(REFERENCE, LOGITS, 7)
    assert {name: f.bins for name, f in window.features.items()} == {
        name: b.bins for name, b in PROFILE.features.items()
    }
    assert PROFILE.classes is not None
    assert window.classes == PROFILE.classes.counts
    assert window.confidence is not None
    assert window.entropy is not None
    assert window.confidence.bins == PROFILE.classes.confidence.bins
    assert window.entropy.bins == PROFILE.classes.entropy.bins
    assert out_of_range_share(window) == 0.0


@pytest.mark.parametrize("step", [1, 3, 64, 65, 400])
def test_the_counts_do_not_depend_on_how_rows_were_batched(step: int) -> None:
    scans = images(400, 8)
    assert _counted(scans, LOGITS, step) == _counted(scans, LOGITS, 5)


def test_a_window_holds_what_did_not_fill_a_block() -> None:
    counter = _counter()
    counter.count({"image": REFERENCE[:1]}, {"scores": LOGITS[:1]})
    first = counter.window()
    assert first.features["image.mean"].n == 1
    assert sum(first.classes) == 1
    assert counter.window() == first


def test_a_window_is_cumulative() -> None:
    counter = _counter()
    for _ in range(3):
        counter.count({"image": REFERENCE[:50]}, {"scores": LOGITS[:50]})
        window = counter.window()
    assert window.features["image.mean"].n == 150


def test_what_the_caller_changes_afterwards_is_not_counted() -> None:
    counter = _counter()
    scan, logits = REFERENCE[:1].copy(), LOGITS[:1].copy()
    counter.count({"image": scan}, {"scores": logits})
    scan[:], logits[:] = np.nan, np.nan
    assert counter.window().features["image.mean"].missing == 0
    assert sum(counter.window().classes) == 1


def test_values_outside_the_reference_are_below_or_above() -> None:
    window = _table([[-5.0, 0.5], [5.0, 0.5], [5.0, 0.5], [0.5, 0.5]])
    found = window.features["t[0]"]
    assert (found.below, found.above, found.n) == (1, 2, 4)
    assert found.bins[0] == 1
    assert found.bins[-1] == 2
    assert out_of_range_share(window) == 0.75


def test_what_is_not_finite_is_missing_and_not_out_of_range() -> None:
    window = _table([[math.nan, 0.5], [math.inf, 0.5], [-math.inf, 0.5], [9.0, 0.5]])
    found = window.features["t[0]"]
    assert (found.missing, found.n, sum(found.bins)) == (3, 1, 1)
    assert (found.below, found.above) == (0, 1)
    assert out_of_range_share(window) == 0.25


def test_answers_that_are_not_finite_are_missing_and_have_no_class() -> None:
    logits = LOGITS[:4].copy()
    logits[1, 2] = np.nan
    window = _counted(REFERENCE[:4], logits, 4)
    assert sum(window.classes) == 3
    assert window.confidence is not None
    assert (window.confidence.n, window.confidence.missing) == (3, 1)


@pytest.mark.parametrize("step", [1, 10, 64, 300])
def test_a_stuck_sensor_runs_on_over_blocks(step: int) -> None:
    moving = rng(3).random(300).tolist()
    rows = [[0.25 if 20 <= i < 220 else value, value] for i, value in enumerate(moving)]
    window = _table(rows, step)
    assert window.features["t[0]"].longest_run == 200
    assert window.features["t[1]"].longest_run == 1


def test_a_run_ends_with_a_missing_value() -> None:
    rows = [[0.5, 0.5]] * 10 + [[math.nan, 0.5]] + [[0.5, 0.5]] * 4
    window = _table(rows)
    assert window.features["t[0]"].longest_run == 10
    assert window.features["t[1]"].longest_run == 15


def test_class_shares_add_up_to_one() -> None:
    shares = class_shares(_counted(REFERENCE, LOGITS, 50))
    assert sum(shares) == pytest.approx(1.0)
    assert shares[3] == pytest.approx((LOGITS.argmax(axis=1) == 3).mean())


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ({}, {"scores": LOGITS[:1]}),
        ({"image": REFERENCE[0]}, {"scores": LOGITS[:1]}),
        ({"image": REFERENCE[:1, :, :4]}, {"scores": LOGITS[:1]}),
        ({"image": REFERENCE[:1]}, {}),
        ({"image": REFERENCE[:1]}, {"scores": LOGITS[:1, :9]}),
    ],
)
def test_tensors_that_do_not_fit_are_refused_and_not_counted(
    inputs: dict[str, Array], outputs: dict[str, Array]
) -> None:
    counter = _counter()
    with pytest.raises(InvalidInput):
        counter.count(inputs, outputs)
    assert counter.window() == _counter().window()


def test_an_empty_batch_counts_nothing() -> None:
    counter = _counter()
    counter.count({"image": REFERENCE[:0]}, {"scores": LOGITS[:0]})
    assert counter.window() == _counter().window()


def test_empty_batches_do_not_pile_up() -> None:
    counter = _counter()
    for _ in range(500):
        counter.count({"image": REFERENCE[:0]}, {"scores": LOGITS[:0]})
    assert len(counter._waiting) < 64


def test_a_model_of_scalars_has_no_features_and_no_classes() -> None:
    scalar = TensorSpec(name="s", dtype="float32", shape=[])
    arrays = {"s": np.ones(4, np.float32)}
    profile = build_profile("a", [scalar], [scalar], arrays, arrays)
    counter = _counter(profile)
    counter.count({"s": np.float32(1).reshape(())}, {"s": np.float32(1).reshape(())})
    assert counter.window().features == {}


def test_inputs_that_are_no_rows_and_other_outputs_are_ignored() -> None:
    counter = _counter()
    counter.count(
        {"image": REFERENCE[:2], "threshold": np.zeros(1)},
        {"scores": LOGITS[:2], "label": np.zeros(2, np.int64)},
    )
    assert counter.window().features["image.mean"].n == 2


def test_large_inputs_do_not_wait_in_memory() -> None:
    spec = TensorSpec(name="x", dtype="float32", shape=[-1, 3, 300, 300])
    frames = rng(4).random((2, 3, 300, 300), dtype=np.float32)
    profile = build_profile("a", [spec], [SCORES], {"x": frames}, {"scores": LOGITS[:2]}, 10)
    counter = _counter(profile)
    counter.count({"x": frames[:1]}, {"scores": LOGITS[:1]})
    assert counter._bytes == 0
    assert counter.window().features["x.mean"].n == 1


def test_requests_of_several_sizes_are_counted_one_by_one() -> None:
    spec = TensorSpec(name="x", dtype="float32", shape=[-1, 1, -1, -1])
    profile = build_profile("a", [spec], [SCORES], {"x": REFERENCE}, {"scores": LOGITS}, 10)
    counter = _counter(profile)
    counter.count({"x": REFERENCE[:3]}, {"scores": LOGITS[:3]})
    counter.count({"x": rng().random((2, 1, 5, 9))}, {"scores": LOGITS[3:5]})
    window = counter.window()
    assert window.features["x.mean"].n == 5
    assert sum(window.classes) == 5


def test_threads_lose_no_row() -> None:
    counter = _counter()

    def serve() -> None:
        for i in range(100):
            counter.count({"image": REFERENCE[i : i + 1]}, {"scores": LOGITS[i : i + 1]})
            if i % 10 == 0:
                counter.window()

    threads = [threading.Thread(target=serve) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    window = counter.window()
    assert sum(window.classes) == window.features["image.mean"].n == 400


def test_a_window_fits_its_message() -> None:
    window = _counted(REFERENCE, LOGITS, 64)
    report = Report(
        device="cam-1",
        seq=1,
        stamp=Stamp("0" * 32, 1, 1, True),
        window_ms=1,
        drift={"digits": window},
    )
    assert codec.decode(Report, codec.encode(report)) == report


def test_another_process_with_another_hash_seed_counts_alike() -> None:
    script = (
        "import msgspec\nfrom contract.ids import digest_of\n"
        "from tests.model.test_drift import _counted, LOGITS\n"
        "from tests.model.builders import images\n"
        "print(digest_of(msgspec.json.encode(_counted(images(99, 6), LOGITS[:99], 7))))"
    )
    here = digest_of(msgspec.json.encode(_counted(images(99, 6), LOGITS[:99], 7)))
    for seed in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        )
        assert done.stdout.strip() == here
