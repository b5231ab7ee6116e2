"""Training pictures per second, eager PyTorch and ours: same blocks, pictures and threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bench.eager import LR, EagerFineTuning
from bench.floor import matrix_products
from bench.timing import Timing, side_by_side
from mobiletl.device.bundle.bundle import Bundle, open_bundle
from mobiletl.device.sessions.runtimes import open_session

BATCH, CLASSES, BLOCKS, SIDE, THREADS = 8, 10, 3, 224, 2
EAGER, FLOOR = "PyTorch eager", "matrix products"
WHOLE, STEP = "features and step", "step only"

Parts = dict[str, Callable[[], object]]


@dataclass(frozen=True)
class Row:
    """One contender: pictures per second, and how they compare with eager PyTorch's."""

    name: str
    whole: float
    """Features and step, from decoded pictures."""
    step: float
    """The step alone, as with features from the cache."""
    step_ms: float
    whole_ratio: float
    """`whole` by eager PyTorch's `whole`."""
    cached_ratio: float
    """`step` by eager PyTorch's `whole`: PyTorch users have no cache."""
    step_ratio: float
    """`step` by eager PyTorch's `step`."""
    floors: float | None
    """The step's time by the time of its MACs at the rate of matrix products."""


@dataclass(frozen=True)
class Speed:
    """All rows, and the rate (MACs per second) that the floor was computed with."""

    rows: tuple[Row, ...]
    product_rate: float


def measure_speed(weights: str, bundles: dict[str, Path], blocks: int, rounds: int) -> Speed:
    """`bundles` by the names of their rows; `blocks` are trained in all."""
    noise = np.random.default_rng(0)
    images = noise.standard_normal((BATCH, 3, SIDE, SIDE), np.float32)
    labels = noise.integers(0, CLASSES, BATCH)
    products = matrix_products(THREADS)
    opened = {name: open_bundle(path) for name, path in bundles.items()}
    with ExitStack() as stack:
        contenders = {EAGER: _eager(weights, blocks, images, labels)}
        for name, bundle in opened.items():
            contenders[name] = stack.enter_context(our_parts(bundle, images, labels))
        subjects = {
            f"{n}: {part}": c for n, parts in contenders.items() for part, c in parts.items()
        }
        timings = side_by_side({FLOOR: products.run, **subjects}, rounds)
    # Products are timed like contenders; the step's share of them is its floor.
    parts_of_products = {name: _step_macs(b) / products.macs for name, b in opened.items()}
    rows = (_row(name, timings, parts_of_products.get(name)) for name in contenders)
    return Speed(tuple(rows), products.macs / timings[FLOOR].median)


def _eager(weights: str, blocks: int, images: np.ndarray, labels: np.ndarray) -> Parts:
    network = EagerFineTuning(weights, blocks, CLASSES, THREADS)
    pictures, target = torch.from_numpy(images), torch.from_numpy(labels)
    h = network.features(pictures)
    return {
        WHOLE: lambda: network.step(network.features(pictures), target),
        STEP: lambda: network.step(h, target),
    }


@contextmanager
def our_parts(bundle: Bundle, images: np.ndarray, labels: np.ndarray) -> Iterator[Parts]:
    """A bundle's way from `images` f32[N,3,H,W] to the end of a step, and the step alone."""
    state = bundle.initial_state(CLASSES, 0)
    with open_session(bundle, CLASSES, state, THREADS) as session:
        h = np.empty((BATCH, *bundle.manifest.feature.shape), np.float32)

        def whole() -> None:
            for row in range(BATCH):  # micro-batches of 1, the default
                h[row] = session.features(images[row : row + 1])[0]
            session.train_step(h, labels, LR)

        whole()
        yield {WHOLE: whole, STEP: lambda: session.train_step(h, labels, LR)}


def _step_macs(bundle: Bundle) -> int:
    return BATCH * bundle.manifest.macs.train_step.at(CLASSES)


def _row(name: str, timings: dict[str, Timing], products: float | None) -> Row:
    """`products` is the step's MACs by those of the matrix products."""
    whole, step = (timings[f"{name}: {part}"] for part in (WHOLE, STEP))
    eager_whole, eager_step = (timings[f"{EAGER}: {part}"] for part in (WHOLE, STEP))
    floors = None if products is None else timings[FLOOR].times_faster_than(step) / products
    return Row(
        name=name,
        whole=BATCH / whole.median,
        step=BATCH / step.median,
        step_ms=step.median * 1e3,
        whole_ratio=whole.times_faster_than(eager_whole),
        cached_ratio=step.times_faster_than(eager_whole),
        step_ratio=step.times_faster_than(eager_step),
        floors=floors,
    )
