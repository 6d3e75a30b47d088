"""`outrider convert`: a latency is measured once on a host, told when reused, and portable."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from outrider.__main__ import main
from outrider.settings import read_environment
from tests.converter import models


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own."""
    monkeypatch.setenv("OUTRIDER_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "cache" / "measurements"


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    """A conversion of a small trained classifier, with a variant beside the int8 one."""
    model = models.save(tmp_path / "small.onnx", models.classifier())
    calib = models.save_samples(tmp_path / "calib.npz", image=models.images(40, seed=5))
    evaluation = models.save_samples(
        tmp_path / "eval.npz", image=models.images(60, seed=11), labels=models.kinds(60)
    )
    files = ["--calib", str(calib), "--eval", str(evaluation)]
    return ["convert", str(model), *files, "--family", "kinds", "--version", "1", "--with-cuda"]


def test_the_cache_is_where_the_account_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert read_environment().measurements == tmp_path / "cache" / "measurements"
    monkeypatch.delenv("OUTRIDER_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert read_environment().measurements == tmp_path / "xdg" / "outrider" / "measurements"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    expected = tmp_path / ".cache" / "outrider" / "measurements"
    assert read_environment().measurements == expected


def test_an_account_without_a_home_has_an_environment_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("OUTRIDER_CACHE_DIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert read_environment().measurements == Path("/.cache/outrider/measurements")


def test_a_second_conversion_says_when_the_first_measured(
    arguments: list[str], tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "a.bundle", tmp_path / "b.bundle"
    assert main([*arguments, "-o", str(first)]) == 0
    assert "--remeasure" not in capsys.readouterr().err
    assert main([*arguments, "-o", str(second)]) == 0
    said = capsys.readouterr().err
    assert said.count("on this host; --remeasure to measure anew") == 1
    assert second.read_bytes() == first.read_bytes()
    assert len(list(cache.glob("*.json"))) == 2


def test_inspect_shows_the_latency_of_every_variant(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "a.bundle"
    assert main([*arguments, "-o", str(bundle), "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)["latency"]
    assert main(["inspect", str(bundle), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    timed = {each["name"]: each["latency"] for each in found["report"]["variants"]}
    assert set(timed) == {"onnx-fp16", "onnx-int8"}
    assert timed["onnx-int8"] == {name: measured[name] for name in ("p50_ms", "p50_ms_float32")}
    assert main(["inspect", str(bundle)]) == 0
    shown = capsys.readouterr().out
    assert f"onnx-int8 {measured['p50_ms'] * 1000:.1f} us, float32" in shown
    assert found["measured"][0] in shown


def test_a_bundle_is_made_again_without_the_cache(
    arguments: list[str], tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, again = tmp_path / "a.bundle", tmp_path / "b.bundle"
    assert main([*arguments, "-o", str(first)]) == 0
    shutil.rmtree(cache)
    assert main([*arguments, "-o", str(again), "--measurements", str(first)]) == 0
    assert again.read_bytes() == first.read_bytes()
    assert "out of a.bundle" in capsys.readouterr().err
    assert not cache.exists()


def test_measuring_anew_gives_other_bytes(arguments: list[str], tmp_path: Path) -> None:
    first, anew, after = (tmp_path / f"{name}.bundle" for name in "abc")
    assert main([*arguments, "-o", str(first)]) == 0
    assert main([*arguments, "-o", str(anew), "--remeasure"]) == 0
    assert main([*arguments, "-o", str(after)]) == 0
    assert anew.read_bytes() != first.read_bytes()
    assert after.read_bytes() == anew.read_bytes()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--measurements", "none.bundle"], "none.bundle: No such file"),
        (["--measurements", "small.onnx"], "small.onnx"),
        (["--measurements", "a.bundle", "--remeasure"], "exclude each other"),
    ],
)
def test_what_cannot_be_taken_is_one_line_before_any_work(
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*arguments, "-o", "out.bundle", *given]) == 1
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said
    assert not (tmp_path / "out.bundle").exists()


def test_a_variant_that_was_not_measured_then_is_named(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, more = tmp_path / "a.bundle", tmp_path / "b.bundle"
    assert main([*arguments, "-o", str(first)]) == 0
    given = ["--with-float", "--measurements", str(first)]
    assert main([*arguments, "-o", str(more), *given]) == 1
    assert "holds no latency of the onnx-fp32" in capsys.readouterr().err
    assert not more.exists()


def test_a_cache_that_cannot_be_written_is_one_warning(
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("OUTRIDER_CACHE_DIR", str(tmp_path / "file"))
    assert main([*arguments, "-o", str(tmp_path / "a.bundle")]) == 0
    assert (tmp_path / "a.bundle").exists()
    said = capsys.readouterr().err
    assert said.count("cannot be kept") == 1
    assert "will not have the same bytes" in said
