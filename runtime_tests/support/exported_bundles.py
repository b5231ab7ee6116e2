"""Real bundles for tests: each one is exported once per test run and shared.

The imported weights are the embedded ones (0.35 wide, 64 px) or, where `../shared` is present,
ImageNet's for width 1.0.
"""

from __future__ import annotations

import fcntl
import io
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mobiletl.core.backbones import find_backbone
from mobiletl.core.methods import find_method
from mobiletl.core.transfer import Transfer
from mobiletl.export.weights.loading import load_weights
from mobiletl.export.writing.description import MEAN, STD
from mobiletl.export.writing.export_bundle import Request, export_bundle
from runtime_tests.support.board.shared_files import shared

REAL_WEIGHTS = "weights/mobilenet_v2-imagenet.safetensors"


@dataclass(frozen=True)
class Case:
    """What is exported. `blocks` None is for methods that train no block."""

    method: str
    blocks: int | None
    optimizer: str = "sgd"
    real: bool = False
    resolution: int = 64
    runtimes: tuple[str, ...] = ("onnxruntime",)
    saved: str | None = None
    step: str = "float32"
    levels: tuple[int, ...] = ()

    def __str__(self) -> str:
        kept = f"-{self.saved}" if self.saved else ""
        kept += f"-{self.step}" if self.step != "float32" else ""
        kept += f"-levels-{'-'.join(map(str, self.levels))}" if self.levels else ""
        return f"{self.method}-{self.blocks}-{self.optimizer}-{self.resolution}px{kept}"

    @property
    def model(self) -> str:
        return "mbv2" if self.real else "mbv2-0.35"

    @property
    def weights(self) -> str:
        """What `--weights` takes; skips the test where real weights are not there."""
        return str(shared(REAL_WEIGHTS)) if self.real else "demo"

    def request(self, out: Path) -> Request:
        return Request(
            self.model,
            self.weights,
            self.method,
            self.blocks,
            self.resolution,
            self.optimizer,
            out,
            self.runtimes,
            saved=self.saved,
            step=self.step,
            levels=self.levels,
        )

    def transfer(self, classes: int) -> Transfer:
        """The same network in PyTorch, cut and made trainable."""
        model = find_backbone(self.model).build(classes)
        weights = load_weights(self.weights, self.model)
        assert weights is not None
        model.load_state_dict(weights, strict=False)
        return find_method(self.method).prepare(model, self.blocks, resolution=self.resolution)


def exported(factory: pytest.TempPathFactory, case: Case) -> Path:
    """The folder of the case's bundle; tests must not write into it.

    Exported once in a session, whichever of its processes comes first: the others wait for it.
    """
    folder = session_folder(factory) / "bundles"
    folder.mkdir(exist_ok=True)
    name = f"{case}-{'real' if case.real else 'embedded'}-{'+'.join(case.runtimes)}"
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / name).exists():
            export_bundle(case.request(folder / name))  # whole, or not there
    return folder / name


def session_folder(factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this test session share, and no other session does."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def real_pictures(count: int, resolution: int) -> NDArray[np.float32]:
    """Photographs from `../shared`, one class after the other, [count,3,R,R] normalised."""
    with zipfile.ZipFile(shared("data/animals4.zip")) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
        chosen = names[:: len(names) // count][:count]
        rows = [_prepared(archive.read(name), resolution) for name in chosen]
    return np.stack(rows)


def _prepared(content: bytes, resolution: int) -> NDArray[np.float32]:
    picture = Image.open(io.BytesIO(content)).convert("RGB").resize((resolution, resolution))
    values = np.asarray(picture, np.float32) / 255
    normalised = (values - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return np.ascontiguousarray(normalised.transpose(2, 0, 1))


def invented_pictures(count: int, resolution: int, seed: int = 0) -> NDArray[np.float32]:
    """Coarse noise, [count,3,R,R]: like photographs it has structure larger than a pixel."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 3, resolution // 8, resolution // 8, generator=generator)
    enlarged: Tensor = torch.nn.functional.interpolate(
        coarse, size=(resolution, resolution), mode="bilinear"
    )
    pictures: NDArray[np.float32] = enlarged.numpy()
    return pictures
