"""Chunk lists of any content give a plan that adds up, or `Malformed`."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import Malformed
from agent.store.staging import plan_files
from contract.manifest import MAX_CHUNK_BYTES, ChunkListRef, FileRef

ENTRY = st.tuples(
    st.sampled_from([b"\1" * 32, b"\2" * 32]) | st.binary(min_size=32, max_size=32),
    st.integers(1, 4) | st.sampled_from([0, MAX_CHUNK_BYTES, MAX_CHUNK_BYTES + 1, 2**32 - 1]),
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(ENTRY, max_size=6),
    st.binary(max_size=40),
    st.integers(0, 30),
    st.integers(0, 8),
)
def test_any_chunk_list_is_a_plan_or_malformed(
    entries: list[tuple[bytes, int]], tail: bytes, length: int, count: int
) -> None:
    packed = b"".join(digest + size.to_bytes(4, "big") for digest, size in entries)
    for data in (packed, packed + tail):
        for said in (length, sum(size for _, size in entries)):
            chunks = ChunkListRef("1" * 64, count or len(entries))
            ref = FileRef(path="model", length=said, digest="0" * 64, chunks=chunks)
            try:
                plan = plan_files([(ref, data)])
            except Malformed:
                continue
            held = [(p.offset, plan.lengths[d]) for d, at in plan.places.items() for p in at]
            ends = [offset + size for offset, size in sorted(held)]
            assert [offset for offset, _ in sorted(held)] == [0, *ends][: len(held)]
            assert ([0, *ends])[-1] == ref.length == plan.full_bytes
