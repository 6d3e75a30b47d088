"""Trains the two models of the demo and writes them with their accuracy.

Owns: the command line and the order of the steps. Refuses: writing anything under `--check`.
torch is imported only when training starts; `--help` and the tests need none.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
if not __package__:  # started as a file, so the repository's root is not on the path yet
    sys.path.insert(0, str(HERE.parents[1]))

from examples.digits.data import SEED, load_splits  # noqa: E402  # needs the path set above
from examples.digits.measure import (  # noqa: E402  # needs the path set above
    MODEL_FILES,
    RECORD_FILE,
    Record,
    differences,
    measure_model,
    read_record,
    unlike_record,
    write_record,
)

TORCH = "2.13.0"
HEAD_SEED = SEED + 1


def train_models() -> tuple[dict[str, bytes], Record]:
    """Both models' bytes by file name, and the record of what they reach."""
    from examples.digits.network import export_onnx, retrain_head, train_network

    splits = load_splits()
    net = train_network(splits.train, SEED)
    first = export_onnx(net)
    second = export_onnx(retrain_head(net, splits.train, HEAD_SEED))
    models = dict(zip(MODEL_FILES, (first, second), strict=True))
    record = Record(
        seed=SEED,
        torch=version("torch").split("+")[0],
        splits=splits.sizes(),
        models={name: measure_model(content, splits) for name, content in models.items()},
    )
    return models, record


def write_models(directory: Path, models: dict[str, bytes], record: Record) -> None:
    """Write the models and their record; each file appears whole or not at all."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in models.items():
        staging = directory / f".{name}.{os.getpid()}"
        try:
            staging.write_bytes(content)
            staging.replace(directory / name)
        finally:
            staging.unlink(missing_ok=True)
    write_record(directory / RECORD_FILE, record)


def report_check(directory: Path, fresh: Record) -> int:
    """Print whether the files in `directory` were reproduced; 0 when they were, bit for bit."""
    committed = read_record(directory / RECORD_FILE)
    found = unlike_record(directory, committed) + differences(committed, fresh)
    for line in found:
        print(line)
    if found:
        print("not reproduced; another processor or torch build rounds in another order")
        return 1
    print("reproduced: both files bit for bit, and so their accuracy")
    return 0


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """`--out DIR` and `--check`, read from the command line when none are given."""
    parser = argparse.ArgumentParser(
        description="Train the demo's digit models.",
        epilog="example: python examples/digits/train.py --out digits-again",
    )
    parser.add_argument("--out", type=Path, default=HERE, help="where to write (default: here)")
    parser.add_argument(
        "--check", action="store_true", help="train again and compare with the files in --out"
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0, or 1 when training cannot run or the check finds a difference."""
    asked = parse_arguments(arguments)
    if asked.check and not (asked.out / RECORD_FILE).is_file():
        print(f"no {RECORD_FILE} in {asked.out} to check against", file=sys.stderr)
        return 1
    try:
        models, record = train_models()
    except ModuleNotFoundError as missing:
        print(f"training needs {missing.name}: pip install torch=={TORCH} onnx", file=sys.stderr)
        return 1
    if asked.check:
        return report_check(asked.out, record)
    write_models(asked.out, models, record)
    for name, facts in record.models.items():
        print(
            f"{name}: {facts.bytes} bytes, evaluation {facts.evaluation_accuracy:.4f}, "
            f"live {facts.live_accuracy:.4f}, sha256 {facts.sha256[:12]}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
