"""Run by another Python, in onnx2tf's own environment: imports nothing of ours.

`python -I onnx2tf_script.py MEMORY_BYTES MODEL OUTPUT INPUT...`: inputs keep their layout, where
onnx2tf would turn [N, 49, 10, 1] into [N, 10, 1, 49] by itself.
"""

from __future__ import annotations

import ctypes
import resource
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    """End with whoever started us, bound the memory, then hand over to onnx2tf."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    memory, model, output, *inputs = arguments
    resource.setrlimit(resource.RLIMIT_DATA, (int(memory), int(memory)))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    from onnx2tf import convert  # type: ignore[import-not-found]  # in that environment alone

    convert(
        input_onnx_file_path=model,
        output_folder_path=output,
        keep_shape_absolutely_input_names=inputs,
        non_verbose=True,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
