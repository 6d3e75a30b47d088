"""TorchScript becomes TFLite, traced or scripted: a network trained on scikit-learn's digits."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from converter import errors
from converter.convert import convert
from converter.frontends.isolation import ROOT
from converter.frontends.opening import BY_ONNX2TF, open_source
from converter.frontends.settings import worker_environment
from converter.frontends.sources import InputShape, SourceOptions, Sources
from converter.request import ConvertRequest
from converter.samples import Samples
from converter.tflite.runner import TfliteRunner
from model.archive import open_bundle
from model.runtimes import open_session

pytestmark = [
    pytest.mark.skipif(
        find_spec("litert_torch") is None, reason="runs in .make/heavy-torch: make test-heavy"
    ),
    pytest.mark.timeout(240),
]
ONNX2TF = os.environ.get("OUTRIDER_ONNX2TF_PYTHON")
needs_onnx2tf = pytest.mark.skipif(ONNX2TF is None, reason="no .make/heavy-onnx2tf")
FORMS = ("traced.pt", "scripted.pt")
IMAGE = SourceOptions(tflite=True, shapes={"image": InputShape("float32", (1, 8, 8))})
TRAINED = 1_000

SAVE = """
import os, sys, torch
from sklearn.datasets import load_digits
from torch import nn
os.chdir(sys.argv[1])
torch.manual_seed(5)
class Separable(nn.Module):
    def __init__(self, into, out):
        super().__init__()
        self.deep = nn.Conv2d(into, into, 3, padding=1, groups=into, bias=False)
        self.wide = nn.Conv2d(into, out, 1, bias=False)
        self.norm = nn.BatchNorm2d(out)
    def forward(self, x):
        return nn.functional.relu6(self.norm(self.wide(self.deep(x))))
class Digits(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 16, 3, padding=1)
        self.blocks = nn.ModuleList([Separable(16, 32), Separable(32, 32)])
        self.drop, self.last = nn.Dropout(0.1), nn.Linear(32 * 16, 10)
    def forward(self, image):
        x = torch.relu(self.first(image))
        for block in self.blocks:
            x = block(x)
        x = nn.functional.max_pool2d(x, 2)
        if x.dim() != 4:  # scripted, it stays in the file
            x = x.unsqueeze(0)
        return self.last(self.drop(x.view(x.size(0), -1)))
class Growing(nn.Module):  # scripted, litert-torch's form of interpolate fails while it runs
    def __init__(self, net):
        super().__init__()
        self.net = net
    def forward(self, image):
        large = nn.functional.interpolate(image, scale_factor=2.0, mode="nearest")
        return self.net(nn.functional.max_pool2d(large, 2))
class Branching(nn.Module):
    def forward(self, image):
        if float(image.sum()) > 1e9:
            return image * 2
        return image + 1
digits = load_digits()
x = torch.tensor(digits.images[:TRAINED] / 16, dtype=torch.float32)[:, None]
y = torch.tensor(digits.target[:TRAINED])
net = Digits()
step = torch.optim.Adam(net.parameters(), 0.01)
for _ in range(25):
    for part in torch.randperm(len(x)).split(100):
        step.zero_grad()
        nn.functional.cross_entropy(net(x[part]), y[part]).backward()
        step.step()
