"""int8 .tflite models: good, small, the same each time, with the boundary that was asked for."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from contract.ids import digest_of
from converter import errors
from converter.evaluate import Comparison, compare
from converter.samples import Samples
from converter.tflite import int8, quantise
from converter.tflite.compact import compact
from converter.tflite.flatbuffer import pack, parse
from converter.tflite.int8 import TfliteInt8, make_tflite_int8, split
from converter.tflite.runner import TfliteRunner, real
from converter.tflite.source import TfliteModel, check_tflite
from tests.converter.tflite import models


@pytest.fixture(scope="module")
def source() -> TfliteModel:
    return check_tflite(models.classifier(), "digits.tflite")


@pytest.fixture(scope="module")
def made(source: TfliteModel) -> TfliteInt8:
    return make_tflite_int8(source, models.calibration(), lambda share: None)


def compared(source: TfliteModel, data: bytes) -> Comparison:
    samples = models.evaluation()
    runner = TfliteRunner(data)
    answers = real(runner, runner.run(samples))
    reference = TfliteRunner(source.data).run(samples)
    return compare(reference, answers, samples.labels, source.outputs[0])


def test_it_answers_as_the_float_model(source: TfliteModel, made: TfliteInt8) -> None:
    found = compared(source, made.data)
    assert found.accuracy_float32 is not None
    assert found.accuracy is not None
    assert found.accuracy_float32 > 85
    assert found.accuracy >= found.accuracy_float32 - 1
    assert found.agreement >= 98
    assert found.sqnr_db > 25


def test_it_is_a_fraction_of_the_size(made: TfliteInt8) -> None:
    assert len(made.data) < 0.5 * len(models.classifier())


def test_every_layer_runs_in_integers(made: TfliteInt8) -> None:
    assert (made.audit.integer, made.audit.floating) == (2, 0)


def test_the_boundary_stays_float_and_keeps_its_names(
    source: TfliteModel, made: TfliteInt8
) -> None:
    runner = TfliteRunner(made.data)
    assert tuple(runner.inputs) == source.inputs
    assert tuple(runner.output_specs) == source.outputs


def test_the_best_candidate_is_chosen(made: TfliteInt8) -> None:
    best = max(made.scores, key=lambda score: score.sqnr_db)
    assert made.chosen == best.candidate
    assert [score.candidate for score in made.scores] == [c.name for c in int8.CANDIDATES]
    assert all(score.agreement > 90 for score in made.scores)


@pytest.fixture(scope="module")
def normalised() -> TfliteModel:
    """Constants in a MUL and an ADD, which OCTAV does not know."""
    return check_tflite(models.normalised(), "scans.tflite")


@pytest.mark.parametrize("integer_io", [False, True])
def test_a_candidate_that_cannot_be_made_is_left_out_and_told(
    normalised: TfliteModel, integer_io: bool
) -> None:
    made = make_tflite_int8(
        normalised, models.calibration(), lambda share: None, integer_io=integer_io
    )
    assert [score.candidate for score in made.scores] == ["minimum and maximum", "averaged"]
    assert made.chosen in {score.candidate for score in made.scores}
    (note,) = made.notes
    assert "'minimum and maximum, weights by OCTAV' is left out: scans.tflite: " in note
    assert "the constant [8, 8, 1] of MUL, operator 1 of 6" in note
    found = compared(normalised, made.data)
    assert found.accuracy is not None
    assert found.accuracy_float32 is not None
    assert found.accuracy_float32 > 85
    assert found.accuracy >= found.accuracy_float32 - 1


def test_no_candidate_at_all_is_an_error_that_names_file_and_cause(
    normalised: TfliteModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8, "CANDIDATES", int8.CANDIDATES[2:])
    with pytest.raises(errors.QuantisationFailed) as found:
        make_tflite_int8(normalised, models.calibration(), lambda share: None)
    told = str(found.value)
    assert told.startswith("scans.tflite: ai-edge-quantizer failed")
    assert "of MUL, operator 1 of 6. Error: Unsupported symmetry" in told
    assert told.endswith("export the model with float32 tensors and built-in operators")


def test_without_search_the_plain_candidate_is_the_only_one(normalised: TfliteModel) -> None:
    told: list[float] = []
    made = make_tflite_int8(normalised, models.calibration(), told.append, searching=False)
    assert (made.chosen, made.scores, made.notes) == ("minimum and maximum", (), ())
    assert told == sorted(told)
    assert told[0] < 0.1
    assert compared(normalised, made.data).agreement >= 97


def test_what_the_runtime_refuses_of_a_candidate_is_left_out_too(
    source: TfliteModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = int8.make_candidate

    def damaged(*given: object, **options: object) -> bytes:
        made = make(*given, **options)  # type: ignore[arg-type]  # handed through as they came
        return made if given[2] is int8.PLAIN else made[: len(made) // 2]

    monkeypatch.setattr(int8, "make_candidate", damaged)
    made = make_tflite_int8(source, models.calibration(), lambda share: None)
    assert [score.candidate for score in made.scores] == [int8.PLAIN.name]
    assert ["digits.tflite: its int8 model is unfit" in note for note in made.notes] == [True] * 2


def test_the_judges_calibrate_nothing() -> None:
    fit, judge = split(models.calibration())
    assert (len(fit), len(judge)) == (300, 100)
    rows = {row.tobytes() for row in fit.arrays["image"]}
    assert not any(row.tobytes() in rows for row in judge.arrays["image"])


def test_a_few_samples_do_both() -> None:
    few = models.calibration().take(slice(0, 5))
    assert [len(part) for part in split(few)] == [5, 5]


def test_integers_at_the_boundary(source: TfliteModel) -> None:
    made = make_tflite_int8(source, models.calibration(), lambda share: None, integer_io=True)
    runner = TfliteRunner(made.data)
    for spec in (*runner.inputs, *runner.output_specs):
        assert spec.dtype == "int8"
        assert spec.quantisation is not None
    assert compared(source, made.data).agreement >= 98


def test_a_float_boundary_where_integers_were_asked_for_is_refused(
    source: TfliteModel, made: TfliteInt8
) -> None:
    with pytest.raises(errors.FloatBoundary, match="'image' is still float32"):
        compact(made.data, source.inputs, source.outputs, integer_io=True)


def test_a_model_of_fixed_batch(source: TfliteModel) -> None:
    fixed = check_tflite(models.classifier(1), "fixed.tflite")
    made = make_tflite_int8(fixed, models.calibration().take(slice(0, 40)), lambda share: None)
    assert TfliteRunner(made.data, 1).inputs == list(fixed.inputs)


def test_a_model_without_layers_is_not_quantised() -> None:
    graph = models.Graph()
    x, y = graph.tensor("x", [-1, 4]), graph.tensor("y", [-1, 4])
    graph.operator(schema.BuiltinOperator.LOGISTIC, [x], y)
    source = check_tflite(graph.bytes([x], [y]), "none.tflite")
    samples = Samples("c", {"x": np.random.default_rng(0).random((9, 4), dtype=np.float32)})
    with pytest.raises(errors.NothingToQuantise, match=r"none\.tflite"):
        make_tflite_int8(source, samples, lambda share: None)


def test_progress_grows_to_the_end(source: TfliteModel) -> None:
    told: list[float] = []
    make_tflite_int8(source, models.calibration(), told.append)
    assert told == sorted(told)
    assert 0 <= told[0] < 0.1
    assert 0.7 < told[-1] <= 1


def test_equal_vectors_are_stored_once_and_read_alike(made: TfliteInt8) -> None:
    model = parse(made.data, "made")
    assert pack(model) == made.data
    found = [t.quantization for t in model.subgraphs[0].tensors if t.quantization is not None]
    per_channel = [each for each in found if np.size(each.zeroPoint) > 1]
    assert len(per_channel) > 1
    for each in per_channel:
        each.zeroPoint = list(each.zeroPoint)  # a list is written anew each time
    saved = len(pack(model)) - len(made.data)
    assert saved >= 8 * sum(np.size(each.zeroPoint) for each in per_channel[2:])


def test_weights_lie_on_16_byte_edges(made: TfliteInt8) -> None:
    model = parse(made.data, "x")
    for buffer in model.buffers:
        if buffer.data is not None and len(buffer.data) >= 64:
            assert made.data.index(bytes(buffer.data)) % 16 == 0


def test_both_sets_of_kernels_give_the_same_classes(made: TfliteInt8) -> None:
    samples = models.evaluation()
    fast = TfliteRunner(made.data).run(samples)["scores"].argmax(axis=1)
    reference = TfliteRunner(made.data, reference=True).run(samples)["scores"].argmax(axis=1)
    assert (fast == reference).mean() >= 0.97


_AGAIN = """
from contract.ids import digest_of
from converter.tflite.int8 import make_tflite_int8
from converter.tflite.source import check_tflite
from tests.converter.tflite import models
source = check_tflite(models.classifier(), "digits.tflite")
print(digest_of(make_tflite_int8(source, models.calibration(), lambda share: None).data))
"""


def test_another_process_with_another_hash_seed_makes_the_same_bytes(made: TfliteInt8) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _AGAIN],
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == digest_of(made.data)


def test_the_quantisers_own_failure_is_named(
    source: TfliteModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(errors.QuantisationFailed, match="ai-edge-quantizer failed"):
        quantise.quantise(source, {}, int8.CANDIDATES[0], integer_io=False)


def test_an_absent_quantiser_is_named(source: TfliteModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_quantizer", None)
    with pytest.raises(errors.ExtraMissing, match=r"outrider\[tflite\]"):
        make_tflite_int8(source, models.calibration(), lambda share: None)
