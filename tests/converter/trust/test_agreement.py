"""A change that was completed and dropped gives way to another; what was published never does."""

from __future__ import annotations

from pathlib import Path

import pytest

from converter.trust import folder
from converter.trust.agreement import unsettled
from converter.trust.ceremony import (
    discard,
    export_request,
    look_at_request,
    sign_request,
)
from converter.trust.custody import add_family, make_key, rotate_root
from converter.trust.errors import AnotherSigned, RequestOutdated, RequestRefused, WrongPassphrase
from converter.trust.folder import private_key, read_trust
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
from tests.trust.ceremony import DAY_MS, World


@pytest.fixture
def dropped(world: World) -> Path:
    """A request for root 3 that starts from the same root as one that Ben completed, and that the
    coordinator then dropped. Unsigned by Ben."""
    spread(world)
    renew(world.keys, ["root"], {}, {}, coordinator, world.now_ms)
    assert sign_request(exported(world), folder_of(world, "ben"), ben).done
    discard(world.keys)
    return another(world)


def exported(world: World) -> Path:
    stick = world.directory / "stick.json"
    export_request(world.keys, stick)
    return stick


def another(world: World) -> Path:
    """The next renewal, a day later."""
    world.now_ms += DAY_MS
    renew(world.keys, ["root"], {}, {}, coordinator, world.now_ms)
    return exported(world)


def test_a_change_that_was_dropped_gives_way_when_its_holder_says_so(
    world: World, dropped: Path
) -> None:
    change = sign_request(dropped, folder_of(world, "ben"), ben, replace_unpublished=True)

    assert change.done
    assert change.replaces == ["this folder signed and holds root 3, not known to be published"]
    assert sign_request(dropped, world.keys, never).done
    theirs, ours = read_trust(folder_of(world, "ben")), read_trust(world.keys)
    assert theirs.files == ours.files
    world.import_trust()
    assert world.repository.versions()["root"] == 3


def test_without_a_word_of_its_holder_no_second_root_of_a_number_is_signed(
    world: World, dropped: Path
) -> None:
    before, theirs = dropped.read_bytes(), read_trust(folder_of(world, "ben")).files

    with pytest.raises(AnotherSigned, match=r"root 3.*--replace-unpublished"):
        sign_request(dropped, folder_of(world, "ben"), never)

    assert dropped.read_bytes() == before
    assert read_trust(folder_of(world, "ben")).files == theirs


def test_a_look_says_what_would_give_way_and_moves_nothing(world: World, dropped: Path) -> None:
    seen = look_at_request(dropped, folder_of(world, "ben"))

    assert "root 3" in seen.replaces[0]
    assert seen.yours == ["root-ben"]
    assert read_trust(folder_of(world, "ben")).root.version == 3


def test_nothing_gives_way_under_a_wrong_passphrase(world: World, dropped: Path) -> None:
    theirs = read_trust(folder_of(world, "ben")).files

    with pytest.raises(WrongPassphrase):
        sign_request(dropped, folder_of(world, "ben"), cy, replace_unpublished=True)

    assert read_trust(folder_of(world, "ben")).files == theirs


def test_what_gave_way_is_kept_beside_however_often(world: World, dropped: Path) -> None:
    ben_s = folder_of(world, "ben")
    signed = [read_trust(ben_s).files["3.root.json"]]
    sign_request(dropped, ben_s, ben, replace_unpublished=True)
    signed.append(read_trust(ben_s).files["3.root.json"])
    discard(world.keys)
    sign_request(another(world), ben_s, ben, replace_unpublished=True)

    kept = [path.read_bytes() for path in (ben_s / "replaced").glob("*.3.root.json")]
    assert sorted(kept) == sorted(signed)


def test_a_root_that_others_published_instead_is_followed(world: World, dropped: Path) -> None:
    assert carry(world, "cy", CY).done
    stick = another(world)
    with pytest.raises(AnotherSigned):
        sign_request(stick, folder_of(world, "ben"), never)

    assert sign_request(stick, folder_of(world, "ben"), ben, replace_unpublished=True).done
    assert read_trust(folder_of(world, "ben")).root.version == 4


