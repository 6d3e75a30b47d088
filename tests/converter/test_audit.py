"""The audit sees which layers run in integers, and int8.py acts on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from converter import int8
from converter.audit import Audit, audit
from converter.canonical import canonicalise
from converter.compact import compact
from converter.errors import ModelFailed, NothingToQuantise
from converter.samples import Samples
from converter.source import read_source
from tests.converter import models

CALIBRATION = Samples("calib.npz", {"image": models.images(40)})


def made(tmp_path: Path) -> int8.Int8Model:
    source = read_source(models.save(tmp_path / "in.onnx", models.classifier()))
    return int8.make_int8(
        canonicalise(source, tmp_path), CALIBRATION, -1, tmp_path, lambda share: None
    )


def test_a_float_model_runs_in_float(tmp_path: Path) -> None:
    assert audit(compact(models.classifier()), tmp_path).integer == 0


def test_every_layer_of_the_int8_model_runs_in_integers(tmp_path: Path) -> None:
    found = made(tmp_path)
    assert found.audit == Audit(integer=3, floating=0)
    assert found.activations == "uint8"


def test_layers_that_stay_float_are_named_with_their_activation_built_in(tmp_path: Path) -> None:
    found = audit(compact(models.classifier(norm=False)), tmp_path, ["first", "second", "last"])
    assert found.integer == 0
    assert found.floating == 3
    assert {"first", "second"} <= set(found.left_float)


def test_a_file_that_the_runtime_refuses_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelFailed) as caught:
        audit(b"not a model", tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("left_in_float", "chosen"), [((2, 0), "int8"), ((2, 2), "uint8"), ((1, 2), "uint8")]
)
def test_the_activation_type_that_fuses_more_is_taken(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    left_in_float: tuple[int, int],
    chosen: str,
) -> None:
    answers = iter(left_in_float)
    monkeypatch.setattr(int8, "audit", lambda *_: Audit(3, next(answers)))
    assert made(tmp_path).activations == chosen


def test_a_model_that_stays_float_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8, "audit", lambda *_: Audit(0, 3))
    with pytest.raises(NothingToQuantise, match="shipped as float alone"):
        made(tmp_path)
