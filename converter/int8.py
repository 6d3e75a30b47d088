"""The int8 artifact: searched for, quantised, compacted, audited; softened where it must be.

uint8 activations fuse on every processor that we measured, int8 ones on some graphs only; so uint8
is taken, and int8 is tried where uint8 left a layer in float.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType

from contract.manifest import Quantisation, TensorSpec
from converter.audit import Audit, audit
from converter.boundary import IntegerModel, integer_boundary
from converter.compact import compact
from converter.errors import NothingToQuantise
from converter.integers import IntegerRunner
from converter.quantisation.calibration import split
from converter.quantisation.forms import Form, Forms
from converter.quantisation.layers import LayerError, layer_errors
from converter.quantisation.mixed import find_float_units, nodes_of, target
from converter.quantisation.scoring import Judge, Score
from converter.quantisation.search import PLAIN, Candidate, Recipe, search
from converter.quantise import LAYERS, quantise
from converter.samples import Samples
from converter.sessions import Runner

Told = Callable[[float], None]


@dataclass(frozen=True)
class Int8Model:
    """Bytes that ship, how they were made, and what the audit found.

    `kept_float`: nodes that mixed precision left alone. `layers`: the error of each layer.
    """

    data: bytes
    activations: str
    audit: Audit
    notes: tuple[str, ...]
    recipe: Recipe = PLAIN
    candidates: tuple[Candidate, ...] = ()
    kept_float: tuple[str, ...] = ()
    layers: tuple[LayerError, ...] = ()
    quantisation: Mapping[str, Quantisation] = field(default_factory=dict)
    """What integers mean at the model's boundary, by name; empty where it is float."""


class Int8Workshop:
    """Makes int8 models of one canonical float model; `work` is for files. Calibrates at once.

    `integer_io`: inputs and outputs are uint8 as well. `searching`: candidates are tried beyond
    the plain model, which needs minimum and maximum only.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        calibration: Samples,
        batch: int,
        work: Path,
        told: Told,
        *,
        integer_io: bool = False,
        searching: bool = True,
    ) -> None:
        self._searching = searching
        self._work, self._batch, self._integer_io = work, batch, integer_io
        fit, held = split(len(calibration))
        self._held = calibration.take(held if len(held) else fit)
        self._model = model
        self._forms = Forms(model, calibration, batch, told, counted=searching)

    def make(self, told: Told) -> Int8Model:
        """The best int8 model, or the plain one at once when not `searching`."""
        if not self._searching:
            return self._checked(PLAIN)
        best, tried = search(self._forms, self._judge(), told)
        return replace(self._checked(best.recipe), candidates=tuple(tried))

    def soften(self, made: Int8Model, max_drop: float, told: Told) -> Int8Model | None:
        """`made` with the fewest units in float that promise to lose at most `max_drop` points.

        None where that would leave less than half of the layers in integers.
        """
        form = self._form(made.recipe, whole=False)
        judge, ranges = self._judge(), form.ranges(made.recipe.method, whole=False)
        kind = _KINDS[made.activations]

        def trial(kept: frozenset[str]) -> Score:
            return judge.score(quantise(form.model, ranges, kind, kept)[0])

        units = find_float_units(form.model, trial, target(trial(frozenset()), max_drop), told)
        if units is None:
            return None
        soft = self._build(made.recipe, made.activations, nodes_of(units))
        return replace(soft, candidates=made.candidates)

    def _checked(self, recipe: Recipe) -> Int8Model:
        best = self._build(recipe, "uint8")
        if best.audit.floating:
            # A tie keeps uint8, the type that other versions of the runtime fuse more often.
            signed = self._build(recipe, "int8")
            best = min((best, signed), key=lambda made: made.audit.floating)
        if best.audit.integer == 0:
            raise NothingToQuantise(
                "no layer of the int8 model would run in integers, and no network is"
                " shipped as float alone (docs/models.md); give one with layers that int8 knows"
            )
        return best

    def _build(self, recipe: Recipe, kind: str, kept: frozenset[str] = frozenset()) -> Int8Model:
        form = self._form(recipe, whole=True)
        ranges = form.ranges(recipe.method, whole=True)
        quantised, notes = quantise(form.model, ranges, _KINDS[kind], kept)
        shipped = IntegerModel(quantised, {})
        if self._integer_io:
            shipped = integer_boundary(quantised, ranges)
        data = compact(shipped.model)
        names = [node.name for node in quantised.graph.node if node.op_type in LAYERS]
        return Int8Model(
            data=data,
            activations=kind,
            audit=audit(data, self._work, names),
            notes=tuple(dict.fromkeys(notes)),
            recipe=recipe,
            kept_float=tuple(n.name for n in form.model.graph.node if n.name in kept),
            layers=tuple(layer_errors(form.model, quantised, self._held, self._batch)),
            quantisation=shipped.quantisation,
        )

    def _form(self, recipe: Recipe, *, whole: bool) -> Form:
        form = self._forms.get(recipe.form, whole=whole) or self._forms.plain
        return self._forms.corrected(form, whole=whole) if recipe.corrected else form

    def _judge(self) -> Judge:
        return Judge(self._model, self._held, self._batch)


def load(made: Int8Model, inputs: Sequence[TensorSpec], batch: int) -> Runner | IntegerRunner:
    """The model, to be spoken to in real units; `inputs` are the float model's."""
    if made.quantisation:
        return IntegerRunner(made.data, inputs, made.quantisation, batch)
    return Runner(made.data, batch)


def make_int8(
    model: onnx.ModelProto, calibration: Samples, batch: int, work: Path, told: Told
) -> Int8Model:
    """The int8 model of a canonical float model; `told` hears shares in 0..1."""
    workshop = Int8Workshop(model, calibration, batch, work, lambda share: told(0.3 * share))
    return workshop.make(lambda share: told(0.3 + 0.7 * share))


_KINDS = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8}
