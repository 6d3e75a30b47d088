"""The small CNN: its layers, its training, and its export as a clean ONNX file.

Owns: everything that needs torch. Refuses: reading data, measuring accuracy, choosing file names.
Training is single-threaded and seeded, so that one machine writes the same bytes every time.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

from examples.digits.clean import clean_model
from examples.digits.data import CLASSES, INPUT_NAME, Samples
from examples.digits.measure import OUTPUT_NAME

BATCH = 64
EPOCHS = 60
HEAD_EPOCHS = 40
PEAK_RATE = 4e-3
HEAD_RATE = 1e-2
OPSET = 17  # the newest that onnxruntime 1.16, the last for JetPack 5, loads

# Augmentation: what a pen does, kept mild, since one pixel is an eighth of the picture.
MAX_TURN = 0.15  # radians
MAX_SHIFT = 0.12  # of half the picture's width
MAX_SCALE = 0.1


class DigitsNet(nn.Module):  # type: ignore[misc]  # the type check skips torch
    """image [N,1,8,8] in 0..1 -> logits [N,10]; 70,346 weights once the norms are folded."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            _block(1, 16),
            _block(16, 32),
            _block(32, 64, stride=2),
            _block(64, 80),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(80, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.head(self.backbone(image))
        return logits


class _Served(nn.Module):  # type: ignore[misc]  # the type check skips torch
    """What a device runs: the network with softmax, so that every answer carries a confidence."""

    def __init__(self, net: DigitsNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        return functional.softmax(self.net(image), dim=1)


def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    # No bias: the norm has one, and both fold into the convolution at export.
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def train_network(samples: Samples, seed: int) -> DigitsNet:
    """Train all layers from scratch; returned in evaluation mode."""
    _make_deterministic(seed)
    net = DigitsNet()
    _fit(net.train(), list(net.parameters()), samples, seed, EPOCHS, PEAK_RATE)
    net.eval()
    return net


def retrain_head(net: DigitsNet, samples: Samples, seed: int) -> DigitsNet:
    """Start the last layer afresh and train it alone; the other layers keep every bit."""
    _make_deterministic(seed)
    net.requires_grad_(False)
    net.head = nn.Linear(net.head.in_features, CLASSES)
    # Evaluation mode: in training mode the frozen layers' norms would still move.
    _fit(net.eval(), list(net.head.parameters()), samples, seed, HEAD_EPOCHS, HEAD_RATE)
    return net


def export_onnx(net: DigitsNet) -> bytes:
    """The served network as ONNX bytes: opset 17, norms folded, stable names, no traces."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # The TorchScript exporter announces its retirement; the newer one writes opset 18 or
        # later and node metadata that quotes source paths of the machine it ran on.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            _Served(net).eval(),
            (torch.zeros(1, 1, 8, 8),),
            buffer,
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
            dynamic_axes={INPUT_NAME: {0: "batch"}, OUTPUT_NAME: {0: "batch"}},
        )
    return clean_model(onnx.load_from_string(buffer.getvalue()))


def _make_deterministic(seed: int) -> None:
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    torch.manual_seed(seed)


def _fit(
    net: DigitsNet,
    weights: list[nn.Parameter],
    samples: Samples,
    seed: int,
    epochs: int,
    rate: float,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    image, labels = torch.from_numpy(samples.image), torch.from_numpy(samples.labels)
    steps = epochs * -(-len(labels) // BATCH)
    optimiser = torch.optim.AdamW(weights, lr=rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, _warm_then_cosine(steps))
    for _ in range(epochs):
        for batch in torch.randperm(len(labels), generator=generator).split(BATCH):
            logits = net(_distort(image[batch], generator))
            # Smoothing keeps the confidences short of 1, where int8 could not tell them apart.
            loss = functional.cross_entropy(logits, labels[batch], label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()


def _warm_then_cosine(steps: int) -> Callable[[int], float]:
    warm = max(1, steps // 10)
    return lambda step: min(1.0, (step + 1) / warm) * 0.5 * (1.0 + np.cos(np.pi * step / steps))


def _distort(image: Tensor, generator: torch.Generator) -> Tensor:
    """A random turn, shift and scale for each scan; same shape, still in 0..1."""

    def spread(limit: float) -> Tensor:
        return (torch.rand(len(image), generator=generator) * 2 - 1) * limit

    turn, scale = spread(MAX_TURN), 1 + spread(MAX_SCALE)
    cos, sin = scale * torch.cos(turn), scale * torch.sin(turn)
    rows = [cos, -sin, spread(MAX_SHIFT), sin, cos, spread(MAX_SHIFT)]
    grid = functional.affine_grid(
        torch.stack(rows, dim=1).view(-1, 2, 3), list(image.shape), align_corners=False
    )
    return functional.grid_sample(image, grid, align_corners=False)
