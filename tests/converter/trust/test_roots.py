"""`policy/ca` is put in force by offline keys: what they sign, and what they refuse to."""

from __future__ import annotations

from pathlib import Path

import pytest

from converter.trust.custody import replace_roots
from converter.trust.drafts import roots_of
from converter.trust.errors import NothingDue, RequestRefused, RootsRefused
from converter.trust.folder import private_key, read_trust
from fleet.trust.errors import TrustRefused
from fleet.trust.repository import Repository
from tests.converter.trust.holders import carry, coordinator, never
from tests.mosquitto import Authority
from tests.trust.ceremony import World


@pytest.fixture
def old(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "old", "old root")


@pytest.fixture
def new(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "new", "new root")


def trust(world: World, *authorities: Authority) -> list[str]:
    """Sign it; what the signer was told."""
    roots = [each.pem.encode() for each in authorities]
    change = replace_roots(world.keys, roots, coordinator, world.now_ms)
    assert change.done
    return change.changes


def in_force(world: World) -> list[str]:
    return roots_of(read_trust(world.keys).targets)


def test_a_targets_key_alone_puts_roots_in_force(
    world: World, old: Authority, new: Authority
) -> None:
    assert in_force(world) == []

    told = trust(world, old, new)

    assert in_force(world) == [old.pem, new.pem]
    assert sum("devices trust the root CN=" in line for line in told) == 2
    world.import_trust()
    assert world.repository.versions()["targets"] == 2


def test_the_old_root_goes_last_and_the_signer_is_told_which(
    world: World, old: Authority, new: Authority
) -> None:
    trust(world, old, new)

    told = trust(world, new)

    assert in_force(world) == [new.pem]
    assert any("no longer trust the root CN=old root" in line for line in told)
    assert not any("CN=new root" in line for line in told)


def test_all_roots_at_once_are_not_replaced(world: World, old: Authority, new: Authority) -> None:
    trust(world, old)

    with pytest.raises(RequestRefused, match="name the old one and the new one first"):
        trust(world, new)

    assert in_force(world) == [old.pem]


def test_a_first_list_warns_that_nothing_is_compared(
    world: World, old: Authority, new: Authority
) -> None:
    assert any("warning: no policy/ca names the root" in line for line in trust(world, new))
    assert not any("warning" in line for line in trust(world, old, new))


def test_the_same_roots_again_are_nothing_to_sign(
    world: World, old: Authority, new: Authority
) -> None:
    trust(world, old, new)

    with pytest.raises(NothingDue):
        replace_roots(world.keys, [new.pem.encode(), old.pem.encode()], never, world.now_ms)


def test_what_is_no_root_opens_no_key(world: World, old: Authority) -> None:
    leaf = old.client("cam-1").certificate.read_bytes()

    with pytest.raises(RootsRefused):
        replace_roots(world.keys, [leaf], never, world.now_ms)


def test_a_holder_on_another_machine_signs_by_request(world: World, old: Authority) -> None:
    """Where the targets keys are elsewhere, the change waits for them."""
    away = world.directory / "keys-of-ben"
    (away / "private").mkdir(parents=True, mode=0o700)
    for name in ("targets-1", "targets-2"):
        private_key(world.keys, name).rename(private_key(away, name))

    change = replace_roots(world.keys, [old.pem.encode()], coordinator, world.now_ms)

    assert not change.done
    assert in_force(world) == []
    from tests.trust.ceremony import PASSPHRASE

    assert carry(world, "ben", PASSPHRASE).done
    assert in_force(world) == [old.pem]


def test_roots_stay_when_other_things_change(world: World, old: Authority) -> None:
    from converter.trust.custody import add_family

    trust(world, old)
    add_family(world.keys, "plants", None, coordinator, world.now_ms)

    assert in_force(world) == [old.pem]


def test_a_hub_refuses_a_policy_that_would_part_every_device_from_it(
    world: World, old: Authority, new: Authority
) -> None:
    hub = Repository(world.directory / "hub" / "tuf", own_root=lambda: old.pem)
    trust(world, new)

    with pytest.raises(TrustRefused, match="root of this hub"):
        hub.import_trust((world.keys / "trust.json").read_bytes())

    assert hub.versions()["targets"] == 1
    trust(world, new, old)
    assert hub.import_trust((world.keys / "trust.json").read_bytes())["targets"] == 3
