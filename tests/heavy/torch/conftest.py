"""One small network, trained once, saved in each of PyTorch's forms."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from converter.frontends.isolation import ROOT
from converter.frontends.settings import worker_environment

SAVE = """
import os, sys, torch, zipfile
from torch import nn
from tests.heavy.digits import images
os.chdir(sys.argv[1])
torch.manual_seed(3)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.dense = nn.Linear(8 * 16, 5)
    def forward(self, image):
        x = torch.relu(self.norm(self.conv(image)))
        x = nn.functional.max_pool2d(x, 2)
        return self.dense(x.flatten(1))
class Branching(nn.Module):
    def forward(self, image):
        return image.flatten(1) * 2 if float(image.sum()) > 1e9 else image.flatten(1)
net = Net()
shown, kinds = images(300, 7)
x, y = torch.from_numpy(shown)[:, None], torch.from_numpy(kinds)
step = torch.optim.Adam(net.parameters(), 0.01)
for _ in range(60):
    step.zero_grad()
    nn.functional.cross_entropy(net(x), y).backward()
    step.step()
net.eval()
torch.jit.trace(net, x[:2]).save("traced.pt")
torch.jit.script(net).save("scripted.pt")
batch = torch.export.Dim("batch", min=1, max=64)
torch.export.save(torch.export.export(net, (x[:2],), dynamic_shapes=({0: batch},)), "dynamic.pt2")
torch.export.save(torch.export.export(net, (x[:1],)), "fixed.pt2")
torch.export.save(torch.export.export(net, (x[:4],)), "four.pt2")
torch.save(net.state_dict(), "weights.pt")
torch.save(net, "eager.pt")
class Erf(nn.Module):
    def forward(self, image):
        return torch.linalg.eigvals(image[:, 0]).real
torch.jit.script(Erf()).save("foreign.pt")
"""


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    script = folder / "save.py"  # torch.jit.script reads its source from a file
    script.write_text(SAVE)
    subprocess.run(
        [sys.executable, str(script), str(folder)],
        env=worker_environment(ROOT),
        check=True,
        timeout=110,
    )
    return folder
