"""One epoch of eager PyTorch on a folder of pictures; prints the process's peak memory as JSON.

eager_worker.py WEIGHTS DATA BATCH THREADS BLOCKS. Pillow reads the pictures, one batch at a time,
and resizes them to 224 px; nothing but the batch is held.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bench.eager import EagerFineTuning
from mobiletl.device.memory.measured import peak_bytes

SIDE = 224
MEAN = np.array((0.485, 0.456, 0.406), np.float32)
STD = np.array((0.229, 0.224, 0.225), np.float32)


def _picture(path: Path) -> Tensor:
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB").resize((SIDE, SIDE)), np.float32) / 255
    return torch.from_numpy(np.ascontiguousarray(((pixels - MEAN) / STD).transpose(2, 0, 1)))


def _main(weights: str, data: Path, batch: int, threads: int, blocks: int) -> None:
    classes = sorted(folder.name for folder in (data / "train").iterdir())
    paths = sorted((data / "train").rglob("*.jpg"))
    order = np.random.default_rng(0).permutation(len(paths))
    network = EagerFineTuning(weights, blocks, len(classes), threads)
    losses = []
    for start in range(0, len(order), batch):
        chosen = [paths[row] for row in order[start : start + batch]]
        images = torch.stack([_picture(path) for path in chosen])
        labels = torch.tensor([classes.index(path.parent.name) for path in chosen])
        losses.append(network.step(network.features(images), labels))
    print(json.dumps({"peak_bytes": peak_bytes(), "steps": len(losses), "losses": losses}))


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]), *(int(each) for each in sys.argv[3:6]))
