"""`python -m bench.peers.ours BUNDLE`: a bundle's features and step on stock onnxruntime.

As `mobiletl train` has it, frozen layers see a few pictures at a time.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from bench.peers.protocol import BATCH, CLASSES, SIDE, STEP, THREADS, WHOLE, serve
from mobiletl.device.bundle.arrays import Floats
from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.run.options import DEFAULTS
from mobiletl.device.sessions.runtimes import open_session

RATE = 1e-4


def main(folder: str) -> None:
    """Serve both parts."""
    bundle = open_bundle(Path(folder))
    noise = np.random.default_rng(0)
    images = noise.standard_normal((BATCH, 3, SIDE, SIDE), np.float32)
    labels = np.arange(BATCH, dtype=np.int64) % CLASSES
    few = int(DEFAULTS["micro_batch"])
    with open_session(bundle, CLASSES, bundle.initial_state(CLASSES, 0), THREADS) as session:

        def maps() -> Floats:
            starts = range(0, BATCH, few)
            return np.concatenate([session.features(images[row : row + few]) for row in starts])

        h = maps()
        serve(
            {
                WHOLE: lambda: session.train_step(maps(), labels, RATE).loss,
                STEP: lambda: session.train_step(h, labels, RATE).loss,
            }
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
