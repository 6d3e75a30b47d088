"""The demo's scenes after the first, in order. Each shows one thing, measures it, and fails loudly
when it does not come true."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from outrider.demo import attack, crash
from outrider.demo.evidence import bytes_fetched, class_shares, refusals, waves_in_words
from outrider.demo.record import Conversion, Fetched, Figures, Served
from outrider.demo.releases import FAMILY, make
from outrider.demo.stage import PASSPHRASE, Stage
from outrider.errors import CommandFailed

REFUSALS = ("rejected", "failed")


def convert_and_roll_out(stage: Stage, figures: Figures) -> None:
    """digits:1 from float32 to every device."""
    conversion = _convert(stage, figures, "1")
    _sign_and_publish(stage, "1")
    rollout = stage.finish_rollout(_first_rollout(stage))
    _require(
        rollout["status"] == "completed", f"digits:1: {rollout['status']}, {rollout['reason']}"
    )
    for device in stage.devices:
        _require(device.camera.answers.answered > 0, f"{device.name} does not answer")
    stage.narrator.tell(
        f"digits:1 is int8: {conversion.bytes_int8:,} bytes for {conversion.bytes_float32:,}"
        f" ({conversion.bytes_int8 / conversion.bytes_float32:.2f}), accuracy"
        f" {conversion.accuracy_int8:.2f} % for {conversion.accuracy_float32:.2f} %, p50"
        f" {conversion.p50_ms_int8 * 1000:.0f} us for {conversion.p50_ms_float32 * 1000:.0f} us",
        f"int8: {conversion.bytes_int8 / conversion.bytes_float32:.2f} x the bytes,"
        f" {conversion.accuracy_int8:.2f} % for {conversion.accuracy_float32:.2f} %",
    )
    seconds = (rollout["finished_at_ms"] - rollout["created_at_ms"]) / 1000
    stage.narrator.tell(
        f"signed with offline keys, published, rolled out: {rollout['counts']['succeeded']} of"
        f" {len(stage.devices)} serve it with good inferences after {seconds:.1f} s",
        f"{rollout['counts']['succeeded']} of {len(stage.devices)} serve it after {seconds:.1f} s",
    )


def measure_inference(stage: Stage, figures: Figures) -> None:
    """Every device answers an unmodified tritonclient over all held-out scans."""
    found = []
    for device in stage.devices:
        with stage.narrator.waiting(f"{device.name} to answer {len(stage.scans.labels)} scans"):
            measured = device.camera.measure()
        _require(measured.version == "1", f"{device.name} serves {measured.version}, not digits:1")
        found.append(
            Served(
                device.name, measured.version, measured.accuracy, measured.p50_ms, measured.p95_ms
            )
        )
    figures.served += found
    accuracy = " to ".join(sorted({f"{one.accuracy:.2f} %" for one in found}))
    p50s = sorted(one.p50_ms for one in found)
    p95 = max(one.p95_ms for one in found)
    stage.narrator.tell(
        f"{len(found)} devices, {len(stage.scans.labels)} held-out scans each, tritonclient over"
        f" HTTP: accuracy {accuracy}, p50 {p50s[0]:.2f} to {p50s[-1]:.2f} ms, p95 {p95:.2f} ms at"
        " most",
        f"accuracy {accuracy}, p95 {p95:.2f} ms at most",
    )


def attack_fleet(stage: Stage, figures: Figures) -> None:
    """What a stolen hub pushes, and no offline key vouches for, is refused by every device."""
    _convert(stage, figures, "2")
    bundle = stage.workshop.bundle("2")
    forgery = attack.forge_release(stage.hub_dir, FAMILY, "66", _manifest(bundle))
    try:
        _refused(stage, figures, forgery, "untrusted")
    finally:
        attack.give_the_hub_back(stage.hub_dir, forgery)
    # Published only now, so that its metadata has the version that the stranger made up: a device
    # that has seen a snapshot with a later one takes no earlier one again, as TUF prescribes.
    _sign_and_publish(stage, "2")
    _refused(stage, figures, attack.alter_chunk(bundle, stage.workshop.bundle("1")), "tampered")


def update_last_layer(stage: Stage, figures: Figures) -> None:
    """digits:2, the last layer retrained: three waves, and only what changed is fetched."""
    count = len(stage.devices)
    rollout_id = stage.start_rollout("2", sorted({1, max(2, count // 2), count}))
    rollout = stage.finish_rollout(rollout_id)
    _require(
        rollout["status"] == "completed", f"digits:2: {rollout['status']}, {rollout['reason']}"
    )
    fetched = [
        Fetched(device, f"{FAMILY}/2", wire, full)
        for device, (wire, full) in bytes_fetched(stage.events(rollout=rollout_id)).items()
    ]
    _require(len(fetched) == count, "not every device said what it fetched")
    figures.fetched += fetched
    share = max(one.bytes_fetched / one.bytes_full for one in fetched)
    seconds = (rollout["finished_at_ms"] - rollout["created_at_ms"]) / 1000
    stage.narrator.tell(
        f"digits:2 in waves of {waves_in_words(rollout)}, {rollout['counts']['succeeded']} of"
        f" {count} good after {seconds:.1f} s; fetched at most"
        f" {max(f.bytes_fetched for f in fetched):,.0f} of {fetched[0].bytes_full:,.0f} bytes"
        f" ({100 * share:.0f} %), manifest, golden samples and profile counted",
        f"waves of {waves_in_words(rollout)}; {100 * share:.0f} % of the bytes fetched",
    )


def break_calibration(stage: Stage, figures: Figures) -> None:
    """digits:3, wrongly calibrated and forced through: the canary gives it back by itself."""
    before = stage.served()
    try:
        make(stage.workshop, "3", force=False)
    except _converter_objection() as error:
        refused = str(error)
    else:
        raise CommandFailed("the converter took digits:3 although its calibration is wrong")
    stage.narrator.tell(f"the converter refuses digits:3: {refused}", "refused by the converter")
    made = make(stage.workshop, "3", force=True)
    _require(made.manifest.gate.forced, "the manifest of digits:3 does not say that it was forced")
    _sign_and_publish(stage, "3")
    rollout_id = stage.start_rollout("3", sorted({1, max(2, len(before) // 2), len(before)}))
    rollout = stage.finish_rollout(rollout_id)
    _require(rollout["status"] == "reverted", f"digits:3: {rollout['status']}, not reverted")
    canary = next(d for d in rollout["devices"] if d["outcome"] is not None)
    _require(stage.served() == before, "the fleet does not serve what it served before digits:3")
    untouched = rollout["counts"]["untouched"]
    figures.restored_s = rollout["timings"]["restored_s"]
    figures.class_shares = class_shares(stage.client, canary["device"])
    stage.narrator.tell(
        f"forced, and the manifest says so: its golden samples pass on {canary['device']}, live"
        f" scans do not: {canary['outcome']}, {canary['cause']}: {canary['detail']}"
    )
    stage.narrator.tell(
        f"taken back {figures.restored_s:.1f} s after the start, digits:2 serves again; {untouched}"
        f" devices never touched; the gate: {rollout['reason']}",
        f"forced: {canary['cause']} on the canary, restored after {figures.restored_s:.1f} s,"
        f" {untouched} never touched",
    )


def cut_power_and_broker(stage: Stage, figures: Figures) -> None:
    """`kill -9` of a device in the middle of an update, and the broker stopped: nothing is lost."""
    _convert(stage, figures, "4")
    _sign_and_publish(stage, "4")
    rollout_id = stage.start_rollout("4", [len(stage.devices)])
    phase, victim = crash.cut_in_mid_update(stage, rollout_id)
    stage.narrator.tell(f"{victim.name}: power cut (kill -9) in phase '{phase}' of digits:4")
    broker_s = crash.stop_broker(stage)
    began = time.monotonic()
    stage.start_agent(victim)
    rollout = stage.finish_rollout(rollout_id)
    _require(
        rollout["status"] == "completed", f"digits:4: {rollout['status']}, {rollout['reason']}"
    )
    served = set(stage.served().values())
    _require(served == {f"{FAMILY}/4"}, f"the fleet serves {served}")
    stage.narrator.tell(
        f"broker stopped and started ({broker_s:.1f} s away); {rollout['counts']['succeeded']} of"
        f" {len(stage.devices)} serve digits:4 {time.monotonic() - began:.1f} s after the power"
        " came back, by themselves",
        f"kill -9 in '{phase}', broker away {broker_s:.1f} s:"
        f" {rollout['counts']['succeeded']} of {len(stage.devices)} recovered",
    )
    events, reports = crash.require_exactly_once(stage)
    stage.narrator.tell(
        f"stored exactly once: {events:,} events and {reports:,} reports, numbered without a gap or"
        " a repetition on every device",
        f"{events:,} events, {reports:,} reports stored exactly once",
    )


Scene = Callable[[Stage, Figures], None]
SCENES: list[tuple[int, str, Scene]] = [
    (2, "convert, sign, publish, roll out", convert_and_roll_out),
    (3, "inference on every device", measure_inference),
    (4, "attacks through the hub's own channels", attack_fleet),
    (5, "an update, wave by wave", update_last_layer),
    (6, "a bad release", break_calibration),
    (7, "power cut and broker outage", cut_power_and_broker),
]


def _first_rollout(stage: Stage) -> str:
    rollout = stage.start_rollout("1", [len(stage.devices)])

    def serving() -> bool | None:
        return all((d.state / "run" / "http.json").exists() for d in stage.devices) or None

    stage.wait("every inference server", serving)
    for device in stage.devices:
        device.camera.start()
    return rollout


def _convert(stage: Stage, figures: Figures, version: str) -> Conversion:
    with stage.narrator.waiting(f"the conversion of digits:{version}"):
        made = make(stage.workshop, version, force=False)
    found = made.report.figures
    conversion = Conversion(
        version=version,
        bytes_int8=found.bytes,
        bytes_float32=found.bytes_float32,
        accuracy_int8=found.accuracy,
        accuracy_float32=found.accuracy_float32,
        p50_ms_int8=made.latency.p50_ms,
        p50_ms_float32=made.latency.p50_ms_float32,
    )
    figures.conversions.append(conversion)
    return conversion


def _sign_and_publish(stage: Stage, version: str) -> None:
    from converter.trust.signing import sign_bundle

    bundle = stage.workshop.bundle(version)
    sign_bundle(bundle, stage.keys_dir, PASSPHRASE, now_ms=time.time_ns() // 1_000_000)
    stage.client.upload("releases", bundle, "application/zip")


def _refused(stage: Stage, figures: Figures, forgery: attack.Forgery, cause: str) -> None:
    """Push a forgery to every device; all must refuse it, name the cause, and go on serving."""
    before = {device.name: device.camera.answers.answered for device in stage.devices}
    devices = stage.client.get("devices", limit=1000)["items"]
    seqs = {d["name"]: max(d["assignment_seq"], d["reported_seq"]) for d in devices}
    orders = attack.assign(stage.hub_dir, forgery, seqs)
    port = stage.client.get("status")["broker_port"]
    began = time.monotonic()
    attack.publish_as_hub(stage.hub_dir, port, {**forgery.messages, **orders})

    def all_refused() -> dict[str, str] | None:
        found = refusals(stage.events(rollout=forgery.rollout), REFUSALS)
        return found if len(found) == len(stage.devices) else None

    found = stage.wait(f"every device to refuse ({cause})", all_refused)
    seconds = time.monotonic() - began
    _require(set(found.values()) == {cause}, f"the devices name {found}, not {cause}")
    figures.refusals[forgery.rollout] = found
    stage.wait("every device to go on serving", lambda: _answers_since(stage, before) or None)
    _require(set(stage.served().values()) == {f"{FAMILY}/1"}, "a device stopped serving digits:1")
    what = "a bundle altered after signing" if cause == "tampered" else "a stranger's signature"
    stage.narrator.tell(
        f"{what}: {len(found)} of {len(stage.devices)} devices refuse it within {seconds:.1f} s,"
        f" cause '{cause}', and go on serving digits:1",
        f"{what}: {len(found)} of {len(stage.devices)} refuse, '{cause}'",
    )


def _answers_since(stage: Stage, before: dict[str, int]) -> bool:
    return all(d.camera.answers.answered > before[d.name] + 5 for d in stage.devices)


def _manifest(bundle: Path) -> bytes:
    """A manifest for the stranger to sign: that of the bundle, under another version."""
    from msgspec.structs import replace

    from contract.manifest import encode_manifest
    from model.archive import open_bundle

    with open_bundle(bundle) as opened:
        return encode_manifest(replace(opened.manifest, version="66"))


def _converter_objection() -> type[Exception]:
    from converter.errors import Objection

    return Objection


def _require(true: bool, otherwise: str) -> None:
    if not true:
        raise CommandFailed(otherwise)
