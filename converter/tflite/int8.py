"""The int8 .tflite that ships: candidates tried, scored on samples kept from them, the best one
made again from all samples.

A candidate is one library's algorithm, and not every network suits it: what cannot be made is left
out and told, and is an error where nothing is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from converter.audit import Audit
from converter.errors import InvalidOutput, ModelFailed, NothingToQuantise, QuantisationFailed
from converter.evaluate import compare
from converter.outputs import find_classes
from converter.samples import Arrays, Samples
from converter.tflite.audit import audit_tflite
from converter.tflite.compact import compact
from converter.tflite.flatbuffer import parse
from converter.tflite.quantise import Settings, calibrate, quantise
from converter.tflite.runner import TfliteRunner, real
from converter.tflite.source import LAYERS, TfliteModel, operators

PLAIN = Settings("minimum and maximum")
CANDIDATES = (
    PLAIN,
    Settings("averaged"),
    Settings("minimum and maximum", "OCTAV"),
)
"""The first one wins a tie."""
_REMEDY = "export the model with float32 tensors and built-in operators"
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
    """Bytes that ship, how they were made, what each candidate scored, and what runs in int8.

    `notes`: which candidates the tool could not make, and why.
    """

    data: bytes
    chosen: str
    scores: tuple[Score, ...]
    audit: Audit
    notes: tuple[str, ...] = ()


def make_tflite_int8(
    model: TfliteModel,
    calibration: Samples,
    told: Callable[[float], None],
    *,
    integer_io: bool = False,
    searching: bool = True,
) -> TfliteInt8:
    """The best int8 form of a float model; `told` hears shares in 0..1.

    `searching`: candidates are tried beyond the plain one. One that its library cannot make is left
    out and noted. Raises `NothingToQuantise`, `FloatBoundary`, `ModelFailed` (the float model), and
    `QuantisationFailed` where no candidate can be made.
    """
    if not any(code in LAYERS for code, _ in operators(parse(model.data, model.name))):
        raise NothingToQuantise(
            f"{model.name}: no convolution and no matrix product; int8 would not help, ship it as"
            " float"
        )
    workshop = _Workshop(model, integer_io)
    share = len(CANDIDATES) / (len(CANDIDATES) + 1) if searching else 0.0
    scores: dict[Settings, Score] = {}
    ranked = [PLAIN]
    if searching:
        scores = workshop.judge(calibration, lambda done: told(share * done))
        # The first of equals wins, since sorting keeps their order.
        ranked = sorted(scores, key=lambda settings: -scores[settings].sqnr_db)
    chosen, data = workshop.first(ranked, calibration, lambda d: told(share + (1 - share) * d))
    found = audit_tflite(data)
    if found.integer == 0:
        raise NothingToQuantise(
            f"{model.name}: no layer of the int8 model would run in integers; ship it as float"
        )
    return TfliteInt8(data, chosen.name, tuple(scores.values()), found, workshop.notes())


class _Workshop:
    """Makes candidates of one model, and remembers those that could not be made."""

    def __init__(self, model: TfliteModel, integer_io: bool) -> None:
        self._model, self._integer_io = model, integer_io
        self._failures: dict[Settings, QuantisationFailed] = {}

    def judge(self, calibration: Samples, told: Callable[[float], None]) -> dict[Settings, Score]:
        """The scores of those that can be made, on samples kept from them."""
        fit, judge = split(calibration)
        reference = TfliteRunner(self._model.data, self._model.batch).run(judge)
        scores: dict[Settings, Score] = {}
        for place, settings in enumerate(CANDIDATES):

            def step(done: float, place: int = place) -> None:
                told((place + done) / len(CANDIDATES))

            with self._noted(settings):
                made = self._make(fit, settings, step)
                scores[settings] = score(self._model, made, judge, reference, settings.name)
        return scores

    def first(
        self, ranked: list[Settings], samples: Samples, told: Callable[[float], None]
    ) -> tuple[Settings, bytes]:
        """The first of `ranked` that can be made of all samples; raises the first failure."""
        for settings in ranked:
            with self._noted(settings):
                return settings, self._make(samples, settings, told)
        first = next(iter(self._failures.values()))
        raise QuantisationFailed(f"{first}; {_REMEDY}") from first

    def notes(self) -> tuple[str, ...]:
        """What was left out."""
        return tuple(
            f"tflite-int8: the candidate '{settings.name}' is left out: {failure}"
            for settings, failure in self._failures.items()
        )

    def _make(self, samples: Samples, settings: Settings, told: Callable[[float], None]) -> bytes:
        return make_candidate(self._model, samples, settings, told, integer_io=self._integer_io)

    @contextmanager
    def _noted(self, settings: Settings) -> Iterator[None]:
        try:
            yield
        except QuantisationFailed as error:
            self._failures[settings] = error
        except (InvalidOutput, ModelFailed) as error:  # the runtime's answer to what the tool made
            failure = QuantisationFailed(f"{self._model.name}: its int8 model is unfit: {error}")
            failure.__cause__ = error
            self._failures[settings] = failure


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


def score(model: TfliteModel, made: bytes, judge: Samples, reference: Arrays, name: str) -> Score:
    """A candidate beside the float model's answers, `reference`, both through LiteRT."""
    runner = TfliteRunner(made, model.batch)
    answers = real(runner, runner.run(judge))
    classes = find_classes(list(model.outputs), ())
    found = compare(reference, answers, None, classes)
    return Score(name, found.sqnr_db, found.agreement)
