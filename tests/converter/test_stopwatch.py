"""A latency comes from what was given, else from what is kept, else from the clock."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from converter.errors import MeasurementsMismatch
from converter.given_measurements import Given
from converter.host import describe_host
from converter.latency import Latency
from converter.measurement import key_of, measured_on
from converter.measurement_cache import find, keep
from converter.samples import read_samples
from converter.sessions import Runner
from converter.source import read_source
from converter.stopwatch import Stopwatch, Timed
from tests.agent.disks import SmallDisk
from tests.converter.conftest import Inputs


def timed(stopwatch: Stopwatch, small: Inputs) -> Latency:
    """The float model beside itself, which serves as well as any other."""
    source = read_source(small.model)
    model = Timed(Runner(source.data, source.batch), source.data)
    return stopwatch.time("onnx-int8", model, model, read_samples(small.calib, source.inputs))


def test_a_second_conversion_takes_what_the_first_measured(small: Inputs) -> None:
    first, second = Stopwatch(small.measurements), Stopwatch(small.measurements)
    assert timed(first, small) == timed(second, small)
    assert first.taken == second.taken
    assert first.notes == []
    day = measured_on(first.taken[0])
    assert second.notes == [f"latency measured {day} on this host; --remeasure to measure anew"]


def test_what_was_asked_for_twice_is_taken_once(small: Inputs) -> None:
    stopwatch = Stopwatch(small.measurements)
    assert timed(stopwatch, small) == timed(stopwatch, small)
    assert len(stopwatch.taken) == 1


def test_without_a_directory_nothing_is_kept_and_nothing_told(
    small: Inputs, tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    stopwatch = Stopwatch(None)
    timed(stopwatch, small)
    assert (len(stopwatch.taken), stopwatch.notes) == (1, [])
    assert sorted(tmp_path.rglob("*")) == before


def test_measuring_anew_replaces_what_is_kept(small: Inputs) -> None:
    first, anew, after = (
        Stopwatch(small.measurements),
        Stopwatch(small.measurements, anew=True),
        Stopwatch(small.measurements),
    )
    for stopwatch in (first, anew, after):
        timed(stopwatch, small)
    assert first.taken != anew.taken
    assert anew.taken == after.taken
    assert anew.notes == []


def test_who_measured_first_meanwhile_is_believed(
    small: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two conversions at once: the other one keeps its record while this one measures."""
    other = Stopwatch(None)
    timed(other, small)
    (theirs,) = other.taken
    stopwatch = Stopwatch(small.measurements)
    measure = stopwatch._measure

    def overtaken(*given: object) -> object:
        keep(small.measurements, theirs, anew=False)
        return measure(*given)  # type: ignore[arg-type]  # handed through as they came

    monkeypatch.setattr(stopwatch, "_measure", overtaken)
    found = timed(stopwatch, small)
    assert stopwatch.taken == [theirs]
    assert found.p50_ms == theirs.p50_ms


def test_a_damaged_record_is_measured_anew_and_told(small: Inputs) -> None:
    first, second, third = (Stopwatch(small.measurements) for _ in range(3))
    timed(first, small)
    (record,) = small.measurements.glob("*.json")
    record.write_bytes(record.read_bytes()[:-9])
    timed(second, small)
    assert len(second.notes) == 1
    assert "not readable" in second.notes[0]
    timed(third, small)
    assert third.taken == second.taken


@pytest.mark.parametrize("remeasure", [False, True])
def test_a_cache_that_cannot_be_written_is_one_plain_warning(
    small: Inputs, tmp_path: Path, remeasure: bool
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("x")
    stopwatch = Stopwatch(blocked / "measurements", anew=remeasure)
    assert timed(stopwatch, small).p50_ms > 0
    timed(stopwatch, small)
    (words,) = stopwatch.notes
    assert "cannot be kept" in words
    assert "will not have the same bytes" in words
    assert "\n" not in words


def test_a_cache_that_others_may_write_to_is_neither_read_nor_written(small: Inputs) -> None:
    first, second = Stopwatch(small.measurements), Stopwatch(small.measurements)
    timed(first, small)
    small.measurements.chmod(0o777)
    timed(second, small)
    assert first.taken != second.taken
    (words,) = second.notes
    assert "others may write to it" in words
    (record,) = small.measurements.glob("*.json")
    assert key_of(first.taken[0].subject, first.taken[0].host) == record.stem


def test_a_full_disk_is_one_plain_warning(small: Inputs, small_disk: SmallDisk) -> None:
    small_disk.fill()
    stopwatch = Stopwatch(small_disk.directory / "measurements")
    assert timed(stopwatch, small).p50_ms > 0
    (words,) = stopwatch.notes
    assert "No space left on device" in words


def test_a_read_only_cache_gives_what_it_holds_and_warns_of_the_rest(
    small: Inputs, small_disk: SmallDisk
) -> None:
    cache = small_disk.directory / "measurements"
    first, second = Stopwatch(cache), Stopwatch(cache)
    timed(first, small)
    small_disk.freeze()
    timed(second, small)
    assert second.taken == first.taken
    assert ["--remeasure" in words for words in second.notes] == [True]
    anew = Stopwatch(cache, anew=True)
    assert timed(anew, small).p50_ms > 0
    (words,) = anew.notes
    assert "Read-only file system" in words


def test_a_record_of_another_host_is_not_this_ones(small: Inputs) -> None:
    first = Stopwatch(None)
    timed(first, small)
    theirs = msgspec.structs.replace(first.taken[0], host="aarch64, Raspberry Pi 5, 4 CPUs")
    keep(small.measurements, theirs, anew=False)
    second = Stopwatch(small.measurements)
    timed(second, small)
    assert second.taken[0].host == describe_host()
    assert second.notes == []
    assert find(small.measurements, theirs.subject, theirs.host) == theirs


def test_what_was_given_goes_before_everything_and_is_kept_nowhere(small: Inputs) -> None:
    kept = Stopwatch(small.measurements)
    timed(kept, small)
    theirs = msgspec.structs.replace(kept.taken[0], p50_ms=7.0, host="aarch64, 4 CPUs")
    stopwatch = Stopwatch(small.measurements, given=Given(Path("a/b.bundle"), (theirs,)))
    assert timed(stopwatch, small).p50_ms == 7.0
    assert stopwatch.taken == [theirs]
    day = measured_on(theirs)
    assert stopwatch.notes == [f"latency measured {day} on aarch64, 4 CPUs, out of b.bundle"]
    assert len(list(small.measurements.glob("*.json"))) == 1


def test_what_was_given_of_other_models_is_refused(small: Inputs) -> None:
    stopwatch = Stopwatch(None)
    timed(stopwatch, small)
    (found,) = stopwatch.taken
    other = msgspec.structs.replace(found.subject.artifact, digest="cd" * 32)
    theirs = msgspec.structs.replace(
        found, subject=msgspec.structs.replace(found.subject, artifact=other)
    )
    with pytest.raises(MeasurementsMismatch, match="onnx-int8 that was made here"):
        timed(Stopwatch(small.measurements, given=Given(Path("b.bundle"), (theirs,))), small)
    assert not small.measurements.exists()
