"""Bundles with flipped bytes: whatever zipfile makes of them, a named error comes out."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from contract.errors import ContractError
from model.archive import open_bundle
from model.errors import ModelError
from tests.model.builders import bundle


@pytest.fixture
def written(tmp_path: Path) -> Path:
    return bundle(tmp_path)


def test_no_damage_raises_anything_but_a_named_error(written: Path) -> None:
    good = written.read_bytes()
    for place in range(len(good) - 900, len(good)):
        written.write_bytes(good[:place] + bytes([good[place] ^ 0xA5]) + good[place + 1 :])
        with suppress(ModelError, ContractError), open_bundle(written) as found:
            found.check()
