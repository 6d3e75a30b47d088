"""`outrider convert` with raw files: the recipe is read at the edge, and a bad one is one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from outrider.__main__ import main


def asked(folder: Path, recipe: Path) -> list[str]:
    return [
        *("convert", str(folder / "net.onnx"), "--calib", str(folder / "pictures")),
        *("--family", "digits", "--version", "1", "-o", str(folder / "out.bundle")),
        *("--processing", str(recipe)),
    ]


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ("{", "processing"),
        ('{"inputs": [{"kind": "video", "input": "x"}]}', "video"),
        (
            json.dumps(
                {"inputs": [{"kind": "image", "input": "x", "height": 8, "width": 8, "std": [0]}]}
            ),
            "std is not positive",
        ),
    ],
)
def test_a_bad_recipe_is_one_line(
    tmp_path: Path, recipe: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "recipe.json"
    path.write_text(recipe)
    assert main(asked(tmp_path, path)) != 0
    said = capsys.readouterr().err
    assert "recipe.json" in said
    assert words in said
    assert "Traceback" not in said
    assert not (tmp_path / "out.bundle").exists()


def test_an_absent_recipe_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(asked(tmp_path, tmp_path / "none.json")) != 0
    said = capsys.readouterr().err
    assert "none.json" in said
    assert "Traceback" not in said
