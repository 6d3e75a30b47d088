"""`outrider keys list|make|export-request|sign-request`: several key holders, each on a machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from outrider.boundary import require
from outrider.commands.key_changes import Directory
from outrider.commands.key_files import asked_once, now_ms, show_change
from outrider.commands.options import Json, PassphraseFile
from outrider.errors import CommandFailed
from outrider.terminal import note, print_fields, print_json, print_table, say, when


def list_(directory: Directory, json: Json = False) -> None:
    """Show roles, keys, expiries, holders, and what is due.

    \b
    Example:
        outrider keys list keys
    """
    require("converter", "tuf", "securesystemslib")
    from converter.trust.listing import list_keys

    found = list_keys(directory, now_ms())
    if json:
        print_json(msgspec.to_builtins(found))
        return
    rows = [
        (
            row.role if first else "",
            f"{row.threshold} of {len(row.keys)}" if first else "",
            when(row.expires_at_ms) if first and row.expires_at_ms else "",
            key.name or "-",
            key.keyid[:12],
            key.holder or ("here" if key.here else "elsewhere"),
            "yes" if key.here else "no",
        )
        for row in found.roles
        for first, key in zip([True] + [False] * len(row.keys), row.keys, strict=False)
    ]
    print_table(("role", "needs", "expires", "key", "id", "holder", "here"), rows, "no keys")
    for digest, name in found.roots.items():
        say(f"devices trust the TLS root {name} (SHA-256 {digest})")
    if found.unused:
        say(f"nobody trusts {', '.join(found.unused)}: destroy it, unless a change is under way")
    if found.pending:
        say(f"waits for signatures: {found.pending}")
    for warning in found.warnings:
        say(f"warning: {warning}")


def make(
    directory: Directory,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The key's name, e.g. root-ben.")],
    holder: Annotated[str, typer.Option(help="Who keeps it, for `outrider keys list`.")] = "",
    passphrase_file: PassphraseFile = None,
    json: Json = False,
) -> None:
    """Make a key in a folder of its holder's own.

    It stands under a passphrase that nobody else knows.
    Its public file goes to whoever keeps the root folder, for `outrider keys add --public` or
    `outrider keys rotate --public`. The private key never leaves DIR.

    \b
    Example:
        outrider keys make my-keys root-ben --holder "Ben, platform team"
    """
    require("converter", "tuf", "securesystemslib")
    from converter.trust.custody import make_key
    from converter.trust.public import public_file

    passphrase = asked_once(passphrase_file, directory, new=True)
    key = make_key(directory, name, holder, passphrase)
    shown = {"key": key.name, "id": key.keyid, "public file": public_file(directory, name)}
    if json:
        print_json(shown)
        return
    print_fields(shown)
    note(f"Send the public file; keep {directory}, and a copy of it, safe.")


def export_request(
    directory: Directory,
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="Where to write the request.")
    ] = None,
    discard: Annotated[
        bool, typer.Option("--discard", help="Drop the change that waits, instead.")
    ] = False,
    json: Json = False,
) -> None:
    """Write the change that waits, for the next holder.

    \b
    Example:
        outrider keys export-request keys request.json
        outrider keys export-request keys --discard
    """
    require("converter", "tuf", "securesystemslib")
    from converter.trust import ceremony

    if (file is None) != discard:
        raise CommandFailed("name a file for the request, or --discard, and not both")
    if file is None:
        purpose = ceremony.discard(directory)
        if json:
            print_json({"dropped": purpose})
        else:
            say(f"dropped: {purpose}")
        return
    change = ceremony.export_request(directory, file)
    show_change(change, directory, json)


def sign_request(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The request; signed in place.")],
    keys: Annotated[Path, typer.Option("--keys", metavar="DIR", help="The folder of your keys.")],
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="Sign with this key alone. Repeatable."),
    ] = None,
    show: Annotated[
        bool, typer.Option("--show", help="Only say what it would do and what it lacks.")
    ] = False,
    replace_unpublished: Annotated[
        bool,
        typer.Option(
            "--replace-unpublished",
            help="The other change of this number, which you signed, was dropped for good.",
        ),
    ] = False,
    passphrase_file: PassphraseFile = None,
    json: Json = False,
) -> None:
    """Add your signatures to a request, or bring one back.

    A signed one comes back to the folder that made it.
    Says what would change, found by comparing with what is in force. The folder that sees the last
    signature puts the change in force and writes trust.json for `outrider publish`. Who signed
    another change of the same number before is asked for --replace-unpublished: give it only when
    that one was dropped and nobody will publish it.

    \b
    Example:
        outrider keys sign-request request.json --keys my-keys --show
        outrider keys sign-request request.json --keys my-keys
    """
    require("converter", "tuf", "securesystemslib")
    from converter.trust import ceremony

    seen = ceremony.look_at_request(file, keys)
    if show:
        show_change(seen, keys, json, request=file)
        return
    if not json:
        for line in seen.changes:
            note(line)
        for line in seen.replaces if replace_unpublished else ():
            note(f"gives way: {line}")
    passphrase = asked_once(passphrase_file, keys, new=False)
    change = ceremony.sign_request(
        file, keys, passphrase, only or (), replace_unpublished=replace_unpublished
    )
    show_change(change, keys, json, request=file)
