"""One message of each kind, filled in throughout, and the file that holds its golden bytes.

Both ends decode these: the bytes are what a device or a hub in the field sends, so they never
change for a version that has shipped.
"""

from __future__ import annotations

from pathlib import Path

from contract import messages as m
from contract.deployments import Cause, Evidence, Mode, Outcome, Phase

GOLDEN = Path(__file__).parent / "golden"
BOOT = "0123456789abcdef" * 2
MODEL = "a" * 64
PROFILE = "b" * 64
STAMP = m.Stamp(boot=BOOT, mono_ms=90_000, at_ms=1_790_000_000_000, clock_trusted=True)
RESULT = m.Result(
    seq=7,
    target="digits/2",
    digest=MODEL,
    outcome=Outcome.ROLLED_BACK,
    cause=Cause.CLASS_COLLAPSE,
    detail="class 1 gets 100 % of 120 answers",
    at_ms=1_790_000_000_000,
)

MESSAGES: dict[str, m.Message] = {
    "birth": m.Birth(
        device="cam-1",
        session=BOOT,
        agent="0.1.0",
        wire=[1],
        hardware=m.Hardware(
            machine="aarch64",
            model="Raspberry Pi 5 Model B Rev 1.0",
            device_class="camera",
            cpus=4,
            memory_bytes=4 << 30,
            accelerators=["cuda"],
            runtimes={"onnxruntime": "1.31.1"},
        ),
        stamp=STAMP,
    ),
    "death": m.Death(device="cam-1", session=BOOT),
    "state": m.State(
        device="cam-1",
        stamp=STAMP,
        assignment_seq=7,
        families={
            "digits": m.FamilyState(
                phase=Phase.COMMITTED,
                serving=MODEL,
                target="digits/1",
                variant="onnx-int8",
                hold=True,
                good_inferences=300,
                last=RESULT,
            )
        },
        tuf_versions={"timestamp": 4},
        outbox_pending=2,
        outbox_dropped=1,
        free_bytes=1 << 30,
        heartbeat_s=900,
    ),
    "event": m.Event(
        device="cam-1",
        seq=41,
        stamp=STAMP,
        family="digits",
        target="digits/2",
        digest=MODEL,
        rollout="r-1",
        assignment_seq=7,
        phase=Phase.ROLLED_BACK,
        outcome=Outcome.ROLLED_BACK,
        cause=Cause.CLASS_COLLAPSE,
        detail="class 1 gets 100 % of 120 answers",
        figures={"bytes_fetched": 3_210.0, "trial_p95_ms": 0.25},
    ),
    "reply": m.Reply(device="cam-1", seq=42, stamp=STAMP, command="c-1", ok=True, detail="done"),
    "report": m.Report(
        device="cam-1",
        seq=43,
        stamp=STAMP,
        window_ms=60_000,
        inference={
            "digits": m.InferenceWindow(
                digest=MODEL,
                inferences=120,
                errors=1,
                invalid=2,
                probes=3,
                latency_ms_p50=0.2,
                latency_ms_p95=0.4,
                latency_ms_max=1.5,
                latency_counts=[0, 100, 20],
            )
        },
        drift={
            "digits": m.DriftWindow(
                digest=MODEL,
                profile=PROFILE,
                features={
                    "mean": m.FeatureCounts(
                        bins=[60, 60], n=120, missing=1, below=2, above=3, longest_run=4
                    )
                },
                classes=[12] * 10,
                confidence=m.FeatureCounts(bins=[120], n=120),
                entropy=m.FeatureCounts(bins=[120], n=120),
            )
        },
        resources=m.ResourceWindow(
            cpu_percent=12.5,
            memory_available_bytes=1 << 30,
            rss_control_bytes=40 << 20,
            rss_server_bytes=60 << 20,
            disk_free_bytes=1 << 30,
            temperature_c=51.5,
            throttled=False,
            load_1m=0.5,
        ),
    ),
    "want": m.Want(device="cam-1", target="digits/2", blobs=[MODEL]),
    "assignment": m.Assignment(
        device="cam-1",
        seq=7,
        issued_at_ms=1_790_000_000_000,
        expires_at_ms=1_792_592_000_000,
        families={
            "digits": m.FamilyAssignment(
                target="digits/2",
                digest=MODEL,
                rollout="r-1",
                mode=Mode.SERVE,
                deadline_ms=1_790_003_600_000,
                probation=m.ProbationPolicy(min_inferences=50, evidence=Evidence.PROBE),
            )
        },
    ),
    "command": m.Command(
        device="cam-1",
        id="c-1",
        verb=m.Verb.RELEASE_HOLD,
        family="digits",
        issued_at_ms=1_790_000_000_000,
        expires_at_ms=1_790_000_060_000,
    ),
    "ack": m.Ack(device="cam-1", acked=[m.Acked(boot=BOOT, seqs=[41, 42])]),
    "epoch": m.Epoch(hub="hub", epoch=BOOT, at_ms=1_790_000_000_000),
    "tuf-index": m.TufIndex(
        files={"timestamp.json": m.TufFile(length=469, digest=MODEL)}, at_ms=1_790_000_000_000
    ),
}


def golden_bytes(name: str) -> bytes:
    """The stored bytes of version 1 of one kind."""
    return (GOLDEN / f"{name}.v1.json").read_bytes().rstrip(b"\n")
