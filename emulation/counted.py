"""What is counted on a board: `python counted.py BUNDLE PASSES STEPS`, by its own Python 3.8.

Opens BUNDLE, warms up with one pass of a picture and one step of eight, then runs PASSES and STEPS
more. The difference between two runs is what those took.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.sessions.runtimes import open_session

CLASSES = 10
BATCH = 8


def main(bundle_folder: str, passes: str, steps: str) -> None:
    bundle = open_bundle(Path(bundle_folder))
    side = bundle.manifest.input.resolution
    image = np.random.default_rng(0).standard_normal((1, 3, side, side)).astype(np.float32)
    labels = np.arange(BATCH, dtype=np.int64) % CLASSES
    with open_session(bundle, CLASSES, bundle.initial_state(CLASSES, 0), 1) as session:
        for _ in range(1 + int(passes)):
            features = session.features(image)
        maps = np.repeat(features, BATCH, axis=0)
        for _ in range(1 + int(steps)):
            session.train_step(maps, labels, 0.001)


if __name__ == "__main__":
    main(*sys.argv[1:])
