"""One python-tuf `Updater` for one refresh: our bounds, our fetcher, our anchor, our time.

Never the system's clock, and never the root that lies in the cache: what a refresh starts from is
the anchor that enrolment brought. tests/conformance/tuf_client holds this against the rules of TUF.
"""

from __future__ import annotations

from pathlib import Path

from tuf.ngclient import Updater, UpdaterConfig

from agent.ports import MetadataSource
from agent.trust import local
from agent.trust.fetcher import BASE_URL, SourceFetcher
from agent.trust.tuf_internals import set_reference_time
from contract.messages import TufIndex
from contract.trust import (
    MAX_ROOT_BYTES,
    MAX_SNAPSHOT_BYTES,
    MAX_TARGETS_BYTES,
    MAX_TIMESTAMP_BYTES,
)

CONFIG = UpdaterConfig(
    max_root_rotations=64,
    max_delegations=4,
    root_max_length=MAX_ROOT_BYTES,
    timestamp_max_length=MAX_TIMESTAMP_BYTES,
    snapshot_max_length=MAX_SNAPSHOT_BYTES,
    targets_max_length=MAX_TARGETS_BYTES,
)


def new_updater(
    directory: Path,
    source: MetadataSource,
    index: TufIndex,
    now_ms: int,
    config: UpdaterConfig = CONFIG,
) -> Updater:
    """Ready for `refresh`, which judges expiry by `now_ms`. Raises what python-tuf raises."""
    updater = Updater(
        str(directory),
        BASE_URL,
        fetcher=SourceFetcher(source, index),
        config=config,
        bootstrap=local.read_anchor(directory),
    )
    set_reference_time(updater, now_ms)
    return updater
