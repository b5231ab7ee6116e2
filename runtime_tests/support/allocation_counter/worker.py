"""Run with the counter preloaded: worker.py BUNDLE BATCH CLASSES RUNTIME prints bytes as JSON.

The arena is off: it takes one large piece from malloc and hides what the tensors take of it.
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.sessions import onnxruntime as session_onnxruntime
from mobiletl.device.sessions.runtimes import open_session

THREADS = 2
WARM_UP = 3


def _measured(call: Callable[[], object]) -> int:
    """The peak of one call above the level before it; what first calls set up is not counted.

    TorchScript profiles one run and optimises in the next, which takes a megabyte once.
    """
    counter = ctypes.CDLL(None)
    counter.counter_live.restype = counter.counter_peak.restype = ctypes.c_int64
    for _ in range(WARM_UP):
        call()
    before = counter.counter_live()
    counter.counter_reset()
    call()
    return int(counter.counter_peak() - before)


def _without_arena() -> None:
    """Let the runner's sessions take every tensor from malloc, where it is counted."""
    with_arena = session_onnxruntime.session_options

    def options(onnxruntime: ModuleType, optimised: bool, threads: int) -> Any:
        chosen = with_arena(onnxruntime, optimised, threads)
        chosen.enable_cpu_mem_arena = False
        chosen.add_session_config_entry("session.use_env_allocators", "0")
        return chosen

    session_onnxruntime.session_options = options
    session_onnxruntime.share_arena = lambda onnxruntime, activations: None


def _main(folder: str, batch: int, classes: int, runtime: str) -> None:
    _without_arena()
    bundle = open_bundle(Path(folder))
    planned = partial(bundle.manifest.peak_bytes, runtime)
    side = bundle.manifest.input.resolution
    noise = np.random.default_rng(0)
    images = noise.standard_normal((1, 3, side, side), np.float32)
    labels = np.arange(batch) % classes
    state = bundle.initial_state(classes, 0)
    with open_session(bundle, classes, state, THREADS, runtime) as session:
        h = np.repeat(session.features(images), batch, axis=0)
        found = {
            "features": (
                _measured(lambda: session.features(images)),
                planned("features", 1, classes),
            ),
            "train_step": (
                _measured(lambda: session.train_step(h, labels, 1e-4)),
                planned("train_step", batch, classes),
            ),
            "predict": (
                _measured(lambda: session.predict(h)),
                planned("predict", batch, classes),
            ),
        }
    print(json.dumps({k: {"measured": m, "planned": p} for k, (m, p) in found.items()}))


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
