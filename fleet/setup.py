"""Makes a new hub: certificate authority, online keys, configuration, database, first API token.

`hub.json` is written last: without it a directory is no hub. A failure, or Ctrl-C, takes back what
was made before it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from contract.errors import InvalidId
from contract.ids import check_id
from contract.trust import encode_hub_public_keys
from fleet.broker import local_address, write_broker_files
from fleet.bucket import Bucket, find_keys, try_bucket
from fleet.ca import Authority
from fleet.config import CONFIG_FILE, BucketConfig, HubConfig, encode_config, read_config
from fleet.errors import BucketUnusable, FleetError, HubExists, HubOfAnotherUser, SetupFailed
from fleet.files import write_whole
from fleet.settings import BucketKeys
from fleet.storage.database import open_storage
from fleet.succession import Succession
from fleet.tokens import new_token
from fleet.trust.repository import Repository

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
HUB_KEYS_FILE = "hub-keys.json"
DATABASE_FILE = "hub.sqlite"
FIRST_TOKEN = "operator"  # noqa: S105 - the name of a token, not one


@dataclass(frozen=True)
class HubInit:
    """What the command line shows and writes. `token` is nowhere else."""

    directory: Path
    config: HubConfig
    token: str
    ca_pem: str
    hub_keys: Path

    def operator_configuration(self) -> bytes:
        """The content of the operator's configuration file, which must be 0600."""
        content = {"url": self.config.api_url, "token": self.token, "ca_pem": self.ca_pem}
        return msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n"


def init_hub(
    directory: Path,
    hosts: Sequence[str] = (),
    api_port: int = 8443,
    broker_port: int = 8883,
    *,
    name: str = "hub",
    bind: str = "0.0.0.0",  # noqa: S104 - devices and operators come from other machines
    approve: bool = False,
) -> HubInit:
    """Make a hub in `directory`, which must be absent or empty. A port of 0 picks a free one.

    `hosts` are the names and addresses under which devices and operators reach this machine, the
    one to give them first; default: this machine's name. `approve`: no device without an operator's
    word. Raises `HubExists` or `SetupFailed`.
    """
    made = not directory.exists()
    _require_empty(directory)
    config = _config(name, hosts, api_port, broker_port, bind)
    config = msgspec.structs.replace(config, approve=approve)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
        token = _build(directory, config)
    except BaseException as error:
        _clear(directory, made)
        if isinstance(error, (OSError, FleetError)):
            raise SetupFailed(f"{directory}: {error}; nothing was left behind") from error
        raise
    return HubInit(
        directory=directory,
        config=config,
        token=token,
        ca_pem=Authority(directory / "ca").roots_pem(),
        hub_keys=directory / HUB_KEYS_FILE,
    )


def new_online_keys(directory: Path) -> Path:
    """Make the online keys that shall follow the present ones; returns the file that names them.

    They are used once a trust.json that names them is published, and the old ones are gone then.
    """
    config = read_config(directory)
    public = Repository(directory / "tuf").stage_online_keys(config.name)
    path = directory / HUB_KEYS_FILE
    write_whole(path, encode_hub_public_keys(public))
    return path


def use_bucket(
    directory: Path, bucket: BucketConfig | None, environment: BucketKeys | None = None
) -> None:
    """Write it into `hub.json` once an object went there, came back and was cleared; None: no
    bucket any more. Raises `BucketUnusable` or `BucketFailed`, and then changes nothing."""
    config = read_config(directory)
    if bucket is not None:
        try:
            bucket = msgspec.convert(msgspec.to_builtins(bucket), BucketConfig)
        except msgspec.ValidationError as error:
            raise BucketUnusable(f"these settings cannot be used: {error}") from error
        try_bucket(Bucket(bucket, find_keys(bucket, environment)))
    changed = msgspec.structs.replace(config, bucket=bucket)
    write_whole(directory / CONFIG_FILE, encode_config(changed))


@contextmanager
def succession_at(directory: Path) -> Iterator[Succession]:
    """The CA of the hub at `directory`, for the command line, beside a running hub or without.

    Raises `HubNotFound`, `HubOfAnotherUser`, or a storage error.
    """
    read_config(directory)
    _require_owner(directory)
    authority = Authority(directory / "ca")
    storage = open_storage(database_url(directory))
    try:
        repository = Repository(directory / "tuf", own_root=authority.root_pem)
        yield Succession(authority, repository, storage)
    finally:
        storage.close()


