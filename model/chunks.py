"""Files as blobs: chunks, chunk lists, and the framing in which blobs travel.

A blob is named by the SHA-256 of its *uncompressed* bytes, and its length is always known before
it is unpacked. Manifests, chunk lists and chunks all travel framed: one tag byte (0 raw, 1 zstd),
then the body. Where the cuts fall is model.fastcdc's; how blobs are carried is not known here.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import msgspec
import zstandard

from contract.errors import MalformedBlob
from contract.ids import digest_of, require_digest
from contract.manifest import MAX_CHUNK_BYTES, MAX_CHUNKS, ChunkListRef, FileRef
from model.archive import Bundle
from model.errors import BrokenBundle, TooLargeToChunk
from model.fastcdc import cut

MAX_BLOB_BYTES = MAX_CHUNK_BYTES
MAX_PAYLOAD_BYTES = MAX_BLOB_BYTES + 1
"""A framed blob is never longer than the blob and its tag."""
_ENTRY_BYTES = 36
_OWN = threading.local()
_RAW, _ZSTD = b"\x00", b"\x01"
_LEVEL = 12
_MAX_WINDOW = 1 << 20
"""zstd's window for a blob of 120 KiB is far below; a frame that asks for more is refused."""


class Chunk(msgspec.Struct, frozen=True):
    """A chunk by its SHA-256 (hex) and its length in bytes."""

    digest: str
    length: int


def chunk_list(data: bytes) -> tuple[bytes, list[Chunk]]:
    """Cut `data`; returns the binary chunk list and what it lists, in order.

    The list holds 36 bytes a chunk: the digest, then the length as u32 big-endian. Raises
    `TooLargeToChunk` beyond `MAX_CHUNKS`.
    """
    chunks = [Chunk(digest_of(piece), len(piece)) for piece in cut(data)]
    if len(chunks) > MAX_CHUNKS:
        raise TooLargeToChunk(
            f"{len(data)} bytes cut into {len(chunks)} chunks; at most {MAX_CHUNKS}"
        )
    entries = (bytes.fromhex(c.digest) + c.length.to_bytes(4, "big") for c in chunks)
    return b"".join(entries), chunks


def parse_chunk_list(data: bytes, count: int) -> list[Chunk]:
    """The chunks of a binary list that has to hold `count`; raises `MalformedBlob`."""
    if not 0 <= count <= MAX_CHUNKS or len(data) != count * _ENTRY_BYTES:
        raise MalformedBlob(f"chunk list of {len(data)} bytes for {count} chunks")
    entries = (data[i : i + _ENTRY_BYTES] for i in range(0, len(data), _ENTRY_BYTES))
    chunks = [Chunk(entry[:32].hex(), int.from_bytes(entry[32:], "big")) for entry in entries]
    for chunk in chunks:
        if not 0 < chunk.length <= MAX_CHUNK_BYTES:
            raise MalformedBlob(f"chunk {chunk.digest[:16]}… of {chunk.length} bytes")
    return chunks


def frame(data: bytes) -> bytes:
    """A blob as it travels: zstd where that is smaller, raw elsewhere."""
    if len(data) > MAX_BLOB_BYTES:
        raise MalformedBlob(f"blob of {len(data)} bytes; at most {MAX_BLOB_BYTES}")
    packed = zstandard.ZstdCompressor(level=_LEVEL).compress(data)
    return _ZSTD + packed if len(packed) < len(data) else _RAW + data


def unframe(payload: bytes, length: int, digest: str) -> bytes:
    """The blob of `length` bytes and SHA-256 `digest` in a payload that a stranger may have sent.

    Never unpacks more than `length` + 1 bytes, and nothing that announces another length. Raises
    `MalformedBlob` or `DigestMismatch`.
    """
    what = f"blob {digest[:16]}…"
    if not 0 <= length <= MAX_BLOB_BYTES or len(payload) > MAX_PAYLOAD_BYTES:
        raise MalformedBlob(f"{what}: payload of {len(payload)} bytes for {length}")
    data = _unpack(payload, length, what)
    if len(data) != length:
        more = "more than " if len(data) > length else ""
        raise MalformedBlob(f"{what}: unpacks to {more}{min(len(data), length)}, not {length}")
    return require_digest(data, digest, what)


def file_ref(path: str, data: bytes, chunked: bool = True) -> FileRef:
    """How a manifest names this file; `chunked=False` for files that stay at the hub."""
    chunks = None
    if chunked:
        packed, listed = chunk_list(data)
        chunks = ChunkListRef(digest_of(packed), len(listed))
    return FileRef(path=path, length=len(data), digest=digest_of(data), chunks=chunks)


def blobs_of(bundle: Bundle) -> Iterator[tuple[str, bytes]]:
    """(digest, unframed bytes) of every blob that devices may fetch, each once: the manifest,
    then per device file its chunk list and chunks.

    Raises what `Bundle.read` raises, and `BrokenBundle` for a file that cuts differently than
    its manifest says, since devices could then never fetch it.
    """
    manifest_digest = digest_of(bundle.manifest_bytes)
    yield manifest_digest, bundle.manifest_bytes
    seen = {manifest_digest}
    for ref in {ref.path: ref for ref in bundle.manifest.device_files}.values():
        for blob in _file_blobs(ref, bundle.read(ref)):
            digest = digest_of(blob)
            if digest not in seen:
                seen.add(digest)
                yield digest, blob


def _file_blobs(ref: FileRef, data: bytes) -> Iterator[bytes]:
    packed, chunks = chunk_list(data)
    if ref.chunks != ChunkListRef(digest_of(packed), len(chunks)):
        raise BrokenBundle(f"{ref.path}: its chunk list is not the one that the manifest names")
    yield packed
    start = 0
    for chunk in chunks:
        yield data[start : start + chunk.length]
        start += chunk.length


def _unpack(payload: bytes, length: int, what: str) -> bytes:
    tag, body = payload[:1], payload[1:]
    if tag == _RAW:
        return body
    if tag != _ZSTD:
        raise MalformedBlob(f"{what}: payload is empty" if not tag else f"{what}: tag {tag.hex()}")
    try:
        announced = zstandard.get_frame_parameters(body).content_size
        if announced == length:
            return _decompressor().decompress(body, allow_extra_data=False)
        if announced not in (zstandard.CONTENTSIZE_UNKNOWN, zstandard.CONTENTSIZE_ERROR):
            raise MalformedBlob(f"{what}: unpacks to {announced}, not {length}")
        with _decompressor().stream_reader(body) as reader:
            return reader.read(length + 1)
    except (zstandard.ZstdError, ValueError, MemoryError) as error:
        raise MalformedBlob(f"{what}: {str(error)[:200]}") from error


def _decompressor() -> zstandard.ZstdDecompressor:
    """One a thread: making one costs as much as unpacking a chunk, and none is thread-safe."""
    found: zstandard.ZstdDecompressor | None = getattr(_OWN, "decompressor", None)
    if found is None:
        found = _OWN.decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
    return found


__all__ = [
    "MAX_BLOB_BYTES",
    "MAX_PAYLOAD_BYTES",
    "Chunk",
    "blobs_of",
    "chunk_list",
    "cut",
    "file_ref",
    "frame",
    "parse_chunk_list",
    "unframe",
]
