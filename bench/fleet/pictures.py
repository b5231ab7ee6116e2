"""Feature maps of a picture folder, computed once, and which board has which of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mobiletl.device.bundle.bundle import Bundle
from mobiletl.device.bundle.frame import Frame
from mobiletl.device.bundle.prepare import prepare
from mobiletl.device.sessions.runtimes import open_session

CHUNK = 32


@dataclass(frozen=True)
class Maps:
    """Maps f32[P,C,h,w] and labels i64[P] of the pictures to train and to test on."""

    class_names: tuple[str, ...]
    train: Any
    train_labels: Any
    test: Any
    test_labels: Any


def load_maps(bundle: Bundle, data: Path, cache: Path, threads: int) -> Maps:
    """Return the maps of `data`/train and `data`/test, from `cache` where they are there."""
    names = tuple(sorted(folder.name for folder in (data / "train").iterdir()))
    file = cache / f"maps-{bundle.manifest.id[:12]}-{data.name}.npz"
    if not file.is_file():
        parts = {}
        for part in ("train", "test"):
            maps, labels = _computed(bundle, data / part, names, threads)
            parts[part], parts[f"{part}_labels"] = maps, labels
        cache.mkdir(parents=True, exist_ok=True)
        np.savez(file, **parts)
    with np.load(file) as stored:
        return Maps(
            names, *(stored[key] for key in ("train", "train_labels", "test", "test_labels"))
        )


def _computed(bundle: Bundle, folder: Path, names: tuple[str, ...], threads: int) -> Any:
    manifest = bundle.manifest
    files = [
        (file, label)
        for label, name in enumerate(names)
        for file in sorted((folder / name).iterdir())
    ]
    maps = np.empty((len(files), *manifest.feature.shape), np.float32)
    side = manifest.input.resolution
    images = np.empty((CHUNK, 3, side, side), np.float32)
    with open_session(bundle, 2, bundle.initial_state(2, 0), threads) as session:
        for start in range(0, len(files), CHUNK):
            part = files[start : start + CHUNK]
            for row, (file, _) in enumerate(part):
                prepare(Frame(str(file), file), manifest.input, images[row])
            maps[start : start + len(part)] = session.features(images[: len(part)])
    return maps, np.array([label for _, label in files], np.int64)


def shares(labels: Any, boards: int, alpha: float, seed: int) -> list[Any]:
    """Return the rows of each board: of every class, shares drawn from a Dirichlet distribution.

    As Hsu et al. (arXiv 1909.06335) do. Every board gets two rows at least.
    """
    random = np.random.default_rng(seed)
    rows: list[list[int]] = [[] for _ in range(boards)]
    for label in range(int(labels.max()) + 1):
        mine = random.permutation(np.flatnonzero(labels == label))
        ends = (np.cumsum(random.dirichlet(np.full(boards, alpha))) * len(mine)).astype(int)[:-1]
        for board, part in enumerate(np.split(mine, ends)):
            rows[board] += part.tolist()
    for board in range(boards):
        while len(rows[board]) < 2:
            largest = max(range(boards), key=lambda one: len(rows[one]))
            rows[board].append(rows[largest].pop())
    return [np.array(sorted(part)) for part in rows]
