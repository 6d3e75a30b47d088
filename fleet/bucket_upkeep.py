"""Keeps the bucket to what open rollouts and assignments need: puts what lacks, clears the rest.

Level-triggered, by comparing the database with a listing: whatever a crash left undone is seen the
next time, and nothing is remembered. The bucket is a cache, as the broker is. While it cannot be
had, devices are given their blobs by the hub itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from contract.blob_places import MAX_OBJECT_BYTES
from contract.errors import ContractError
from fleet.blobs import BlobStore
from fleet.bucket import Bucket
from fleet.errors import BlobMissing, BucketFailed
from fleet.owed import needed_above
from fleet.packs import Pack, PackBody, Shelf, in_order, pack_of
from fleet.ports import Clock
from fleet.storage.database import Storage

_LOG = logging.getLogger(__name__)
LOOK_S = 5.0
LONGEST_REST_S = 300.0
"""Between two tries of a bucket that is away."""
LIST_EVERY_MS = 600_000
GRACE_MS = 24 * 3_600_000
"""Devices may be at it yet."""


class Stopping(OSError):
    """The hub stops in the middle of an upload, of which the store then keeps nothing."""


class ObjectRefused(BucketFailed):
    """One object did not get there although the bucket answers: the others are good."""


class BucketUpkeep:
    """The bucket thread's step."""

    def __init__(
        self,
        bucket: Bucket,
        shelf: Shelf,
        storage: Storage,
        blobs: BlobStore,
        clock: Clock,
        wait: Callable[[float], bool],
    ) -> None:
        """`wait` sleeps for so many seconds, or less when the hub stops, and says whether it does.

        Asks nobody before the first `step`.
        """
        self._bucket, self._shelf = bucket, shelf
        self._storage, self._blobs = storage, blobs
        self._clock, self._wait = clock, wait
        self._packs: dict[str, Pack] = {}
        """Of the needed releases."""
        self._broken: set[str] = set()
        """Releases that cannot be packed, and that this was said of."""
        self._sizes: dict[str, int] | None = None
        """What the bucket holds; None: to be asked."""
        self._listed_at_ms = 0
        self._refused: dict[str, str] = {}
        """Why a needed release did not get there; the others come first."""
        self._unneeded_since_ms: dict[str, int] = {}
        self._rest_s = LOOK_S

    def step(self) -> None:
        """Put at most one object, clear what is due; then a pause unless there is more to do."""
        try:
            busy = self._tend(self._clock())
        except ObjectRefused as error:
            self._rest(error)
            return
        except BucketFailed as error:
            # Addresses into a bucket that is away would cost each device a try.
            self._shelf.held, self._sizes = {}, None
            self._rest(error)
            return
        self._shelf.trouble, self._rest_s = next(iter(self._refused.values()), ""), LOOK_S
        if not busy:
            self._wait(LOOK_S)

    def _rest(self, error: BucketFailed) -> None:
        if not self._wait(0):
            self._shelf.trouble = str(error)
            _LOG.warning("%s; devices get their blobs from the hub", error)
            self._wait(self._rest_s)
        self._rest_s = min(2 * self._rest_s, LONGEST_REST_S)

    def _tend(self, now_ms: int) -> bool:
        self._look()
        if self._sizes is None or now_ms - self._listed_at_ms >= LIST_EVERY_MS:
            self._sizes, self._listed_at_ms = self._bucket.sizes(), now_ms
        sizes = self._sizes
        missing = [p for p in self._packs.values() if sizes.get(p.name) != p.length]
        missing.sort(key=lambda pack: pack.release in self._refused)
        self._show(missing)
        self._clear(sizes, now_ms)  # before an upload: what is needed may change while it lasts
        if missing:
            self._put(missing[0])
            sizes[missing[0].name] = missing[0].length
            self._show(missing[1:])
        return len(missing) > 1

    def _look(self) -> None:
        """Which releases are needed; each is read from disk once."""
        with self._storage.reading() as session:
            needed = needed_above(session, self._bucket.config.above_bytes)
        for known in (self._packs, self._refused):
            for target in [t for t in known if t not in needed]:
                del known[target]
        for target, manifest in needed.items():
            if target not in self._packs:
                self._pack(target, manifest)

    def _pack(self, target: str, manifest: bytes) -> None:
        try:
            digests = in_order(manifest, self._blobs.get)
            pack = pack_of(target, digests, [self._blobs.size(digest) for digest in digests])
            if pack.length > MAX_OBJECT_BYTES:
                raise BlobMissing(f"{pack.length} bytes are too many for one object")
        except (BlobMissing, ContractError) as error:
            if target not in self._broken:
                self._broken.add(target)
                _LOG.error("%s does not go to the bucket: %s", target, error)
            return
        self._broken.discard(target)
        self._packs[target] = pack

    def _put(self, pack: Pack) -> None:
        _LOG.info("putting %s into the bucket: %d bytes", pack.release, pack.length)
        try:
            with PackBody(pack, self._read) as body:
                self._bucket.put(pack.name, body)
        except (BlobMissing, BucketFailed) as error:
            # Looked at again: what is lost on this disk says itself when it is packed.
            del self._packs[pack.release]
            if self._wait(0):
                raise BucketFailed(str(error)) from error
            self._sizes = self._bucket.sizes()  # raises when the bucket is away
            self._refused.pop(pack.release, None)  # to the end
            self._refused[pack.release] = f"{pack.release}: {error}"
            raise ObjectRefused(self._refused[pack.release]) from error
        self._refused.pop(pack.release, None)

    def _read(self, digest: str) -> bytes:
        if self._wait(0):
            raise Stopping("the hub stops")
        return self._blobs.get(digest)

    def _show(self, missing: Iterable[Pack]) -> None:
        absent = {pack.release for pack in missing}
        self._shelf.held = {t: pack for t, pack in self._packs.items() if t not in absent}

    def _clear(self, sizes: dict[str, int], now_ms: int) -> None:
        needed = {pack.name for pack in self._packs.values()}
        since = self._unneeded_since_ms
        self._unneeded_since_ms = since = {
            name: since.get(name, now_ms) for name in sizes if name not in needed
        }
        for name, start in list(since.items()):
            if now_ms - start >= GRACE_MS:
                _LOG.info("clearing %s… from the bucket", name[:16])
                self._bucket.delete(name)
                del sizes[name], since[name]
