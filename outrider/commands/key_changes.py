"""`outrider keys add|rotate|renew|ca|revoke`: changes to who may sign what, and until when."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from outrider.boundary import require
from outrider.commands.key_files import (
    asked_once,
    now_ms,
    published,
    read_hub_keys,
    read_public,
    read_roots,
    show_change,
)
from outrider.commands.options import Config, Json, PassphraseFile
from outrider.errors import CommandFailed
from outrider.terminal import print_json, say, when

if TYPE_CHECKING:
    from converter.trust.named import NamedKey

Directory: TypeAlias = Annotated[
    Path, typer.Argument(metavar="DIR", help="Where the keys are kept.")
]
Public: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE",
        help="The public file of a key that its holder made with `outrider keys make`. Without it,"
        " a key is made here.",
    ),
]


def add(
    directory: Directory,
    role: Annotated[
        str, typer.Argument(metavar="ROLE", help="A new model family's name, or `targets`.")
    ],
    public: Public = None,
    passphrase_file: PassphraseFile = None,
    json: Json = False,
) -> None:
    """Add a model family with its key, or one more targets key.

    A family needs the signature of a targets key; a targets key needs those of two root keys. A
    change whose keys are not all in DIR waits for export-request and sign-request.

    \b
    Example:
        outrider keys add keys plants
        outrider keys add keys plants --public plants-team.json
    """
    require("converter", "tuf", "securesystemslib")
    from converter.trust.custody import add_family, add_targets_key

    given = _at_most_one(public)
    passphrase = asked_once(passphrase_file, directory, new=given is None)
    key = _first(read_public([given] if given else None))
    if role == "targets":
        change = add_targets_key(directory, key, passphrase, now_ms())
    else:
        change = add_family(directory, role, key, passphrase, now_ms())
    show_change(change, directory, json)


def rotate(
    directory: Directory,
    role: Annotated[
        str, typer.Argument(metavar="ROLE", help="root, targets, online, or a model family.")
    ],
    old: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY",
            help="The root or targets key that is to go, by name (`outrider keys list`).",
        ),
    ] = None,
    public: Public = None,
    hub_keys: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="For `online`: hub-keys.json with the hub's new keys."),
    ] = None,
    withdraw: Annotated[
        list[str] | None,
        typer.Option(metavar="VERSION", help="For a family: no longer list this release."),
    ] = None,
    passphrase_file: PassphraseFile = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Replace keys: of root, targets, a family, or the hub.

    Those of root and targets are named; the hub's own are `online`.

    After a hub was broken into, `online` gives the fleet back: devices drop the old keys, the
    numbers that a thief ran up, and the time that he pushed ahead.

    \b
    Example:
        outrider keys rotate keys root --old root-2 --public ben.json
        outrider keys rotate keys targets --old targets-1
        outrider keys rotate keys digits --withdraw 7
        outrider keys rotate keys online --hub-keys hub/hub-keys.json
    """
    require("converter", "tuf", "securesystemslib")
    from converter.trust import custody

    _check_options(role, old, public, hub_keys, withdraw)
    passphrase = asked_once(passphrase_file, directory, new=role != "online" and not public)
    new = read_public(public)
    at_ms = now_ms()
    if role == "online":
        assert hub_keys is not None  # noqa: S101 - narrows the type; _check_options has looked
        change = custody.rotate_online(directory, read_hub_keys(hub_keys), passphrase, at_ms)
    elif role == "root":
        change = custody.rotate_root(directory, old or [], new, passphrase, at_ms)
    elif role == "targets":
        first = (old or [""])[0]
        change = custody.rotate_targets(directory, first, _first(new), passphrase, at_ms)
    else:
        base = published(role, config)
        change = custody.rotate_family(
            directory, role, _first(new), withdraw or [], base, passphrase, at_ms
        )
    show_change(change, directory, json)


