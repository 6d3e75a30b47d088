"""The cutter: the same cuts everywhere and always, and cuts that edits move little."""

from __future__ import annotations

import subprocess
import sys
from hashlib import sha256

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from model.fastcdc import GEAR, MAX_BYTES, MIN_BYTES, cut, gear_hashes
from tests.model.builders import rng

DATA = rng(1).bytes(2_000_000)
MEBIBYTE = rng(2).bytes(1 << 20)

# These are the format: a device that holds version 1 in these chunks fetches only what changed.
CUTS_OF_MEBIBYTE = [16281, 29567, 19910, 24423]


def _cuts_digest(data: bytes) -> str:
    return sha256(b"".join(sha256(piece).digest() for piece in cut(data))).hexdigest()


def test_chunks_join_to_the_file_again() -> None:
    assert b"".join(cut(DATA)) == DATA


def test_an_empty_file_has_no_chunks_and_a_short_one_has_one() -> None:
    assert cut(b"") == []
    assert cut(b"a") == [b"a"]


def test_every_chunk_but_the_last_keeps_the_limits() -> None:
    lengths = [len(piece) for piece in cut(DATA)]
    assert min(lengths[:-1]) >= MIN_BYTES
    assert max(lengths) <= MAX_BYTES


def test_chunks_of_random_data_are_near_the_target() -> None:
    assert 16_384 < len(DATA) / len(cut(DATA)) < 32_768


def test_a_constant_file_is_cut_at_the_maximum_whatever_its_byte() -> None:
    # Were a byte's own hash a boundary, files of zeros would fall into thousands of chunks.
    for byte in range(256):
        assert len(cut(bytes([byte]) * 250_000)) == 3


def test_the_gear_table_is_the_formats() -> None:
    assert GEAR.shape == (256,)
    assert GEAR[0] == int(sha256(b"\x00").hexdigest()[:8], 16)
    assert GEAR[255] == int(sha256(b"\xff").hexdigest()[:8], 16)


def test_the_cuts_are_the_formats() -> None:
    assert [len(piece) for piece in cut(MEBIBYTE)][:4] == CUTS_OF_MEBIBYTE


def test_the_vectorised_hash_is_the_gear_hash() -> None:
    octets = np.frombuffer(DATA[:500], np.uint8)
    wanted, value = [], 0
    for octet in octets:
        value = ((value << 1) + int(GEAR[octet])) & 0xFFFFFFFF
        wanted.append(value)
    assert gear_hashes(octets).tolist() == wanted


def test_cuts_do_not_depend_on_the_block_in_which_they_are_hashed() -> None:
    # One boundary block is 256 KiB; shifting the data moves each cut into another block.
    shift = 100_001
    shifted = set(cut(rng(3).bytes(shift) + DATA))
    assert len([piece for piece in cut(DATA) if piece not in shifted]) <= 6


def test_an_insertion_in_the_middle_changes_few_chunks() -> None:
    held = set(cut(DATA))
    edited = cut(DATA[:1_000_000] + b"seven b" + DATA[1_000_000:])
    assert len([piece for piece in edited if piece not in held]) <= 3


def test_a_changed_tail_leaves_the_head_alone() -> None:
    edited = cut(DATA[:-50_000] + rng(9).bytes(50_000))
    shared = sum(len(piece) for piece in edited if piece in set(cut(DATA)))
    assert shared > 1_850_000


def test_large_files_get_larger_chunks() -> None:
    block = rng(4).bytes(1 << 20)
    # 33 different mebibytes, cheaply: each is the block with another first kilobyte.
    large = b"".join(i.to_bytes(2, "big") * 512 + block[1024:] for i in range(33))
    assert len(cut(large)) < 33 * len(cut(block)) * 0.75


def test_another_process_with_another_hash_seed_cuts_alike() -> None:
    script = (
        "import numpy as np\nfrom hashlib import sha256\nfrom model.fastcdc import cut\n"
        "data = np.random.default_rng(2).bytes(1 << 20)\n"
        "print(sha256(b''.join(sha256(c).digest() for c in cut(data))).hexdigest())"
    )
    for seed in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        )
        assert done.stdout.strip() == _cuts_digest(MEBIBYTE)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.integers(1, 4_000))
def test_any_data_is_cut_within_the_limits(seed: bytes, repeats: int) -> None:
    data = seed * repeats
    pieces = cut(data)
    assert b"".join(pieces) == data
    assert all(MIN_BYTES <= len(piece) <= MAX_BYTES for piece in pieces[:-1])
