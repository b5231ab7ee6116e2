"""What every runtime is given: pictures, the order of the steps, and the first state.

Letters: P pictures, N in a batch, R the resolution.
"""

from __future__ import annotations

import copy
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from mobiletl.core.transfer import Transfer
from mobiletl.device.bundle.arrays import Tensors
from mobiletl.device.bundle.bundle import Bundle
from mobiletl.device.run.schedule import Schedule
from mobiletl.export.writing.description import MEAN, STD
from runtime_tests.support.board.shared_files import SHARED
from runtime_tests.support.kinks import clear_of_kinks

PHOTOGRAPHS = SHARED / "data" / "cifar10-8k.zip"
CLASSES = 10
BATCH = 8
SEED = 0


@dataclass(frozen=True)
class Pictures:
    """Normalised pictures [P,3,R,R] and labels [P]; `kind` says what they show."""

    kind: str
    train: NDArray[np.float32]
    train_labels: NDArray[np.int64]
    val: NDArray[np.float32]
    val_labels: NDArray[np.int64]


def load_pictures(train: int, val: int, resolution: int, photographs: bool) -> Pictures:
    """As many of each class as of every other."""
    splits = {"train": train, "test": val}
    if photographs:
        (first, first_labels), (last, last_labels) = (
            _photographs(split, count, resolution) for split, count in splits.items()
        )
        return Pictures("photographs (CIFAR-10)", first, first_labels, last, last_labels)
    pixels, labels = load_digits(return_X_y=True)
    rows = np.argsort(labels, kind="stable").reshape(-1)
    rows = rows[np.linspace(0, len(rows) - 1, train + val).astype(int)]
    rows = np.random.default_rng(SEED).permutation(rows)
    shown = [np.uint8(picture.reshape(8, 8) * 15) for picture in pixels[rows]]
    images = np.stack([_tensor(Image.fromarray(picture), resolution) for picture in shown])
    return Pictures(
        "handwritten digits",
        images[:train],
        labels[rows][:train].astype(np.int64),
        images[train:],
        labels[rows][train:].astype(np.int64),
    )


def write_data(
    folder: Path, bundle: Bundle, pictures: Pictures, network: Transfer, steps: int, runs: int
) -> None:
    """Write what `worker.py` reads; a run has an order and a first head of its own.

    Steps get feature maps that PyTorch computed, so that all start from the same bytes; each
    runtime's own maps are compared on the first batch. The states are `bundle`'s; that of the first
    run is moved until its first batch is clear of kinks.
    """
    folder.mkdir()
    orders = [np.random.default_rng(run).permutation(len(pictures.train)) for run in range(runs)]
    rows = np.stack([np.resize(order, (steps, BATCH)) for order in orders])
    train_h = feature_maps(network, pictures.train)
    rate = bundle.manifest.optimizer.default_lr
    schedule = Schedule(steps * BATCH, BATCH, epochs=1, lr=rate, seed=0)
    arrays = {
        "images": pictures.train[rows[0, 0]],
        "train_h": train_h,
        "train_labels": pictures.train_labels,
        "val_h": feature_maps(network, pictures.val),
        "rows": rows,
        "rates": np.array([schedule.rate(step) for step in range(steps)]),
        "classes": np.array(CLASSES),
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    for run in range(runs):
        state = bundle.initial_state(CLASSES, run)
        if run == 0:
            state = _clear_of_kinks(state, network, train_h[rows[0, 0]])
        (folder / f"state{run}").mkdir()
        for index, tensor in enumerate(state.values()):
            np.save(folder / f"state{run}" / f"{index}.npy", tensor)


def _clear_of_kinks(state: Tensors, network: Transfer, h: NDArray[np.float32]) -> Tensors:
    top = copy.deepcopy(network.top).train()
    known = top.state_dict()
    learned = {name: torch.from_numpy(t) for name, t in state.items() if name in known}
    top.load_state_dict(learned, strict=False)
    clear_of_kinks(top, h)
    moved = {name: tensor.numpy() for name, tensor in top.state_dict().items()}
    return {name: moved.get(name, tensor) for name, tensor in state.items()}


def feature_maps(network: Transfer, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Feature maps [P,C,h,w] of pictures [P,3,R,R], one at a time as on a board."""
    with torch.no_grad():
        maps = [network.prefix(torch.from_numpy(np.array(image[None]))).numpy() for image in images]
    return np.concatenate(maps)


def _photographs(
    split: str, count: int, resolution: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    with zipfile.ZipFile(PHOTOGRAPHS) as archive:
        names = sorted(
            name
            for name in archive.namelist()
            if f"/{split}/" in f"/{name}" and not name.endswith("/")
        )
        classes = sorted({name.split("/")[-2] for name in names})
        members = [[n for n in names if n.split("/")[-2] == c][: count // CLASSES] for c in classes]
        chosen = [name for group in members for name in group]
        images = [
            _tensor(Image.open(io.BytesIO(archive.read(name))), resolution) for name in chosen
        ]
    labels = [classes.index(name.split("/")[-2]) for name in chosen]
    return np.stack(images), np.array(labels, np.int64)


def _tensor(picture: Image.Image, resolution: int) -> NDArray[np.float32]:
    pixels = np.asarray(picture.convert("RGB").resize((resolution, resolution)), np.float32) / 255
    normalised = (pixels - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return np.ascontiguousarray(normalised.transpose(2, 0, 1), np.float32)
