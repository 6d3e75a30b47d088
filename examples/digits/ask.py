"""Asks a device what it reads in scans that no model has seen, as a camera's program would.

`python -m examples.digits.ask [http://127.0.0.1:8080]` prints how many answers were right. It is an
unmodified tritonclient: nothing of Outrider is needed where a model is used.
"""

from __future__ import annotations

import sys

import numpy as np
from tritonclient import http
from tritonclient.utils import InferenceServerException

from examples.digits.data import INPUT_NAME, Samples, load_splits

FAMILY = "digits"
OUTPUT_NAME = "probabilities"


def count_right(url: str, samples: Samples) -> int:
    """Ask for one scan after the other; how many answers were right."""
    client = http.InferenceServerClient(url.removeprefix("http://").rstrip("/"))
    right = 0
    try:
        for image, label in zip(samples.image, samples.labels, strict=True):
            tensor = http.InferInput(INPUT_NAME, [1, *image.shape], "FP32")
            tensor.set_data_from_numpy(image[np.newaxis])
            answer = client.infer(FAMILY, [tensor]).as_numpy(OUTPUT_NAME)
            right += int(np.argmax(answer) == label)
    finally:
        client.close()
    return right


def main() -> int:
    """Exit code 1 when nobody answers there."""
    url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"
    live = load_splits().live
    try:
        right = count_right(url, live)
    except (InferenceServerException, OSError) as error:
        print(f"{url}: {error}", file=sys.stderr)
        return 1
    print(f"{right} of {len(live)} scans read right ({100 * right / len(live):.2f} %)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