def renew(
    directory: Directory,
    roles: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ROLE]...", help="root, targets, families. Default: what is due."),
    ] = None,
    min_counter: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FAMILY=N",
            help="Never install releases of the family below this counter again. Repeatable.",
        ),
    ] = None,
    passphrase_file: PassphraseFile = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Sign roles for another term, and raise families' floors.

    With nothing named and nothing due it says until when, and ends well: it may run every day.

    \b
    Example:
        outrider keys renew keys
        outrider keys renew keys root targets
        outrider keys renew keys --min-counter digits=3
    """
    require("converter", "tuf", "securesystemslib")
    from converter.trust.renewal import due_now, next_due_ms
    from converter.trust.renewal import renew as sign_again

    floors = dict(_floor(text) for text in min_counter or [])
    at_ms = now_ms()
    chosen = list(roles or []) or ([] if floors else due_now(directory, at_ms))
    if not chosen and not floors:
        _nothing_due(next_due_ms(directory), json)
        return
    families = {*chosen, *floors} - {"root", "targets"}
    known = {family: base for family in families if (base := published(family, config))}
    passphrase = asked_once(passphrase_file, directory, new=False)
    change = sign_again(directory, chosen, floors, known, passphrase, at_ms)
    show_change(change, directory, json)


def ca(
    directory: Directory,
    root: Annotated[
        list[Path],
        typer.Option(metavar="FILE", help="A root certificate, PEM. Repeatable: up to 4."),
    ],
    passphrase_file: PassphraseFile = None,
    json: Json = False,
) -> None:
    """Say which TLS roots devices trust: exactly those given.

    A rotation takes two of these: old and new together, and when every device has followed and the
    servers show the new one, the new one alone. A targets key signs.

    \b
    Example:
        outrider keys ca keys --root old-root.crt --root new-root.crt
        outrider keys ca keys --root new-root.crt
    """
    require("converter", "tuf", "securesystemslib")
    from converter.trust.custody import replace_roots

    roots = read_roots(root)
    passphrase = asked_once(passphrase_file, directory, new=False)
    show_change(replace_roots(directory, roots, passphrase, now_ms()), directory, json)


def revoke(
    directory: Directory,
    key: Annotated[
        str, typer.Argument(metavar="KEY", help="A targets key by name, or a family's.")
    ],
    passphrase_file: PassphraseFile = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Trust a key no longer.

    A targets key goes, and the others remain. With a family's key goes everything that it signed,
    and a new one is made here: sign the good releases again. A root key is replaced instead.

    \b
    Example:
        outrider keys revoke keys targets-2
        outrider keys revoke keys digits
    """
    require("converter", "tuf", "securesystemslib")
    from converter.trust.custody import revoke as take_back

    passphrase = asked_once(passphrase_file, directory, new=True)
    change = take_back(
        directory, key, passphrase, now_ms(), lambda family: published(family, config)
    )
    show_change(change, directory, json)


def _check_options(
    role: str,
    old: list[str] | None,
    public: list[Path] | None,
    hub_keys: Path | None,
    withdraw: list[str] | None,
) -> None:
    if (role == "online") != (hub_keys is not None):
        raise CommandFailed("--hub-keys names the hub's new keys, for `online` and for it alone")
    if (role in ("root", "targets")) != bool(old):
        raise CommandFailed("--old names the key that is to go, for root and targets alone")
    if withdraw and role in ("root", "targets", "online"):
        raise CommandFailed("--withdraw is for a family's releases")
    if role != "root" and max(len(old or []), len(public or [])) > 1:
        raise CommandFailed("one key at a time, but for root")


def _nothing_due(until_ms: int, json: bool) -> None:
    if json:
        print_json({"done": False, "changes": [], "nothing_due_before_ms": until_ms})
        return
    say(f"nothing is due before {when(until_ms)}; name roles to renew them all the same")


def _at_most_one(public: list[Path] | None) -> Path | None:
    if len(public or []) > 1:
        raise CommandFailed("one key at a time")
    return public[0] if public else None


def _first(keys: list[NamedKey]) -> NamedKey | None:
    return keys[0] if keys else None


def _floor(text: str) -> tuple[str, int]:
    family, _, number = text.partition("=")
    if not family or not number.isascii() or not number.isdigit() or len(number) > 10:
        raise typer.BadParameter(
            f"{text!r} is not of the form FAMILY=N", param_hint="--min-counter"
        )
    return family, int(number)
