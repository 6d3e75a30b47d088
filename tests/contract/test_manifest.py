"""The manifest and the choice of a variant."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import MalformedManifest, NoVariantFits
from contract.manifest import (
    MAX_MANIFEST_BYTES,
    ChunkListRef,
    FileRef,
    GateRecord,
    Manifest,
    Requirements,
    Source,
    TensorSpec,
    Variant,
    decode_manifest,
    encode_manifest,
)
from contract.messages import Hardware
from contract.variants import choose_variant, version_key, why_not

DIGEST = "c" * 64


def file(path: str, length: int = 10) -> FileRef:
    return FileRef(path=path, length=length, digest=DIGEST, chunks=ChunkListRef(DIGEST, 1))


def variant(name: str = "onnx-int8", runtime: Any = "onnxruntime", **requires: Any) -> Variant:
    return Variant(
        name=name,
        runtime=runtime,
        requires=Requirements(**requires),
        model=file(f"{name}/model"),
        golden=file(f"{name}/golden"),
        profile=file(f"{name}/profile"),
        inputs=[TensorSpec(name="image", dtype="float32", shape=[-1, 1, 8, 8])],
        outputs=[TensorSpec(name="probabilities", dtype="float32", shape=[-1, 10])],
        evidence={"accuracy": 99.3},
    )


def manifest(*variants: Variant, **fields: Any) -> Manifest:
    return Manifest(
        family="digits",
        version="1",
        source=Source(name="digits-1.onnx", format="onnx", length=1, digest=DIGEST),
        gate=GateRecord(metric="accuracy", baseline=99.6, measured=99.3, max_drop=1, passed=True),
        variants=list(variants) or [variant()],
        **fields,
    )


def changed(path: list[Any], value: object) -> bytes:
    document = json.loads(encode_manifest(manifest()))
    node = document
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = value
    return json.dumps(document).encode()


def test_a_manifest_round_trips_to_the_same_bytes() -> None:
    data = encode_manifest(manifest())
    assert encode_manifest(decode_manifest(data)) == data
    assert decode_manifest(data).target == "digits/1"


def test_the_bytes_do_not_depend_on_the_order_in_which_fields_were_set() -> None:
    one = manifest(variant())
    two = msgspec.structs.replace(
        one, variants=[msgspec.structs.replace(one.variants[0], evidence={"a": 1.0, "b": 2.0})]
    )
    three = msgspec.structs.replace(
        one, variants=[msgspec.structs.replace(one.variants[0], evidence={"b": 2.0, "a": 1.0})]
    )
    assert encode_manifest(two) == encode_manifest(three)


@pytest.mark.parametrize(
    ("path", "value", "names"),
    [
        (["family"], "Digits", "family"),
        (["version"], "a/b", "version"),
        (["schema"], 2, "schema 2"),
        (["variants"], [], "variants"),
        (["variants", 0, "model", "path"], "../../etc/passwd", "path"),
        (["variants", 0, "model", "path"], "/etc/passwd", "path"),
        (["variants", 0, "model", "path"], "a//b", "path"),
        (["variants", 0, "model", "digest"], "zz", "digest"),
        (["variants", 0, "model", "length"], -1, "length"),
        (["variants", 0, "model", "length"], 1 << 20, "longer than its chunks"),
        (["variants", 0, "model", "chunks"], None, "no chunk list"),
        (["variants", 0, "model", "chunks", "count"], 1 << 30, "count"),
        (["variants", 0, "runtime"], "tensorrt", "runtime"),
        (["variants", 0, "inputs"], [], "inputs"),
        (["gate"], None, "gate"),
    ],
)
def test_a_manifest_out_of_bounds_is_refused_by_name(
    path: list[Any], value: object, names: str
) -> None:
    with pytest.raises(MalformedManifest, match=names):
        decode_manifest(changed(path, value))


def test_two_variants_of_one_name_are_refused() -> None:
    with pytest.raises(MalformedManifest, match="same name"):
        decode_manifest(encode_manifest(manifest(variant(), variant())))


def test_one_path_with_two_digests_is_refused() -> None:
    other = msgspec.structs.replace(file("onnx-int8/model"), digest="d" * 64)
    second = msgspec.structs.replace(variant("b"), model=other)
    with pytest.raises(MalformedManifest, match="described twice"):
        decode_manifest(encode_manifest(manifest(variant(), second)))


def test_a_file_that_is_also_a_folder_is_refused() -> None:
    inner = msgspec.structs.replace(variant("b"), model=file("onnx-int8/model/inner"))
    with pytest.raises(MalformedManifest, match="under a path that is a file"):
        decode_manifest(encode_manifest(manifest(variant(), inner)))


def test_a_zero_point_that_no_runtime_has_is_refused() -> None:
    quantised = {"scale": 1.0, "zero_point": 10**400}
    with pytest.raises(MalformedManifest, match=r"zero_point"):
        decode_manifest(changed(["variants", 0, "inputs", 0, "quantisation"], quantised))


def test_a_name_that_is_not_text_is_malformed() -> None:
    with pytest.raises(MalformedManifest, match="not text"):
        encode_manifest(manifest(labels=["\udcff"]))


def test_a_manifest_that_would_not_fit_into_a_blob_is_refused_at_both_ends() -> None:
    big = manifest(labels=["x" * 120] * 1024)
    with pytest.raises(MalformedManifest, match="at most"):
        encode_manifest(big)
    with pytest.raises(MalformedManifest, match="at most"):
        decode_manifest(b" " * (MAX_MANIFEST_BYTES + 1))


@given(st.binary(max_size=300))
def test_arbitrary_bytes_raise_nothing_but_malformed_manifest(data: bytes) -> None:
    with pytest.raises(MalformedManifest):
        decode_manifest(data)


PI = Hardware(
    machine="aarch64", memory_bytes=1 << 30, runtimes={"onnxruntime": "1.23.2", "litert": "2.1.0"}
)


def test_the_first_variant_that_runs_is_chosen() -> None:
    release = manifest(
        variant("fp16", accelerators=["cuda"]), variant("int8"), variant("tflite", "litert")
    )
    assert choose_variant(release, PI).name == "int8"


def test_tflite_runtime_runs_what_litert_would() -> None:
    armv7 = Hardware(machine="armv7l", runtimes={"tflite-runtime": "2.14.0"})
    assert why_not(variant("tflite", "litert"), armv7) is None


@pytest.mark.parametrize(
    ("requires", "reason"),
    [
        ({"machines": ["x86_64"]}, "needs x86_64, this is aarch64"),
        ({"accelerators": ["cuda"]}, "needs cuda"),
        ({"memory_bytes": 1 << 31}, "bytes of memory"),
        ({"min_runtime": "1.24"}, "needs onnxruntime 1.24"),
    ],
)
def test_a_variant_that_does_not_fit_says_why(requires: dict[str, Any], reason: str) -> None:
    assert reason in str(why_not(variant(**requires), PI))


def test_a_release_that_fits_nowhere_gives_a_reason_for_each_variant() -> None:
    release = manifest(variant("a", machines=["x86_64"]), variant("b", accelerators=["cuda"]))
    with pytest.raises(NoVariantFits, match=r"a: needs x86_64.*b: needs cuda"):
        choose_variant(release, PI)


def test_a_runtime_that_is_not_installed_is_named() -> None:
    bare = Hardware(machine="aarch64")
    assert "not installed" in str(why_not(variant(), bare))


def test_versions_compare_as_numbers() -> None:
    assert version_key("1.9") < version_key("1.10.0")
    assert version_key("2.14.0+local") == (2, 14, 0)
    assert version_key("nightly") == ()