def _require_owner(directory: Path) -> None:
    """What root writes here is private to root: a hub of another account could not read its CA."""
    owner = (directory / "ca").stat().st_uid
    if owner == os.geteuid():
        return
    try:
        name = pwd.getpwuid(owner).pw_name
    except KeyError:
        name = f"#{owner}"
    raise HubOfAnotherUser(
        f"{directory} belongs to another account, which could not read what this one writes there:"
        f" run this command as its owner, `sudo -u '{name}' ...`"
    )


def database_url(directory: Path) -> str:
    """SQLAlchemy's name for the hub's own SQLite file."""
    return f"sqlite:///{(directory / DATABASE_FILE).resolve()}"


def certificate_hosts(config: HubConfig) -> list[str]:
    """Every name under which the servers' certificates are good: the local ones always, since the
    hub itself connects to its broker there."""
    bound = (local_address(config.api_host), local_address(config.broker_bind))
    return list(dict.fromkeys([*config.hosts, *LOCAL_HOSTS, *bound]))


def _build(directory: Path, config: HubConfig) -> str:
    """Make everything of a hub; returns the first token."""
    now_ms = config.created_at_ms
    for name in ("ca", "run", "bundles"):
        (directory / name).mkdir(mode=0o700)
    Authority(directory / "ca").create(config.name, certificate_hosts(config), now_ms)
    repository = Repository(directory / "tuf")
    repository.create_online_keys()
    public = repository.hub_public_keys(config.name)
    write_whole(directory / HUB_KEYS_FILE, encode_hub_public_keys(public))
    write_broker_files(directory, config)
    (directory / DATABASE_FILE).touch(mode=0o600)
    storage = open_storage(database_url(directory))
    try:
        with storage.session() as session:
            token = new_token(session, FIRST_TOKEN, now_ms)
    finally:
        storage.close()
    write_whole(directory / CONFIG_FILE, encode_config(config))
    return token


def _clear(directory: Path, made: bool) -> None:
    """Empty the directory; it was empty before."""
    for found in directory.iterdir() if directory.exists() else ():
        if found.is_dir():
            shutil.rmtree(found, ignore_errors=True)
        else:
            found.unlink(missing_ok=True)
    if made and directory.exists():
        directory.rmdir()


def _config(
    name: str, hosts: Sequence[str], api_port: int, broker_port: int, bind: str
) -> HubConfig:
    try:
        check_id(name, "hub name")
        api_port = api_port or free_port(bind)
        config = HubConfig(
            name=name,
            hosts=list(dict.fromkeys(hosts)) or default_hosts(),
            api_host=bind,
            api_port=api_port,
            broker_bind=bind,
            broker_port=broker_port or free_port(bind, but=api_port),
            created_at_ms=time.time_ns() // 1_000_000,
        )
        # A struct checks its bounds only when it is decoded.
        checked = msgspec.json.decode(encode_config(config), type=HubConfig)
    except (InvalidId, msgspec.ValidationError, OSError) as error:
        raise SetupFailed(f"these settings cannot be used: {error}") from error
    if checked.api_port == checked.broker_port:
        raise SetupFailed(f"API and broker cannot both have port {checked.api_port}")
    return checked


def default_hosts() -> list[str]:
    """This machine's name where that leads anywhere, then the local names."""
    name = socket.gethostname()
    try:
        socket.getaddrinfo(name, None)
    except OSError:
        return list(LOCAL_HOSTS)
    return [name, *LOCAL_HOSTS]


def free_port(bind: str, but: int = 0) -> int:
    """A port that nobody listens on right now."""
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    while True:
        with socket.socket(family) as probe:
            probe.bind((bind, 0))
            port = int(probe.getsockname()[1])
        if port != but:
            return port


def _require_empty(directory: Path) -> None:
    try:
        found = next(directory.iterdir(), None) if directory.exists() else None
    except OSError as error:
        raise HubExists(f"{directory}: {error.strerror}") from error
    if found is not None:
        raise HubExists(f"{directory} is not empty (it has {found.name}): choose another directory")
