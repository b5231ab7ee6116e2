"""Decides for each part of a data set whether its feature maps are computed or read from disk."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator, Sequence

import numpy as np

from mobiletl.device.bundle.arrays import Labels
from mobiletl.device.bundle.frame import frame_of
from mobiletl.device.bundle.manifest import Manifest
from mobiletl.device.features.cache import CachePlan, cache_path, open_cache
from mobiletl.device.features.live import FeatureSource, LiveFeatures, OnUnreadable, Preparation
from mobiletl.device.pictures.dataset import Dataset, Picture
from mobiletl.device.pictures.skipped import SkippedFiles
from mobiletl.device.sessions.session import Session


@dataclass(frozen=True)
class Pictures:
    """Pictures to train or to validate on: their feature maps and labels [P], by row."""

    source: FeatureSource
    labels: Labels


@dataclass(frozen=True)
class SourcePlan:
    """What both parts have in common; `cache` is the folder of the cache, None for none.

    `augment_seed` is what random crops of the training part are drawn from, None for central ones.
    """

    session: Session
    manifest: Manifest
    augment_seed: int | None
    micro_batch: int
    runtime: str
    cache: Path | None
    on_progress: Callable[[str, int, int], None]


@contextlib.contextmanager
def open_parts(
    plan: SourcePlan, dataset: Dataset, skipped: SkippedFiles
) -> Iterator[tuple[Pictures, Pictures]]:
    """Open the training and the validation part; a missing cache is built on the way.

    Augmented pictures differ in every epoch, so they are never cached; validation pictures
    always can be.
    """
    with contextlib.ExitStack() as opened:
        parts = []
        for name, pictures, on_unreadable in (
            ("train", dataset.train, skipped.train_row),
            ("val", dataset.val, skipped.val_row),
        ):
            source = _open(plan, dataset.root, name, pictures, on_unreadable)
            opened.callback(source.close)
            labels = np.array([picture.label for picture in pictures], np.int64)
            parts.append(Pictures(source, labels))
        yield parts[0], parts[1]


def _open(
    plan: SourcePlan,
    root: Path,
    name: str,
    pictures: Sequence[Picture],
    on_unreadable: OnUnreadable,
) -> FeatureSource:
    seed = plan.augment_seed if name == "train" else None

    def live(report: OnUnreadable) -> LiveFeatures:
        return LiveFeatures(
            plan.session,
            lambda row: frame_of(root / pictures[row].path),
            Preparation(plan.manifest.input, seed),
            report,
            plan.micro_batch,
        )

    def show(done: int, total: int) -> None:
        plan.on_progress(f"caching features, {name}", done, total)

    if plan.cache is None or seed is not None:
        return live(on_unreadable)
    path = cache_path(plan.cache, name, plan.manifest.id, plan.runtime, pictures)
    shape = plan.manifest.feature.shape
    cached = CachePlan(len(pictures), shape, live, show, plan.micro_batch)
    return open_cache(path, cached, on_unreadable)
