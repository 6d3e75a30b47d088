"""A change that takes several people: each signs on a machine of their own, in any order."""

from __future__ import annotations

from typing import Any

import pytest

from contract.trust import decode_trust
from converter.trust.ceremony import (
    discard,
    export_request,
    look_at_request,
    read_pending,
    sign_request,
)
from converter.trust.custody import (
    add_family,
    add_targets_key,
    make_key,
    rotate_root,
    rotate_targets,
)
from converter.trust.errors import (
    ChangePending,
    KeyNotAsked,
    KeysNotFound,
    KeyUnknown,
    NothingPending,
    RequestOutdated,
    RequestRefused,
    WrongPassphrase,
)
from converter.trust.folder import has_trust, private_key, read_trust
from converter.trust.keys import init_keys
from converter.trust.renewal import renew
from tests.converter.trust.holders import (
    BEN,
    CY,
    ben,
    carry,
    coordinator,
    copied,
    cy,
    folder_of,
    never,
    spread,
)
from tests.trust.ceremony import PASSPHRASE, World


def test_three_holders_on_three_machines_each_with_a_passphrase(world: World) -> None:
    spread(world)

    root = read_trust(world.keys).root
    assert (root.version, root.roles["root"].threshold, len(root.roles["root"].keyids)) == (2, 2, 3)
    world.import_trust()
    assert world.repository.versions()["root"] == 2


def test_a_change_of_root_waits_for_the_second_holder(world: World) -> None:
    spread(world)

    change = renew(world.keys, ["root"], {}, {}, coordinator, world.now_ms)

    assert not change.done
    assert change.signed == ["root-1"]
    assert [(need.role, need.signatures, need.keys) for need in change.missing] == [
        ("root", 1, ["root-ben", "root-cy"])
    ] * 2
    assert "3.root.json" not in decode_trust((world.keys / "trust.json").read_bytes())
    assert carry(world, "cy", CY).done
    assert "3.root.json" in decode_trust((world.keys / "trust.json").read_bytes())


def test_holders_sign_one_after_the_other_without_the_coordinator_s_keys(world: World) -> None:
    spread(world)
    moved = private_key(world.keys, "root-1")
    safe = moved.rename(world.directory / "in-the-safe.pem")
    assert renew(world.keys, ["root"], {}, {}, never, world.now_ms).signed == []
    stick = world.directory / "stick.json"

    export_request(world.keys, stick)
    assert not sign_request(stick, folder_of(world, "cy"), cy).done
    assert sign_request(stick, folder_of(world, "ben"), ben).done
    assert sign_request(stick, world.keys, never).done

    assert safe.exists()
    assert read_trust(world.keys).root.version == 3
    assert read_pending(world.keys) is None


def test_signatures_that_were_given_side_by_side_are_joined(world: World) -> None:
    spread(world)
    private_key(world.keys, "root-1").unlink()
    renew(world.keys, ["root"], {}, {}, never, world.now_ms)
    sticks = [world.directory / "one.json", world.directory / "two.json"]
    for stick in sticks:
        export_request(world.keys, stick)
    sign_request(sticks[0], folder_of(world, "ben"), ben)
    sign_request(sticks[1], folder_of(world, "cy"), cy)

    assert not sign_request(sticks[0], world.keys, never).done
    assert sign_request(sticks[1], world.keys, never).done


def test_signing_twice_counts_once(world: World) -> None:
    spread(world)
    private_key(world.keys, "root-1").unlink()
    renew(world.keys, ["root"], {}, {}, never, world.now_ms)
    stick = world.directory / "stick.json"
    export_request(world.keys, stick)
    for _ in range(2):
        change = sign_request(stick, folder_of(world, "ben"), ben)

    assert not change.done
    assert change.signed == []


def test_what_a_request_would_do_is_said_before_it_is_signed(world: World) -> None:
    spread(world)
    rotate_targets(world.keys, "targets-1", None, coordinator, world.now_ms)
    stick = world.directory / "stick.json"
    export_request(world.keys, stick)
    before = stick.read_bytes()

    seen = look_at_request(stick, folder_of(world, "ben"))

    text = "\n".join(seen.changes)
    assert "root 3, good until" in text
    assert "root: targets key" in text
    assert "goes" in text
    assert "comes" in text
    assert stick.read_bytes() == before


def test_a_second_change_has_to_wait_for_the_first(world: World) -> None:
    spread(world)
    renew(world.keys, ["root"], {}, {}, coordinator, world.now_ms)

    with pytest.raises(ChangePending, match="renew root"):
        add_family(world.keys, "plants", None, coordinator, world.now_ms)
    with pytest.raises(ChangePending):
        init_keys(
            world.keys, ["plants"], world.repository.hub_public_keys(), PASSPHRASE, world.now_ms
        )

    assert discard(world.keys) == "renew root"
    assert add_family(world.keys, "plants", None, coordinator, world.now_ms).done


def test_a_key_made_for_a_change_that_was_dropped_is_used_by_the_next(world: World) -> None:
    spread(world)
    first = add_targets_key(world.keys, None, coordinator, world.now_ms)
    discard(world.keys)

    again = add_targets_key(world.keys, None, coordinator, world.now_ms)

    assert first.created == again.created == ["targets-3"]
    assert carry(world, "ben", BEN).done
    assert add_targets_key(world.keys, None, coordinator, world.now_ms).created == ["targets-4"]


def test_releases_are_signed_while_a_change_of_root_waits(world: World) -> None:
    spread(world)
    world.import_trust()
    renew(world.keys, ["root"], {}, {}, coordinator, world.now_ms)

    world.publish("digits", "1")

    assert carry(world, "ben", BEN).done
    world.import_trust()
    assert world.repository.release("digits/1")[1].counter == 1


