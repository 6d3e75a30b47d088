"""Folders of images or of WAV files; the names of sub-folders, where there are any, are classes.

Owns the walk (one level of sub-folders, in the order of names, links not followed out) and the
class numbers. A file becomes an array by `pictures` or `waves` and the release's own recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.processing import AudioInput, ImageInput, InputRecipe, shape_of
from converter.data import raw
from converter.data.pictures import read_picture
from converter.data.raw import Raw, Reading
from converter.data.rows import Array, Layout, Rows
from converter.data.spool import Spool
from converter.data.waves import read_wave
from converter.errors import BadLabels, RecipeMissing, SamplesUnreadable, WrongArrays
from model.errors import InvalidInput
from model.preprocessing import Raw as RawInput
from model.preprocessing import prepare

PICTURES = frozenset({".png", ".jpg", ".jpeg"})
WAVES = frozenset({".wav"})
MAX_FILES = 200_000
_FEW = 12
_DIGITS = 9


def read_folder(path: Path, name: str, reading: Reading) -> Raw:
    """Every image or sound below `path`, prepared for the input `name`.

    Raises `SamplesUnreadable`, `RecipeMissing`, `BadLabels`, or `OSError`.
    """
    files = _walk(path)
    kinds = {file.suffix.lower() in WAVES for file in files}
    if not files or len(kinds) != 1:
        raise SamplesUnreadable(
            f"{path}: {'images and sounds are mixed' if files else 'no PNG, JPEG or WAV files'};"
            " give a folder of one kind, with or without a sub-folder for each class"
        )
    sounds = kinds.pop()
    recipe = _recipe(path, name, reading, AudioInput if sounds else ImageInput)
    said = tuple(file.relative_to(path).as_posix() for file in files)
    labels, classes = _labels(path, files, reading.classes)
    opened = _open_sound if sounds else read_picture
    whole = _prepared(path, files, recipe, opened, reading.spool)
    return Raw({name: whole}, labels, said, classes)


def _walk(path: Path) -> list[Path]:
    wanted = PICTURES | WAVES
    inside = sorted(path.iterdir(), key=lambda entry: entry.name)
    folders = [entry for entry in inside if entry.is_dir() and not entry.name.startswith(".")]
    loose = [entry for entry in inside if entry.suffix.lower() in wanted and entry.is_file()]
    if loose and any(_any_file(folder) for folder in folders):
        raise SamplesUnreadable(
            f"{path}: {loose[0].name!r} lies beside sub-folders; put it into one of them, or all"
            " files into one folder"
        )
    files = loose
    for folder in folders:
        entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
        files += [e for e in entries if e.suffix.lower() in wanted and e.is_file()]
        if len(files) > MAX_FILES:
            raise SamplesUnreadable(f"{path}: more than {MAX_FILES} files; give fewer samples")
    return files


def _any_file(folder: Path) -> bool:
    return any(entry.suffix.lower() in PICTURES | WAVES for entry in folder.iterdir())


def _recipe(path: Path, name: str, reading: Reading, kind: type[Any]) -> InputRecipe:
    recipe = reading.recipe(name)
    if not isinstance(recipe, AudioInput | ImageInput) or not isinstance(recipe, kind):
        what = "recipe for images" if kind is ImageInput else "recipe for sound"
        raise RecipeMissing(
            f"{path}: {name!r} has no {what}; say in --processing FILE how the files become the"
            " network's input"
        )
    return recipe


def _labels(
    path: Path, files: Sequence[Path], classes: Sequence[str]
) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
    """A folder without sub-folders has no labels; without given names the folders number them."""
    if any(file.parent == path for file in files):
        return None, ()
    found = sorted({file.parent.name for file in files})
    known = list(classes) or _in_order(path, found)
    foreign = [folder for folder in found if folder not in known]
    if foreign:
        raise BadLabels(
            f"{path / foreign[0]}: not one of the class names {known[:_FEW]}; rename the folder or"
            " correct --labels"
        )
    places = {label: place for place, label in enumerate(known)}
    numbers = np.array([places[file.parent.name] for file in files], np.int64)
    return numbers, () if classes else tuple(known)


def _in_order(path: Path, found: Sequence[str]) -> list[str]:
    """Class by class: the alphabet would put 10 in front of 2."""
    if not all(name.isascii() and name.isdecimal() for name in found):
        return list(found)
    known = sorted(found, key=lambda name: (int(name[-_DIGITS:]), name))
    for number, name in enumerate(known):
        if len(name) > _DIGITS or int(name) != number:
            raise BadLabels(
                f"{path / name[:40]}: the sub-folders are numbers, so each is the class of that"
                f" number, and {number} should stand here; name them 0 to {len(known) - 1} without"
                " a gap, or give --labels"
            )
    return known


def _prepared(
    path: Path,
    files: Sequence[Path],
    recipe: InputRecipe,
    opened: Callable[[Path, InputRecipe], RawInput],
    folder: Path | None,
) -> Array | Rows:
    """Each file is decoded once: several passes are made over the samples."""
    layout = Layout(0, (len(files), *shape_of(recipe)), np.dtype(np.float32))
    if layout.nbytes > raw.MAX_DATA_BYTES:
        raise SamplesUnreadable(
            f"{path}: {len(files)} files are {layout.nbytes} bytes when prepared; at most"
            f" {raw.MAX_DATA_BYTES}, give fewer samples"
        )
    with Spool(str(path), folder) as spool:
        for file in files:
            try:
                made = prepare(recipe, opened(file, recipe))
            except InvalidInput as error:
                raise WrongArrays(f"{file}: {error}") from error
            spool.add_rows(np.asarray(made, np.float32))
        return spool.array(layout)


def _open_sound(path: Path, recipe: InputRecipe) -> RawInput:
    # No more is read of a file than the recipe keeps of it.
    return read_wave(path, recipe.clip_length if isinstance(recipe, AudioInput) else 0)
