"""Trains the depthwise network and writes `depthwise.onnx`: `python -m benchmarks.depthwise.train`.

Needs torch (the `train` extra). The file is committed, so that the benchmark needs none.
"""

from __future__ import annotations

import io
import sys
import warnings
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.depthwise.data import INPUT_NAME, OUTPUT_NAME, SIZE, draw, evaluation
from examples.digits.clean import clean_model
from examples.digits.data import load_splits

MODEL = Path(__file__).resolve().parent / "depthwise.onnx"
SEED = 7
EPOCHS = 16
BATCH = 64
PEAK_RATE = 4e-3


def train() -> nn.Module:
    """The trained network in evaluation mode."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    net = network()
    scans = load_splits().train
    steps = EPOCHS * -(-len(scans) * 2 // BATCH)
    optimiser = torch.optim.AdamW(net.parameters(), lr=PEAK_RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK_RATE, total_steps=steps)
    for epoch in range(EPOCHS):
        pictures = draw(scans, 2, seed=1000 + epoch)
        image, labels = torch.from_numpy(pictures.image), torch.from_numpy(pictures.labels)
        for batch in torch.randperm(len(labels)).split(BATCH):
            loss = functional.cross_entropy(net(image[batch]), labels[batch], label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return net.eval()


def network() -> nn.Sequential:
    """One full convolution, four depthwise-separable blocks, a dense layer."""
    return nn.Sequential(
        *_conv(1, 64, 3, stride=1),
        *_separable(64, 96, stride=1),
        *_separable(96, 128, stride=2),
        *_separable(128, 128, stride=1),
        *_separable(128, 128, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(128, 10),
    )


def _separable(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    return [
        *_conv(inputs, inputs, 3, stride=stride, groups=inputs),
        *_conv(inputs, outputs, 1, stride=1),
    ]


def _conv(inputs: int, outputs: int, size: int, stride: int, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(
        inputs, outputs, size, stride=stride, padding=size // 2, groups=groups, bias=False
    )
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU()]


def export(net: nn.Module) -> bytes:
    """ONNX bytes, opset 17, norms folded, probabilities as the output."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # As in examples/digits/network.py: the exporter announces its retirement.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            nn.Sequential(net, nn.Softmax(dim=1)).eval(),
            (torch.zeros(1, 1, SIZE, SIZE),),
            buffer,
            dynamo=False,
            opset_version=17,
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
            dynamic_axes={INPUT_NAME: {0: "batch"}, OUTPUT_NAME: {0: "batch"}},
        )
    return clean_model(onnx.load_from_string(buffer.getvalue()))


def _accuracy(net: nn.Module) -> float:
    pictures = evaluation()
    with torch.no_grad():
        answers: Tensor = net(torch.from_numpy(pictures.image)).argmax(dim=1)
    return float((answers.numpy() == pictures.labels).mean())


def main() -> int:
    """Train, say what was reached, write the file."""
    net = train()
    content = export(net)
    MODEL.write_bytes(content)
    print(f"{MODEL.name}: {len(content)} bytes, {100 * _accuracy(net):.2f} % of the evaluation")
    return 0


if __name__ == "__main__":
    sys.exit(main())
