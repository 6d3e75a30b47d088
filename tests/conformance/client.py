"""`init`, `refresh` and `download` over the agent's own update client, with metadata over HTTP.

What the agent does in a refresh is used as it is: its Updater, fetcher, error classes, and its care
for the cache. Left out is what TUF does not ask for: the journal, hub keys, policies. Only the
bound on delegations is the suite's, since the agent's one-family-one-role needs no deep graphs.
"""

from __future__ import annotations

import argparse
import http.client
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote, urlsplit

from tuf.api.exceptions import DownloadError, RepositoryError
from tuf.api.metadata import TargetFile
from tuf.ngclient import Updater

from agent.errors import DeviceError, Malformed, NotListed, TransportFailed, Untrusted
from agent.store.durable import write_durably
from agent.trust import local
from agent.trust.failures import as_device_error
from agent.trust.tuf_internals import verified_root
from agent.trust.updater import CONFIG, new_updater
from contract.messages import TufFile, TufIndex

MAX_DELEGATIONS = 32
_TIMEOUT_S = 10.0


class Everything(dict[str, TufFile]):
    """An index that leaves it to the server to say what exists."""

    def __contains__(self, name: object) -> bool:
        return True


class HttpSource:
    """A `MetadataSource` below one URL."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url.rstrip("/") + "/"

    def index(self) -> TufIndex:
        """There is none over HTTP."""
        return TufIndex(files=Everything(), at_ms=0)

    def file(self, name: str, max_length: int) -> bytes:
        """See `agent.ports.MetadataSource.file`."""
        return get(self._base_url + name, max_length)


def get(url: str, max_length: int) -> bytes:
    """Raises `NotListed`, `TransportFailed` or `Malformed` (too long)."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", parts.path)
        answer = connection.getresponse()
        data = answer.read(max_length + 1)
    except (OSError, http.client.HTTPException) as error:
        raise TransportFailed(f"{url}: {error!r}") from error
    finally:
        connection.close()
    if answer.status in (403, 404):
        raise NotListed(f"{url}: {answer.status}")
    if answer.status != 200:
        raise TransportFailed(f"{url}: {answer.status}")
    if len(data) > max_length:
        raise Malformed(f"{url}: longer than {max_length} bytes")
    return data


def init(directory: Path, root: Path) -> None:
    """The anchor, and the name under which the suite looks for the trusted root. What is no root
    that its own keys signed is refused, as at enrolment."""
    for name in (local.ANCHOR, "root.json"):
        (directory / name).unlink(missing_ok=True)  # a refused root leaves no earlier one in force
    data = root.read_bytes()
    local.install_root(directory, data)
    write_durably(directory / "root.json", data)


def refresh(directory: Path, metadata_url: str) -> Updater:
    """As the guard does it, without the journal."""
    local.discard_unusable(directory)
    source = HttpSource(metadata_url)
    config = replace(CONFIG, max_delegations=MAX_DELEGATIONS)
    now_ms = time.time_ns() // 1_000_000
    updater = new_updater(directory, source, source.index(), now_ms, config)
    updater.refresh()
    local.sync(directory)
    return updater


def download(updater: Updater, name: str, base_url: str, directory: Path) -> None:
    """One target, unless it is here already; a wrong one never replaces a good one."""
    target = updater.get_targetinfo(name)
    if target is None:
        raise Untrusted(f"{name}: nobody vouches for it")
    path = directory / quote(name, "")
    if updater.find_cached_target(target, str(path)) is not None:
        return
    data = get(_target_url(updater, target, base_url), target.length)
    target.verify_length_and_hashes(data)
    write_durably(path, data, 0o644)


def _target_url(updater: Updater, target: TargetFile, base_url: str) -> str:
    folder, slash, name = target.path.rpartition("/")
    if verified_root(updater).consistent_snapshot:
        name = f"{next(iter(target.hashes.values()))}.{name}"
    return base_url.rstrip("/") + "/" + quote(f"{folder}{slash}{name}", safe="/%")


def main(arguments: Sequence[str] | None = None) -> int:
    """0, or 1 with one line that names the class; 2 for wrong usage."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    if chosen.command != "init" and not chosen.metadata_url:
        parser.error(f"{chosen.command} needs --metadata-url")
    try:
        if chosen.command == "init":
            init(chosen.metadata_dir, chosen.root)
            return 0
        updater = refresh(chosen.metadata_dir, chosen.metadata_url)
        for name in chosen.target_name if chosen.command == "download" else ():
            download(updater, name, chosen.target_base_url, chosen.target_dir)
        local.sync(chosen.metadata_dir)
    except (DeviceError, RepositoryError, DownloadError, OSError, ValueError) as error:
        known = as_device_error(error)
        sys.stderr.write(f"{known.cause.value}: {known}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tuf_client")
    parser.add_argument("--metadata-dir", type=Path, required=True)
    parser.add_argument("--metadata-url", default="")
    parser.add_argument("--target-name", action="append", default=[])
    parser.add_argument("--target-base-url", default="")
    parser.add_argument("--target-dir", type=Path, default=Path())
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init").add_argument("root", type=Path)
    commands.add_parser("refresh")
    commands.add_parser("download")
    return parser
