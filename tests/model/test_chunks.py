"""Blobs: what is framed comes back, and nothing that a stranger frames does harm."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import msgspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.errors import ContractError, DigestMismatch, MalformedBlob
from contract.ids import digest_of
from contract.manifest import MAX_CHUNK_BYTES, MAX_CHUNKS, ChunkListRef
from model.archive import open_bundle, write_bundle
from model.chunks import (
    MAX_PAYLOAD_BYTES,
    Chunk,
    blobs_of,
    chunk_list,
    file_ref,
    frame,
    parse_chunk_list,
    unframe,
)
from model.errors import BrokenBundle, TooLargeToChunk
from tests.model.builders import release, rng

NOISE = rng(5).bytes(100_000)
ZEROS = bytes(100_000)


def test_a_chunk_list_parses_to_what_was_cut() -> None:
    packed, chunks = chunk_list(NOISE)
    assert len(packed) == 36 * len(chunks)
    assert parse_chunk_list(packed, len(chunks)) == chunks
    assert sum(chunk.length for chunk in chunks) == len(NOISE)


def test_an_empty_file_has_an_empty_chunk_list() -> None:
    assert chunk_list(b"") == (b"", [])
    assert parse_chunk_list(b"", 0) == []


def test_a_chunk_list_entry_is_digest_then_length_big_endian() -> None:
    packed, _ = chunk_list(b"abc")
    assert packed == bytes.fromhex(digest_of(b"abc")) + b"\x00\x00\x00\x03"


@pytest.mark.parametrize("count", [-1, 0, 2, MAX_CHUNKS + 1])
def test_a_chunk_list_of_another_count_is_malformed(count: int) -> None:
    packed, _ = chunk_list(b"abc")
    with pytest.raises(MalformedBlob, match="chunk list of 36 bytes"):
        parse_chunk_list(packed, count)


@pytest.mark.parametrize("length", [0, MAX_CHUNK_BYTES + 1, (1 << 32) - 1])
def test_a_chunk_of_an_impossible_length_is_malformed(length: int) -> None:
    with pytest.raises(MalformedBlob, match="bytes"):
        parse_chunk_list(bytes(32) + length.to_bytes(4, "big"), 1)


def test_a_file_of_too_many_chunks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.chunks.MAX_CHUNKS", 2)
    with pytest.raises(TooLargeToChunk, match="at most 2"):
        chunk_list(NOISE)


def test_what_shrinks_travels_as_zstd_and_the_rest_raw() -> None:
    assert frame(ZEROS)[:1] == b"\x01"
    assert len(frame(ZEROS)) < 100
    assert frame(NOISE) == b"\x00" + NOISE


@pytest.mark.parametrize("data", [b"", b"a", NOISE, ZEROS, b"ab" * 60 * 1024])
def test_a_framed_blob_comes_back(data: bytes) -> None:
    payload = frame(data)
    assert len(payload) <= MAX_PAYLOAD_BYTES
    assert unframe(payload, len(data), digest_of(data)) == data


def test_a_blob_above_the_limit_is_not_framed() -> None:
    with pytest.raises(MalformedBlob, match="at most"):
        frame(bytes(MAX_CHUNK_BYTES + 1))


def test_an_altered_blob_is_a_digest_mismatch() -> None:
    payload = bytearray(frame(NOISE))
    payload[500] ^= 1
    with pytest.raises(DigestMismatch):
        unframe(bytes(payload), len(NOISE), digest_of(NOISE))


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"", "payload is empty"),
        (b"\x02abc", "tag 02"),
        (b"\x01abc", "blob"),
        (b"\x00ab", "unpacks to 2, not 3"),
        (b"\x00abcd", "unpacks to more than 3"),
        (frame(ZEROS)[:-3], "unpacks"),
        (b"\x00" + bytes(MAX_PAYLOAD_BYTES), "payload of"),
    ],
)
def test_broken_framing_is_malformed(payload: bytes, message: str) -> None:
    with pytest.raises(MalformedBlob, match=message):
        unframe(payload, 3, digest_of(b"abc"))


def test_a_length_beyond_a_blobs_is_refused() -> None:
    with pytest.raises(MalformedBlob):
        unframe(frame(ZEROS), MAX_CHUNK_BYTES + 1, digest_of(ZEROS))


@pytest.mark.parametrize("announces_size", [True, False])
def test_a_zstd_bomb_stops_at_the_announced_length(announces_size: bool) -> None:
    bomb = bytes(200 << 20)
    compressor = zstandard.ZstdCompressor(write_content_size=announces_size)
    payload = b"\x01" + compressor.compress(bomb)
    del bomb
    assert len(payload) < MAX_PAYLOAD_BYTES
    tracemalloc.start()
    with pytest.raises(MalformedBlob):
        unframe(payload, 1_000, digest_of(b""))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20


def test_a_frame_that_lies_about_its_length_is_malformed() -> None:
    payload = bytearray(frame(bytes(200)))
    honest = zstandard.get_frame_parameters(bytes(payload[1:])).content_size
    assert honest == 200
    payload[payload.index(200, 5)] = 100  # the header's size of what follows
    with pytest.raises(MalformedBlob):
        unframe(bytes(payload), 100, digest_of(bytes(100)))


def test_what_follows_a_whole_frame_is_malformed() -> None:
    with pytest.raises(MalformedBlob):
        unframe(frame(ZEROS) + b"more", len(ZEROS), digest_of(ZEROS))


def test_a_frame_without_its_length_is_unpacked_all_the_same() -> None:
    packed = zstandard.ZstdCompressor(write_content_size=False).compress(ZEROS)
    assert unframe(b"\x01" + packed, len(ZEROS), digest_of(ZEROS)) == ZEROS


def test_a_frame_that_asks_for_a_huge_window_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27, write_content_size=False)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    payload = b"\x01" + compressor.compress(b"abc") + compressor.flush()
    with pytest.raises(MalformedBlob):
        unframe(payload, 3, digest_of(b"abc"))


def test_a_file_ref_names_its_chunk_list() -> None:
    packed, chunks = chunk_list(NOISE)
    ref = file_ref("m.onnx", NOISE)
    assert ref.chunks == ChunkListRef(digest_of(packed), len(chunks))
    assert (ref.length, ref.digest) == (len(NOISE), digest_of(NOISE))
    assert file_ref("notes.txt", NOISE, chunked=False).chunks is None


def test_a_release_can_be_put_together_from_its_blobs(tmp_path: Path) -> None:
    manifest, files = release(tmp_path)
    write_bundle(tmp_path / "b", manifest, files)
    with open_bundle(tmp_path / "b") as bundle:
        blobs = list(blobs_of(bundle))
        held = dict(blobs)
        assert len(held) == len(blobs)
        assert held[digest_of(bundle.manifest_bytes)] == bundle.manifest_bytes
    assert all(digest_of(data) == digest for digest, data in held.items())
    for ref in manifest.device_files:
        assert ref.chunks is not None
        listed = parse_chunk_list(held[ref.chunks.digest], ref.chunks.count)
        assert b"".join(held[chunk.digest] for chunk in listed) == files[ref.path]
    assert digest_of(files["report.json"]) not in held


def test_a_manifest_with_a_foreign_chunk_list_has_no_blobs(tmp_path: Path) -> None:
    manifest, files = release(tmp_path)
    (variant,) = manifest.variants
    foreign = msgspec.structs.replace(variant.model, chunks=ChunkListRef("0" * 64, 1))
    altered = msgspec.structs.replace(
        manifest, variants=[msgspec.structs.replace(variant, model=foreign)]
    )
    write_bundle(tmp_path / "b", altered, files)
    with open_bundle(tmp_path / "b") as bundle, pytest.raises(BrokenBundle, match=r"model\.onnx"):
        list(blobs_of(bundle))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(-1, 300))
def test_no_payload_raises_anything_but_a_contract_error(payload: bytes, length: int) -> None:
    for tagged in (payload, b"\x01" + payload, b"\x01\x28\xb5\x2f\xfd" + payload):
        try:
            unframe(tagged, length, digest_of(payload))
        except ContractError:
            continue


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 60), st.binary(min_size=1, max_size=4))
def test_no_damaged_frame_raises_anything_but_a_contract_error(place: int, junk: bytes) -> None:
    good = frame(b"outrider " * 200)
    damaged = good[:place] + junk + good[place + len(junk) :]
    try:
        unframe(damaged, 1_800, digest_of(b"outrider " * 200))
    except ContractError:
        assert damaged != good


@given(st.binary(max_size=400), st.integers(-2, 12))
def test_no_chunk_list_raises_anything_but_a_contract_error(data: bytes, count: int) -> None:
    try:
        chunks = parse_chunk_list(data, count)
    except ContractError:
        return
    assert all(isinstance(chunk, Chunk) for chunk in chunks)
