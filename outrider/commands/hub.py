"""`outrider hub init|serve|bucket|new-keys` and `outrider publish`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from outrider.boundary import require
from outrider.client import HubClient
from outrider.commands.options import Config, Json, connect, group
from outrider.errors import CommandFailed, HubRefused
from outrider.operator import OperatorConfig, operator_path, write_operator
from outrider.sizes import format_size, parse_size
from outrider.terminal import note, print_fields, print_json, say, short

hub = group("hub", "The fleet's hub: its directory, its server.")
Directory = Annotated[Path, typer.Argument(metavar="DIR", help="The hub's directory.")]
TRUST_FILE_BYTES = 4 << 20


@hub.command("init")
def init(
    directory: Directory,
    host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A name or address under which devices reach the hub; the first is given to them."
            " Repeatable.",
        ),
    ] = None,
    api_port: Annotated[int, typer.Option(min=0, max=65_535, help="HTTPS; 0: any free.")] = 8443,
    broker_port: Annotated[int, typer.Option(min=0, max=65_535, help="MQTT; 0: any free.")] = 8883,
    approve: Annotated[
        bool, typer.Option("--approve", help="Ask an operator before a device gets in.")
    ] = False,
    config: Config = None,
    json: Json = False,
) -> None:
    """Make a hub: its certificates, keys and database.

    It makes an operator's token for this account, too, which is printed once. The operator
    configuration is written so that the other commands find the hub.

    \b
    Example:
        outrider hub init hub --host hub.example.org
        outrider keys init keys --hub-keys hub/hub-keys.json --family digits
    """
    require("hub", "sqlalchemy", "alembic", "fastapi", "tuf", "paho.mqtt")
    from fleet.setup import init_hub

    path = operator_path(config)
    if path.exists():
        raise CommandFailed(
            f"{path} configures another hub already: move it away, or name another with --config"
        )
    made = init_hub(directory, tuple(host or ()), api_port, broker_port, approve=approve)
    url = made.config.api_url
    write_operator(path, OperatorConfig(url=url, token=made.token, ca_pem=made.ca_pem))
    shown = {
        "url": url,
        "token": made.token,
        "operator configuration": str(path),
        "public keys": str(made.hub_keys),
    }
    if json:
        print_json(shown)
        return
    print_fields(shown)
    note("The token is not shown again.")
    note(f"Next: outrider keys init KEYS --hub-keys {made.hub_keys} --family NAME")


@hub.command("serve")
def serve(
    directory: Directory,
    external_broker: Annotated[
        bool, typer.Option("--external-broker", help="Do not start Mosquitto: it runs already.")
    ] = False,
) -> None:
    """Serve the hub until it is told to stop: API, broker, rollouts.

    \b
    Example:
        outrider hub serve hub
    """
    require("hub", "sqlalchemy", "alembic", "fastapi", "tuf", "paho.mqtt")
    from fleet.service import serve as run

    run(directory, external_broker=external_broker)


@hub.command("bucket")
def bucket(
    directory: Directory,
    endpoint: Annotated[
        str, typer.Option(metavar="URL", help="Of the object store: https://s3.example.org.")
    ] = "",
    name: Annotated[str, typer.Option(metavar="BUCKET", help="The bucket, which exists.")] = "",
    region: Annotated[
        str, typer.Option(metavar="NAME", help="As the store calls it.")
    ] = "us-east-1",
    prefix: Annotated[
        str, typer.Option(metavar="PATH/", help="One of its own for each hub.")
    ] = "outrider/",
    above: Annotated[
        str, typer.Option(metavar="SIZE", help="Releases with a larger bundle go there.")
    ] = "64MiB",
    credentials: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The keys, mode 0600; otherwise AWS_... are read."),
    ] = None,
    ca: Annotated[
        Path | None, typer.Option(metavar="FILE", help="CAs for the endpoint, in PEM.")
    ] = None,
    device_endpoint: Annotated[
        str | None, typer.Option(metavar="URL", help="Where devices find the store, if elsewhere.")
    ] = None,
    virtual_host: Annotated[
        bool, typer.Option("--virtual-host", help="The bucket's name stands in the host name.")
    ] = False,
    off: Annotated[bool, typer.Option("--off", help="Use no bucket any more.")] = False,
    json: Json = False,
) -> None:
    """Have devices fetch large releases from an S3 bucket.

    An object is put there, read as a device would, and cleared, before anything is changed. The
    keys are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of the environment, or a file like
    {"access_key_id": "...", "secret_access_key": "..."}. Devices get addresses, and no keys.

    \b
    Example:
        outrider hub bucket hub --endpoint https://s3.example.org --name models
    """
    require("hub", "sqlalchemy", "alembic", "fastapi", "tuf", "paho.mqtt")
    from fleet.config import BucketConfig
    from fleet.settings import read_bucket_keys
    from fleet.setup import use_bucket

    if off:
        use_bucket(directory, None)
        if json:
            print_json({"bucket": None})
        else:
            say("no bucket is used once the hub is started again; what it holds stays there")
        return
    if not endpoint or not name:
        raise CommandFailed("say which bucket: --endpoint URL --name BUCKET")
    require("s3", "botocore")
    chosen = BucketConfig(
        endpoint=endpoint,
        bucket=name,
        region=region,
        prefix=prefix,
        above_bytes=_size(above),
        device_endpoint=device_endpoint,
        virtual_host=virtual_host,
        ca_file=str(ca.absolute()) if ca else None,
        credentials_file=str(credentials.absolute()) if credentials else None,
    )
    use_bucket(directory, chosen, read_bucket_keys())
    if json:
        print_json({"bucket": name, "endpoint": endpoint, "above_bytes": chosen.above_bytes})
        return
    say(f"releases above {format_size(chosen.above_bytes)} go to {name} at {endpoint}")
    note("Next: start the hub again.")


@hub.command("new-keys")
def new_keys(directory: Directory, json: Json = False) -> None:
    """Make new online keys beside the present ones.

    Those for snapshot, timestamp and assignments. The hub goes on with the present ones until a
    trust file that names the new ones is published; then the old ones are gone. Called again before
    that, it makes nothing new.

    \b
    Example:
        outrider hub new-keys hub
        outrider keys rotate keys online --hub-keys hub/hub-keys.json
        outrider publish keys/trust.json
    """
    require("hub", "sqlalchemy", "alembic", "fastapi", "tuf", "paho.mqtt")
    from fleet.setup import new_online_keys

    public = new_online_keys(directory)
    if json:
        print_json({"public keys": str(public)})
        return
    print_fields({"public keys": str(public)})
    note(f"Next: outrider keys rotate KEYS online --hub-keys {public}, then publish trust.json")


def publish(
    file: Annotated[
        Path, typer.Argument(metavar="BUNDLE", help="A signed bundle, or the keys' trust.json.")
    ],
    config: Config = None,
    json: Json = False,
) -> None:
    """Give the hub a signed bundle, or the keys' trust file.

    \b
    Example:
        outrider publish keys/trust.json
        outrider publish digits-1.bundle
    """
    trust = _is_trust_file(file)
    with connect(config) as client:
        if trust:
            answer = _upload(client, "trust", file, "application/json", "trust.json")
        else:
            answer = _upload(client, "releases", file, "application/zip", "bundle")
    if json:
        print_json(answer)
    elif trust:
        say("trust accepted: " + _versions(answer))
    else:
        family, _, version = answer["target"].partition("/")
        say(f"{family}:{version} published, digest {short(answer['digest'])}")
        note(f"Next: outrider rollout start {family}:{version} --to all --waves 5%,25%,100%")


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise CommandFailed(f"--above: {error}") from error


def _upload(client: HubClient, path: str, file: Path, media_type: str, known_as: str) -> Any:
    """The hub knows what is uploaded by another name than the person who reads the refusal."""
    try:
        return client.upload(path, file, media_type)
    except HubRefused as error:
        said = str(error)
        if not said.startswith((f"{known_as} ", f"{known_as}: ")):
            raise
        renamed = file.name + said.removeprefix(known_as)
        raise HubRefused(error.status, error.code, renamed) from error


def _is_trust_file(path: Path) -> bool:
    """A bundle is a ZIP archive; a trust file is a JSON object."""
    with path.open("rb") as file:
        start = file.read(64).lstrip()
    if start.startswith(b"PK"):
        return False
    if start.startswith(b"{") and path.stat().st_size <= TRUST_FILE_BYTES:
        return True
    raise CommandFailed(f"{path} is neither a bundle nor a trust file")


def _versions(answer: Any) -> str:
    versions = answer.get("versions", {}) if isinstance(answer, dict) else {}
    return ", ".join(f"{role} {version}" for role, version in sorted(versions.items()))