def test_nothing_to_export_and_nothing_to_drop_is_said(world: World) -> None:
    with pytest.raises(NothingPending):
        export_request(world.keys, world.directory / "stick.json")
    with pytest.raises(NothingPending):
        discard(world.keys)
    assert not (world.directory / "stick.json").exists()


# Again


def test_a_request_that_succeeded_is_complete_when_it_is_repeated(world: World) -> None:
    stick = waiting(world)
    assert sign_request(stick, folder_of(world, "ben"), ben).done

    for directory in (folder_of(world, "ben"), world.keys, world.keys):
        change = sign_request(stick, directory, never)
        assert change.done
        assert (change.signed, change.missing) == ([], [])
    assert change.before
    assert read_trust(world.keys).root.version == 3


def test_a_power_cut_before_a_complete_request_is_in_force_is_made_good(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from converter.trust import folder

    def dying(directory: Any, files: Any) -> None:
        raise KeyboardInterrupt

    stick = waiting(world)
    with monkeypatch.context() as power:
        power.setattr(folder, "install", dying)
        with pytest.raises(KeyboardInterrupt):
            sign_request(stick, folder_of(world, "ben"), ben)

    assert sign_request(stick, folder_of(world, "ben"), never).done
    assert sign_request(stick, world.keys, never).done


# Refusals


def waiting(world: World) -> Any:
    """A request that Ben may sign."""
    spread(world)
    renew(world.keys, ["root"], {}, {}, coordinator, world.now_ms)
    stick = world.directory / "stick.json"
    export_request(world.keys, stick)
    return stick


def carry_renewal(world: World) -> Any:
    """One more term for root, signed by Ben and back."""
    renew(world.keys, ["root"], {}, {}, coordinator, world.now_ms)
    return carry(world, "ben", BEN)


def test_a_wrong_passphrase_signs_nothing(world: World) -> None:
    stick = waiting(world)
    before = stick.read_bytes()

    with pytest.raises(WrongPassphrase, match="root-ben"):
        sign_request(stick, folder_of(world, "ben"), cy)
    assert stick.read_bytes() == before


def test_a_key_that_is_named_has_to_be_here_and_wanted(world: World) -> None:
    stick = waiting(world)

    with pytest.raises(KeyUnknown, match="root-cy"):
        sign_request(stick, folder_of(world, "ben"), ben, only=["root-cy"])
    assert sign_request(stick, folder_of(world, "ben"), ben, only=["root-ben"]).signed == [
        "root-ben"
    ]


def test_a_folder_that_nobody_asked_says_so_and_changes_nothing(world: World) -> None:
    stick = waiting(world)
    make_key(world.directory / "strange", "root-dan", "", ben)
    before = stick.read_bytes()

    with pytest.raises(KeyNotAsked, match="nobody asked"):
        sign_request(stick, world.directory / "strange", ben)
    assert stick.read_bytes() == before
    assert not has_trust(world.directory / "strange")


def test_a_folder_that_is_not_there_is_not_looked_at(world: World) -> None:
    stick = waiting(world)
    for look in (look_at_request, lambda file, keys: sign_request(file, keys, never)):
        with pytest.raises(KeysNotFound):
            look(stick, world.directory / "nowhere")


def test_a_request_of_another_fleet_is_refused_by_who_knows_this_one(
    world: World, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stick = waiting(world)
    other = World(tmp_path_factory.mktemp("other"))
    other.repository.create_online_keys()
    other.init_keys("digits")
    spread(other)
    renew(other.keys, ["root"], {}, {}, coordinator, other.now_ms)
    export_request(other.keys, stick)

    with pytest.raises(RequestRefused, match="another root"):
        sign_request(stick, folder_of(world, "ben"), ben)


def test_a_request_that_was_overtaken_is_refused(world: World) -> None:
    stick = waiting(world)
    late = world.directory / "late.json"
    late.write_bytes(stick.read_bytes())
    assert carry(world, "cy", CY).done

    with pytest.raises(RequestOutdated, match="nothing is left to sign"):
        sign_request(late, world.keys, coordinator)

    assert carry_renewal(world).done
    with pytest.raises(RequestOutdated):
        sign_request(late, folder_of(world, "ben"), ben)


def test_a_change_on_an_older_copy_of_the_folder_is_refused_by_the_newer_one(world: World) -> None:
    spread(world)
    older = copied(world, "older")
    add_family(world.keys, "plants", None, coordinator, world.now_ms)
    rotate_root(older, ["root-1"], [], coordinator, world.now_ms)
    stick = world.directory / "stick.json"
    export_request(older, stick)

    with pytest.raises(RequestOutdated, match="targets"):
        sign_request(stick, world.keys, coordinator)


def test_a_power_cut_while_a_change_is_put_in_force_is_made_good(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from converter.trust import folder
    from converter.trust.keyfiles import write_durably

    written: list[str] = []

    def dying(path: Any, data: bytes, mode: int = 0o644) -> None:
        if "metadata" in path.parts and written:
            raise KeyboardInterrupt
        written.extend([path.name] if "metadata" in path.parts else [])
        write_durably(path, data, mode)

    with monkeypatch.context() as power:
        power.setattr(folder, "write_durably", dying)
        with pytest.raises(KeyboardInterrupt):
            rotate_targets(world.keys, "targets-1", None, coordinator, world.now_ms)
    assert written == ["2.root.json"]

    world.signed("digits", "1")

    trust = read_trust(world.keys)
    assert (trust.root.version, trust.targets.version) == (2, 2)
