"""`outrider convert`: a trained model to a measured bundle."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from contract.errors import MalformedManifest
from contract.processing import MAX_PROCESSING_BYTES, Processing, decode_processing
from outrider.boundary import require
from outrider.commands.bundle_text import show_bundle
from outrider.commands.options import Json
from outrider.errors import CommandFailed
from outrider.settings import read_environment
from outrider.terminal import ERR, note

DEFAULT_MAX_DROP = 1.0
MAX_LABELS_BYTES = 1 << 20


def convert(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="The trained model.")],
    calib: Annotated[Path, typer.Option(metavar="FILE", help="Calibration samples.")],
    family: Annotated[str, typer.Option(metavar="F", help="The model family, e.g. digits.")],
    version: Annotated[str, typer.Option(metavar="N", help="The release's version, e.g. 1.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The bundle.")],
    evaluation: Annotated[
        Path | None, typer.Option("--eval", metavar="FILE", help="Evaluation samples.")
    ] = None,
    max_drop: Annotated[
        float, typer.Option(metavar="POINTS", help="Points of accuracy that int8 may cost.")
    ] = DEFAULT_MAX_DROP,
    max_latency_ratio: Annotated[
        float | None,
        typer.Option(metavar="X", help="How long int8 may take here, float32 being 1."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Bundle a model that was refused; recorded in it.")
    ] = False,
    device_class: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only for devices of this class; repeatable."),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Names of the classes, one a line.")
    ] = None,
    search: Annotated[
        bool,
        typer.Option("--search/--no-search", help="Try several ways to int8, or the plain one."),
    ] = True,
    integer_io: Annotated[
        bool, typer.Option("--integer-io", help="Integer inputs and outputs, too.")
    ] = False,
    fixed_batch: Annotated[
        bool, typer.Option("--fixed-batch", help="Take exactly one sample a call.")
    ] = False,
    with_float: Annotated[
        bool, typer.Option("--with-float", help="Bundle the float32 model beside the int8 one.")
    ] = False,
    with_tflite: Annotated[
        bool, typer.Option("--with-tflite", help="Bundle an int8 TFLite model beside the ONNX one.")
    ] = False,
    with_cuda: Annotated[
        bool, typer.Option("--with-cuda", help="Bundle a float16 model for devices with CUDA.")
    ] = False,
    processing: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="How raw files become the model's input, .json."),
    ] = None,
    label_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="The labels' column of CSV files.")
    ] = None,
    trust_pickle: Annotated[
        bool,
        typer.Option("--trust-pickle", help="Read a model file that runs code while it is read."),
    ] = False,
    source_timeout: Annotated[
        float, typer.Option(metavar="S", help="Seconds that reading another tool's model may take.")
    ] = 900.0,
    onnx2tf_python: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Make TFLite too, with the onnx2tf of this Python."),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write the bundle's report here too."),
    ] = None,
    measurements: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Take the latencies out of this bundle or report."),
    ] = None,
    remeasure: Annotated[
        bool, typer.Option("--remeasure", help="Measure latency anew, and keep that.")
    ] = False,
    json: Json = False,
) -> None:
    """Quantise a trained model to int8, measured, as a bundle.

    Samples are an .npz with one array a model input, named like it, samples first; or, for a model
    of one input, an .npy, a .csv, or a folder of PNG, JPEG or WAV files. Labels are `labels` of the
    .npz (class numbers), a column of the table, or the names of sub-folders; they evaluate and
    never calibrate. A model that loses more than --max-drop is not bundled.

    MODEL is .onnx, .tflite, a SavedModel folder, .keras, .h5, TorchScript .pt, an exported .pt2, or
    a scikit-learn .joblib. The last one is a pickle: reading it runs code out of it, so it needs
    --trust-pickle.

    Latency is measured once on a host and kept, so that the same input gives the same bytes. To
    make a bundle again elsewhere, give it as --measurements.

    \b
    Example:
        outrider convert digits-1.onnx --calib calib.npz --eval eval.npz \\
            --family digits --version 1 -o digits-1.bundle
    """
    require("converter", "onnx", "onnxruntime", "numpy")
    from converter.convert import convert as run
    from converter.inspection import describe
    from converter.report_files import check_report_folder, write_report
    from converter.request import ConvertRequest

    request = ConvertRequest(
        model=model,
        calib=calib,
        evaluation=evaluation,
        family=family,
        version=version,
        output=output,
        max_drop=max_drop,
        max_latency_ratio=max_latency_ratio,
        force=force,
        search=search,
        integer_io=integer_io,
        fixed_batch=fixed_batch,
        device_classes=tuple(device_class or ()),
        labels=_labels(labels),
        with_float=with_float,
        with_tflite=with_tflite,
        with_cuda=with_cuda,
        processing=_processing(processing),
        label_column=label_column,
        trust_pickle=trust_pickle,
        source_timeout_s=source_timeout,
        measurement_cache=read_environment().measurements,
        remeasure=remeasure,
        measurements=measurements,
        onnx2tf_python=onnx2tf_python,
    )
    if report is not None:  # now, and not when the bundle stands
        check_report_folder(report)
    with _progress() as bar:
        task = bar.add_task("reading", total=1.0)
        with _telling_of_interruption(lambda: str(bar.tasks[0].description)):
            made = run(
                request, lambda step, share: bar.update(task, description=step, completed=share)
            )
    if report is not None:
        write_report(report, made.report)
    described = describe(output)
    described["latency"] = asdict(made.latency)
    show_bundle(described, json, brief=True)
    for said in made.notes:
        note(said)
    if not json:
        note(f"All that was measured: outrider inspect {output} --html report.html")
        note(f"Next: outrider sign {output} --keys DIR")


@contextmanager
def _telling_of_interruption(step: Callable[[], str]) -> Iterator[None]:
    """Say after Ctrl-C what stands; from the step `write` on, that may be the bundle."""
    try:
        yield
    except KeyboardInterrupt:
        surely = step() not in ("write", "done")
        note("interrupted, nothing was written" if surely else "interrupted")
        raise


def _processing(path: Path | None) -> Processing | None:
    if path is None:
        return None
    with path.open("rb") as file:
        data = file.read(MAX_PROCESSING_BYTES + 1)
    try:
        return decode_processing(data)
    except MalformedManifest as error:
        raise CommandFailed(f"{path}: {error}") from error


def _labels(path: Path | None) -> tuple[str, ...]:
    if path is None:
        return ()
    with path.open("rb") as file:
        data = file.read(MAX_LABELS_BYTES + 1)
    if len(data) > MAX_LABELS_BYTES:
        raise CommandFailed(f"{path}: too long for a list of class names")
    try:
        return tuple(line.strip() for line in data.decode().splitlines() if line.strip())
    except UnicodeDecodeError as error:
        raise CommandFailed(f"{path}: class names must be UTF-8 text, one a line") from error


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description:<28}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=ERR,
        transient=True,
        disable=not ERR.is_terminal,
    )