net.eval()
torch.jit.trace(net, x[:2]).save("traced.pt")
torch.jit.script(net).save("scripted.pt")
torch.jit.script(Growing(net).eval()).save("growing.pt")
torch.jit.script(Branching()).save("branching.pt")
rest = torch.tensor(digits.images[TRAINED:] / 16, dtype=torch.float32)[:, None]
torch.save(net(rest).detach(), "answers.pt")
""".replace("TRAINED", str(TRAINED))


@dataclass(frozen=True)
class Digits:
    """The folder with the saved networks, and scans that they were not trained on."""

    folder: Path
    images: NDArray[np.float32]
    labels: NDArray[np.int64]

    def samples(self) -> Samples:
        return Samples("digits", {"image": self.images})

    def request(self, name: str, folder: Path) -> ConvertRequest:
        np.savez(folder / "calib.npz", image=self.images[:200])
        np.savez(folder / "eval.npz", image=self.images[200:], labels=self.labels[200:])
        return ConvertRequest(
            model=self.folder / name,
            calib=folder / "calib.npz",
            evaluation=folder / "eval.npz",
            family="digits",
            version="1",
            output=folder / f"{name}.bundle",
            with_tflite=True,
        )


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Digits:
    from sklearn.datasets import load_digits

    folder = tmp_path_factory.mktemp("digits")
    script = folder / "save.py"  # torch.jit.script reads its source from a file
    script.write_text(SAVE)
    subprocess.run(
        [sys.executable, str(script), str(folder)],
        env=worker_environment(ROOT),
        check=True,
        timeout=110,
    )
    known = load_digits()
    images = (known.images[TRAINED:, np.newaxis] / 16).astype(np.float32)
    return Digits(folder, images, known.target[TRAINED:].astype(np.int64))


@pytest.fixture(scope="session")
def opened(digits: Digits) -> dict[str, Sources]:
    return {name: open_source(digits.folder / name, IMAGE) for name in FORMS}


def torch_answers(digits: Digits) -> NDArray[np.float32]:
    import torch

    found: NDArray[np.float32] = torch.load(digits.folder / "answers.pt").numpy()
    return found


@pytest.mark.parametrize("name", FORMS)
def test_the_tflite_model_answers_like_the_torchscript(
    name: str, digits: Digits, opened: dict[str, Sources]
) -> None:
    made = opened[name]
    assert made.tflite is not None
    assert [(spec.name, spec.shape) for spec in made.tflite.inputs] == [("image", [1, 1, 8, 8])]
    (answers,) = TfliteRunner(made.tflite.data, 1).run(digits.samples()).values()
    assert np.abs(answers - torch_answers(digits)).max() < 1e-3
    assert (answers.argmax(axis=1) == digits.labels).mean() >= 0.95
    assert made.notes == ()


@pytest.mark.parametrize("name", FORMS)
def test_torchscript_becomes_a_release_with_an_int8_tflite_variant(
    name: str, digits: Digits, tmp_path: Path
) -> None:
    found = convert(digits.request(name, tmp_path))
    onnx, tflite = found.manifest.variants
    assert (onnx.name, tflite.name) == ("onnx-int8", "tflite-int8")
    assert tflite.evidence["accuracy"] >= tflite.evidence["accuracy_float32"] - 1.0
    assert tflite.evidence["agreement"] >= 97.0
    assert found.manifest.source.format == "torchscript"
    with open_bundle(found.path) as bundle:
        bundle.check()
        shipped = tmp_path / "shipped.tflite"
        shipped.write_bytes(bundle.read(tflite.model))
    session = open_session(tflite, shipped)  # LiteRT, as a device has it
    answers = np.concatenate(
        [session.infer({"image": image[np.newaxis]})["output"] for image in digits.images[200:]]
    )
    session.close()
    assert (answers.argmax(axis=1) == digits.labels[200:]).mean() >= 0.94


def test_the_same_torchscript_gives_the_same_bytes(
    digits: Digits, opened: dict[str, Sources]
) -> None:
    one, other = opened["scripted.pt"], open_source(digits.folder / "scripted.pt", IMAGE)
    assert one.tflite is not None
    assert other.tflite is not None
    assert one.tflite.data == other.tflite.data


def test_without_the_wish_no_tflite_is_made(digits: Digits) -> None:
    made = open_source(digits.folder / "scripted.pt", replace(IMAGE, tflite=False))
    assert made.onnx is not None
    assert made.tflite is None


def test_what_torch_cannot_export_is_told_the_other_way(digits: Digits) -> None:
    with pytest.raises(
        errors.FrontendFailed, match=r"branching\.pt: torch makes no exported.*--onnx2tf-python"
    ):
        open_source(digits.folder / "branching.pt", IMAGE)


def test_what_litert_torch_cannot_make_is_told_the_other_way(digits: Digits) -> None:
    with pytest.raises(
        errors.FrontendFailed, match=r"growing\.pt: litert-torch makes no.*--onnx2tf-python"
    ):
        open_source(digits.folder / "growing.pt", IMAGE)


@needs_onnx2tf
def test_onnx2tf_makes_what_litert_torch_cannot(digits: Digits, tmp_path: Path) -> None:
    request = digits.request("growing.pt", tmp_path)
    found = convert(replace(request, onnx2tf_python=Path(str(ONNX2TF))))
    _, tflite = found.manifest.variants
    assert tflite.name == "tflite-int8"
    assert tflite.evidence["accuracy"] >= tflite.evidence["accuracy_float32"] - 1.0
    assert BY_ONNX2TF in found.report.quantiser.notes


@needs_onnx2tf
def test_litert_torch_comes_first(digits: Digits) -> None:
    options = replace(IMAGE, onnx2tf_python=Path(str(ONNX2TF)))
    assert open_source(digits.folder / "traced.pt", options).notes == ()