def test_what_a_later_request_built_on_never_gives_way(world: World) -> None:
    spread(world)
    older = copied(world, "older")
    renew(world.keys, ["root"], {}, {}, coordinator, world.now_ms)
    assert carry(world, "ben", BEN).done
    another(world)
    assert carry(world, "ben", BEN).done
    world.now_ms += DAY_MS
    renew(older, ["root"], {}, {}, coordinator, world.now_ms)
    stick = world.directory / "fork.json"
    export_request(older, stick)

    with pytest.raises(RequestOutdated, match="newer root"):
        sign_request(stick, folder_of(world, "ben"), never, replace_unpublished=True)
    assert sign_request(stick, folder_of(world, "cy"), cy).done
    export = world.directory / "fork-2.json"
    sign_request(stick, older, never)
    renew(older, ["root"], {}, {}, coordinator, world.now_ms)
    export_request(older, export)
    with pytest.raises(RequestRefused, match="another root"):
        sign_request(export, folder_of(world, "ben"), never, replace_unpublished=True)


def test_a_second_root_of_a_number_is_not_signed_while_the_first_lacks_signatures(
    world: World,
) -> None:
    spread(world)
    private_key(world.keys, "root-1").rename(world.directory / "in-the-safe.pem")
    renew(world.keys, ["root"], {}, {}, never, world.now_ms)
    assert not sign_request(exported(world), folder_of(world, "ben"), ben).done
    discard(world.keys)
    stick = another(world)

    with pytest.raises(AnotherSigned, match=r"another root 3 \(renew root\), not complete yet"):
        sign_request(stick, folder_of(world, "ben"), never)
    change = sign_request(stick, folder_of(world, "ben"), ben, replace_unpublished=True)
    assert change.signed == ["root-ben"]


def test_holders_who_completed_one_root_with_other_signatures_know_the_same_root(
    world: World,
) -> None:
    spread(world)
    renew(world.keys, ["root"], {}, {}, coordinator, world.now_ms)
    sticks = [world.directory / "one.json", world.directory / "two.json"]
    for stick in sticks:
        export_request(world.keys, stick)
    assert sign_request(sticks[0], folder_of(world, "ben"), ben).done
    assert sign_request(sticks[1], folder_of(world, "cy"), cy).done
    assert sign_request(sticks[0], world.keys, never).done

    assert sign_request(another(world), folder_of(world, "cy"), cy).done


def test_a_team_s_completed_family_gives_way_with_what_it_signed_on_top(world: World) -> None:
    team = make_key(folder_of(world, "ben"), "plants-team", "", ben)
    add_family(world.keys, "plants", team, coordinator, world.now_ms)
    assert sign_request(exported(world), folder_of(world, "ben"), ben).done
    discard(world.keys)
    world.now_ms += DAY_MS
    add_family(world.keys, "plants", team, coordinator, world.now_ms)
    stick = exported(world)

    with pytest.raises(AnotherSigned, match="plants 1, targets 2"):
        sign_request(stick, folder_of(world, "ben"), never)
    assert sign_request(stick, folder_of(world, "ben"), ben, replace_unpublished=True).done
    assert sign_request(stick, world.keys, never).done


def test_a_power_cut_while_a_change_gives_way_is_made_good(
    world: World, dropped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dying(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as power:
        power.setattr(folder, "install", dying)
        with pytest.raises(KeyboardInterrupt):
            sign_request(dropped, folder_of(world, "ben"), ben, replace_unpublished=True)

    assert read_trust(folder_of(world, "ben")).root.version == 2
    assert sign_request(dropped, folder_of(world, "ben"), never).done


def test_files_half_on_their_way_out_are_out_at_the_next_look(world: World) -> None:
    rotate_root(world.keys, ["root-2"], [], coordinator, world.now_ms)
    (world.keys / folder.WITHDRAWING).write_text('["2.root.json"]')

    with folder.exclusive(world.keys):
        assert read_trust(world.keys).root.version == 1
    assert not (world.keys / folder.WITHDRAWING).exists()


@pytest.mark.parametrize(
    ("built_on", "left"),
    [({"root": 3}, {"4.root.json", "7.digits.json"}), ({"root": 4, "digits": 9}, set())],
)
def test_what_a_change_builds_on_is_settled(built_on: dict[str, int], left: set[str]) -> None:
    assert unsettled(["4.root.json", "7.digits.json"], built_on) == left
