"""Counting what a served model sees and answers, against its reference profile.

Raw data is looked at once and forgotten: what remains are counts, which add exactly over time and
devices as long as the profile is the same. A verdict is not made here. No clock and no I/O; the
counter may be called from any thread.
"""

from __future__ import annotations

import threading

import numpy as np

from contract.messages import DriftWindow, FeatureCounts
from model.answers import answers_of
from model.binning import CONFIDENCE_BINS, Binning
from model.errors import InvalidInput
from model.features import Floats, feature_names, feature_rows, watched
from model.profile import ReferenceProfile, class_spec
from model.tensors import Array, Tensors
from model.windows import add, class_shares, difference, out_of_range_share

__all__ = ["DriftCounter", "add", "class_shares", "difference", "out_of_range_share"]

BLOCK_ROWS = 64
BLOCK_BYTES = 1 << 20
"""Requests wait until they fill a block of this many rows or bytes, then are counted at once."""
_STRIDE = CONFIDENCE_BINS
_CONFIDENCE, _ENTROPY = "confidence", "entropy"

_Waiting = tuple[dict[str, Array], Array | None]


class DriftCounter:
    """Cumulative counts of one served digest since this counter was made."""

    def __init__(self, profile: ReferenceProfile, profile_digest: str, digest: str) -> None:
        self._profile = profile
        self._profile_digest = profile_digest
        self._digest = digest
        self._inputs = watched(profile.inputs)
        self._names = feature_names(profile.inputs)
        self._class_spec = class_spec(profile)
        self._columns = _Columns([profile.features[name] for name in self._names])
        self._answers = _Columns(_answer_binnings(profile))
        self._classes = np.zeros(self._class_spec.shape[-1] if self._class_spec else 0, np.int64)
        self._lock = threading.Lock()
        self._waiting: list[_Waiting] = []
        self._rows = 0
        self._bytes = 0

    def count(self, inputs: Tensors, outputs: Tensors) -> None:
        """Count one request and its answer; copies what it keeps.

        Raises `InvalidInput` when the tensors are not those of the profile; nothing is counted
        then.
        """
        kept = {spec.name: _kept(inputs, spec.name, len(spec.shape)) for spec in self._inputs}
        answer = None
        if self._class_spec is not None:
            answer = _kept(outputs, self._class_spec.name, len(self._class_spec.shape))
        self._require_fit(kept, answer)
        # A request without rows counts as one here: many of them would wait for ever otherwise.
        rows = max([1, *(len(array) for array in kept.values())])
        size = sum(array.nbytes for array in kept.values())
        with self._lock:
            self._waiting.append((kept, answer))
            self._rows += rows
            self._bytes += size
            if self._rows >= BLOCK_ROWS or self._bytes >= BLOCK_BYTES:
                self._flush()

    def window(self) -> DriftWindow:
        """Everything that was counted so far."""
        with self._lock:
            self._flush()
            answers = dict(zip((_CONFIDENCE, _ENTROPY), self._answers.counts(), strict=False))
            return DriftWindow(
                digest=self._digest,
                profile=self._profile_digest,
                features=dict(zip(self._names, self._columns.counts(), strict=True)),
                classes=self._classes.tolist(),
                confidence=answers.get(_CONFIDENCE),
                entropy=answers.get(_ENTROPY),
            )

    def _require_fit(self, kept: dict[str, Array], answer: Array | None) -> None:
        for spec in self._inputs:
            shape = kept[spec.name].shape
            if any(
                want not in (-1, have) for want, have in zip(spec.shape[1:], shape[1:], strict=True)
            ):
                raise InvalidInput(f"input {spec.name!r} has shape {list(shape)}, not {spec.shape}")
        if len({len(array) for array in kept.values()}) > 1:
            raise InvalidInput("inputs have different numbers of rows")
        if self._class_spec and answer is not None and answer.shape[-1] != len(self._classes):
            raise InvalidInput(f"output {self._class_spec.name!r} has {answer.shape[-1]} classes")

    def _flush(self) -> None:
        waiting, self._waiting, self._rows, self._bytes = self._waiting, [], 0, 0
        for inputs, answer in _blocks(waiting):
            self._columns.add(feature_rows(self._profile.inputs, inputs))
            if answer is not None:
                self._add_answers(answer)

    def _add_answers(self, answer: Array) -> None:
        spec, reference = self._class_spec, self._profile.classes
        if spec is None or reference is None:
            return
        answers = answers_of(spec, {spec.name: answer}, reference.softmax)
        chosen = answers.classes[answers.classes >= 0]
        self._classes += np.bincount(chosen, minlength=len(self._classes))
        self._answers.add(np.stack([answers.confidence, answers.entropy], axis=1))


