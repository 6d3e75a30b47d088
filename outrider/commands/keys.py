"""`outrider keys init`, the group of the other verbs over the offline keys, and `outrider sign`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from outrider.boundary import require
from outrider.commands.key_changes import add, ca, renew, revoke, rotate
from outrider.commands.key_files import now_ms, published, read_hub_keys
from outrider.commands.key_requests import export_request, list_, make, sign_request
from outrider.commands.options import Config, Json, PassphraseFile, group
from outrider.passphrase import read_passphrase
from outrider.terminal import note, print_fields, print_json, say, when

keys = group("keys", "The offline keys: made, kept and used away from the hub.")
keys.command("list")(list_)
keys.command("add")(add)
keys.command("rotate")(rotate)
keys.command("renew")(renew)
keys.command("ca")(ca)
keys.command("revoke")(revoke)
keys.command("make")(make)
keys.command("export-request")(export_request)
keys.command("sign-request")(sign_request)


@keys.command("init")
def init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where the keys are kept.")],
    hub_keys: Annotated[
        Path, typer.Option(metavar="FILE", help="hub-keys.json, written by `outrider hub init`.")
    ],
    family: Annotated[
        list[str],
        typer.Option(metavar="NAME", help="A model family to make a key for; repeatable."),
    ],
    passphrase_file: PassphraseFile = None,
    json: Json = False,
) -> None:
    """Make the offline keys, and sign the first trust file.

    They are encrypted under a passphrase. Root is 2 of 3 keys, targets 1 of 2, and each model
    family has a key of its own. Called again, it finishes what was cut short. The trust file holds
    nothing secret.

    \b
    Example:
        outrider keys init keys --hub-keys hub/hub-keys.json --family digits
        outrider publish keys/trust.json
    """
    require("converter", "tuf", "securesystemslib")
    from converter.trust.keys import init_keys

    public = read_hub_keys(hub_keys)
    passphrase = read_passphrase(passphrase_file, f"the keys in {directory}", confirm=True)
    made = init_keys(directory, family, public, passphrase, now_ms())
    if json:
        print_json(msgspec.to_builtins(made, enc_hook=str))
        return
    print_fields(
        {
            "made": ", ".join(made.created) or "nothing: all keys were there",
            "families": ", ".join(made.families),
            "expires": ", ".join(f"{k} {when(v)}" for k, v in made.expires_at_ms.items()),
            "trust file": made.trust_file,
        }
    )
    note(
        f"Next: outrider publish {made.trust_file}. Keep {directory} off the hub, and a copy safe."
    )


def sign(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle to sign, in place.")],
    keys: Annotated[Path, typer.Option("--keys", metavar="DIR", help="The offline keys.")],
    passphrase_file: PassphraseFile = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Do not ask the hub for its current metadata.")
    ] = False,
    config: Config = None,
    json: Json = False,
) -> None:
    """Sign a bundle with its family's key, so that devices take it.

    Builds on the newest signed metadata of the family: that in the keys' folder, or the hub's where
    it can be reached and is newer.

    \b
    Example:
        outrider sign digits-1.bundle --keys keys
    """
    require("converter", "tuf", "securesystemslib")
    from converter.trust.signing import sign_bundle
    from model.archive import open_bundle

    with open_bundle(bundle) as opened:
        family = opened.manifest.family
    base = None if offline else published(family, config)
    passphrase = read_passphrase(passphrase_file, f"the keys in {keys}")
    signed = sign_bundle(bundle, keys, passphrase, base, now_ms=now_ms())
    if json:
        print_json(msgspec.to_builtins(signed))
        return
    family, _, version = signed.target.partition("/")
    verb = "signed" if signed.fresh else "was signed before; kept"
    say(f"{family}:{version} {verb}: release {signed.counter} of {family}, digest {signed.digest}")
    note(f"Next: outrider publish {bundle}")
