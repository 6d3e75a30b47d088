"""The hub's directory when the power goes in the middle, and when its own file is damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from contract.trust import decode_trust, encode_trust
from fleet.files import write_whole
from fleet.trust.errors import MetadataDamaged
from tests.trust.ceremony import World
from tests.trust.forgery import bump, forge, offline, stranger


def test_an_import_cut_short_leaves_the_old_state_and_can_be_repeated(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worst of imports: it gives a family another key, so that no mixture would verify."""
    new_key = stranger()

    def rekey(targets: Any) -> None:
        bump(targets)
        targets.revoke_key(targets.delegations.roles["digits"].keyids[0], "digits")
        targets.add_key(new_key.public_key, "digits")

    files = decode_trust((world.keys / "trust.json").read_bytes())
    files["2.targets.json"] = forge(files["1.targets.json"], rekey, offline(world, "targets-1"))
    files["2.digits.json"] = forge(files["1.digits.json"], bump, [new_key])
    files["2.root.json"] = forge(files["1.root.json"], bump, offline(world, "root-1", "root-2"))
    before = world.repository.versions()

    for survives in range(3):
        with monkeypatch.context() as power:
            _cut_after(power, survives)
            with pytest.raises(KeyboardInterrupt):
                world.repository.import_trust(encode_trust(files))
        assert world.repository.versions() == before

    assert world.repository.import_trust(encode_trust(files)) == {
        "root": 2,
        "targets": 2,
        "digits": 2,
        "words": 1,
    }


def _cut_after(power: pytest.MonkeyPatch, writes: int) -> None:
    left = [writes]

    def dying(path: Path, data: bytes, mode: int) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        write_whole(path, data, mode)

    power.setattr("fleet.trust.directory.write_whole", dying)


@pytest.mark.parametrize("data", [b"", b"[]", b'{"root": "1"}', b'{"root": 1}', b'{"root": 9}'])
def test_a_damaged_record_of_what_is_in_force_is_said_to_be_damaged(
    world: World, data: bytes
) -> None:
    (world.repository.directory / "in-force.json").write_bytes(data)

    with pytest.raises(MetadataDamaged, match="backup"):
        world.repository.files()
