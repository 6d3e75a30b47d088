"""The int8 .tflite that ships: candidates tried, scored on samples kept from them, the best one
made again from all samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from converter.audit import Audit
from converter.errors import NothingToQuantise
from converter.evaluate import compare
from converter.outputs import find_classes
from converter.samples import Samples
from converter.tflite.audit import audit_tflite
from converter.tflite.compact import compact
from converter.tflite.flatbuffer import parse
from converter.tflite.quantise import Settings, calibrate, quantise
from converter.tflite.runner import TfliteRunner, real
from converter.tflite.source import LAYERS, TfliteModel, operators

CANDIDATES = (
    Settings("minimum and maximum"),
    Settings("averaged"),
    Settings("minimum and maximum", "OCTAV"),
)
"""The first one wins a tie."""
KEPT_BACK = 4
"""Every fourth calibration sample judges, and calibrates nothing before the choice is made."""


@dataclass(frozen=True)
class Score:
    """One candidate on the samples that were kept back; agreement in percent."""

    candidate: str
    sqnr_db: float
    agreement: float


@dataclass(frozen=True)
class TfliteInt8:
    """Bytes that ship, how they were made, what each candidate scored, and what runs in int8."""

    data: bytes
    chosen: str
    scores: tuple[Score, ...]
    audit: Audit


def make_tflite_int8(
    model: TfliteModel,
    calibration: Samples,
    told: Callable[[float], None],
    *,
    integer_io: bool = False,
) -> TfliteInt8:
    """The best int8 form of a float model; `told` hears shares in 0..1.

    Raises `NothingToQuantise`, `QuantisationFailed`, `ModelFailed`, `FloatBoundary`.
    """
    if not any(code in LAYERS for code, _ in operators(parse(model.data, model.name))):
        raise NothingToQuantise(
            f"{model.name}: no convolution and no matrix product; int8 would not help, ship it as"
            " float"
        )
    share = 1 / (len(CANDIDATES) + 1)
    fit, judge = split(calibration)
    scores: list[Score] = []
    for place, settings in enumerate(CANDIDATES):

        def step(done: float, place: int = place) -> None:
            told(share * (place + done))

        made = make_candidate(model, fit, settings, step, integer_io=integer_io)
        scores.append(score(model, made, judge, settings.name))
    best = max(range(len(scores)), key=lambda place: (scores[place].sqnr_db, -place))
    data = make_candidate(
        model,
        calibration,
        CANDIDATES[best],
        lambda done: told(1 - share + share * done),
        integer_io=integer_io,
    )
    found = audit_tflite(data)
    if found.integer == 0:
        raise NothingToQuantise(
            f"{model.name}: no layer of the int8 model would run in integers; ship it as float"
        )
    return TfliteInt8(data, scores[best].candidate, tuple(scores), found)


def split(calibration: Samples) -> tuple[Samples, Samples]:
    """What fits and what judges; of too few samples, all do both."""
    if len(calibration) < 2 * KEPT_BACK:
        return calibration, calibration
    places = range(len(calibration))
    kept = [place for place in places if place % KEPT_BACK == KEPT_BACK - 1]
    rest = [place for place in places if place % KEPT_BACK != KEPT_BACK - 1]
    return calibration.take(rest), calibration.take(kept)


def make_candidate(
    model: TfliteModel,
    samples: Samples,
    settings: Settings,
    told: Callable[[float], None],
    *,
    integer_io: bool = False,
) -> bytes:
    """One int8 model, compacted."""
    ranges = calibrate(model, samples, settings, told)
    made = quantise(model, ranges, settings, integer_io=integer_io)
    return compact(made, model.inputs, model.outputs, integer_io=integer_io)


def score(model: TfliteModel, made: bytes, judge: Samples, name: str) -> Score:
    """A candidate beside the float model, both through LiteRT."""
    runner = TfliteRunner(made, model.batch)
    reference = TfliteRunner(model.data, model.batch).run(judge)
    answers = real(runner, runner.run(judge))
    classes = find_classes(list(model.outputs), ())
    found = compare(reference, answers, None, classes)
    return Score(name, found.sqnr_db, found.agreement)