class _Columns:
    """Counts of several columns over their binnings: one bincount a block."""

    def __init__(self, binnings: list[Binning]) -> None:
        self._widths = [len(b.bins) for b in binnings]
        # Edges that a column does not have are at infinity, where nothing finite reaches them.
        self._edges = np.full((len(binnings), _STRIDE - 1), np.inf)
        for row, binning in zip(self._edges, binnings, strict=True):
            row[: len(binning.edges)] = binning.edges
        self._low = np.array([b.low for b in binnings])
        self._high = np.array([b.high for b in binnings])
        self._offsets = np.arange(len(binnings)) * _STRIDE
        self._bins = np.zeros(len(binnings) * _STRIDE, np.int64)
        # Rows: missing, below, above, longest run, run that is under way.
        self._tally = np.zeros((5, len(binnings)), np.int64)
        self._last = np.full(len(binnings), np.nan)

    def add(self, rows: Floats) -> None:
        """Count a block [rows, columns]; what is not finite is missing."""
        if not rows.size:
            return
        finite = np.isfinite(rows)
        slots = np.broadcast_to(self._offsets, rows.shape).copy()
        for edges in self._edges.T:
            slots += rows >= edges
        self._bins += np.bincount(slots[finite], minlength=len(self._bins))
        self._tally[0] += (~finite).sum(axis=0)
        self._tally[1] += (finite & (rows < self._low)).sum(axis=0)
        self._tally[2] += (finite & (rows > self._high)).sum(axis=0)
        self._add_runs(np.where(finite, rows, np.nan))

    def counts(self) -> list[FeatureCounts]:
        """One a column."""
        bins = self._bins.reshape(-1, _STRIDE)
        return [
            FeatureCounts(
                bins=bins[i, :width].tolist(),
                n=int(bins[i].sum()),
                missing=int(self._tally[0, i]),
                below=int(self._tally[1, i]),
                above=int(self._tally[2, i]),
                longest_run=int(self._tally[3, i]),
            )
            for i, width in enumerate(self._widths)
        ]

    def _add_runs(self, rows: Floats) -> None:
        """Runs of one value go on from block to block; NaN equals nothing and is no run."""
        before = np.vstack([self._last, rows[:-1]])
        place = np.arange(1, len(rows) + 1)[:, None]
        began = np.maximum.accumulate(np.where(rows != before, place, 0), axis=0)
        runs = np.where(began == 0, self._tally[4] + place, place - began + 1)
        runs = np.where(np.isnan(rows), 0, runs)
        self._tally[3] = np.maximum(self._tally[3], runs.max(axis=0))
        self._tally[4] = runs[-1]
        self._last = rows[-1].copy()


def _answer_binnings(profile: ReferenceProfile) -> list[Binning]:
    return [] if profile.classes is None else [profile.classes.confidence, profile.classes.entropy]


def _kept(tensors: Tensors, name: str, rank: int) -> Array:
    array = tensors.get(name)
    if array is None or array.ndim != rank:
        raise InvalidInput(f"tensor {name!r} is missing, or not of rank {rank}")
    return np.array(array)


def _blocks(waiting: list[_Waiting]) -> list[_Waiting]:
    """The waiting requests as one block where their shapes and dtypes allow, else one by one."""
    kinds = {tuple((a.shape[1:], a.dtype) for a in inputs.values()) for inputs, _ in waiting}
    if len(kinds) != 1:
        return waiting
    inputs = {
        name: np.concatenate([request[name] for request, _ in waiting]) for name in waiting[0][0]
    }
    answers = [answer for _, answer in waiting if answer is not None]
    same = len({(a.shape[1:], a.dtype) for a in answers}) == 1
    return [(inputs, np.concatenate(answers) if same else None)] if same or not answers else waiting
