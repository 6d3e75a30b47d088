"""`serving.json`: which installed release answers for each family, and which stands behind it.

The control process writes it before each switch; the inference server reads it at its own boot,
so that it can serve alone: without the control process, the network or TUF. One writer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from agent.errors import Malformed
from agent.store.durable import write_durably
from contract.ids import Digest, Id, TargetName
from contract.messages import MAX_FAMILIES

SERVING_SCHEMA = 1
MAX_SERVING_BYTES = 512 * 1024


class ServingEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An installed release; `directory` is absolute and holds model.installed's layout."""

    digest: Digest
    """Of the manifest."""
    directory: Annotated[str, Meta(min_length=1, max_length=4096)]
    variant: Id
    target: TargetName
    previous: ServingEntry | None = None
    """What serves when this one cannot; itself committed, and present on disk."""
    probation: bool = False


class ServingFile(msgspec.Struct, frozen=True, kw_only=True):
    """What serves, by family."""

    schema: int = SERVING_SCHEMA
    families: Annotated[dict[Id, ServingEntry], Meta(max_length=MAX_FAMILIES)] = {}


def serving_path(state_dir: Path) -> Path:
    """Where the file stands in the state folder."""
    return state_dir / "serving.json"


def read_serving(state_dir: Path) -> ServingFile:
    """The file, or an empty one when there is none yet; raises `Malformed` when it is broken."""
    path = serving_path(state_dir)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SERVING_BYTES + 1)
    except FileNotFoundError:
        return ServingFile()
    if len(data) > MAX_SERVING_BYTES:
        raise Malformed(f"{path}: more than {MAX_SERVING_BYTES} bytes")
    try:
        found = msgspec.json.decode(data, type=ServingFile)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Malformed(f"{path}: {str(error)[:200]}") from error
    if found.schema != SERVING_SCHEMA:
        raise Malformed(f"{path}: schema {found.schema}; this program reads {SERVING_SCHEMA}")
    return found


def write_serving(state_dir: Path, serving: ServingFile) -> None:
    """Replace the file atomically; durable when it returns. Raises `DiskFull`."""
    data = msgspec.json.format(msgspec.json.encode(serving, order="sorted"), indent=1)
    write_durably(serving_path(state_dir), data + b"\n")


def set_family(state_dir: Path, family: str, entry: ServingEntry | None) -> None:
    """Change one family's entry and keep the others; None removes it.

    A file that cannot be read is replaced: the caller's journal knows the other families too, and
    writes them again at its next boot.
    """
    try:
        families = dict(read_serving(state_dir).families)
    except Malformed:
        families = {}
    before = families.get(family)
    if entry is None:
        families.pop(family, None)
    else:
        families[family] = entry
    if before != entry:
        write_serving(state_dir, ServingFile(families=families))
