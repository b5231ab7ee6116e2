"""The ExecuTorch step of the README's network, MobileNetV2 at 224 px: its time and its arena."""

from __future__ import annotations

from statistics import median
from time import perf_counter

import numpy as np
import pytest

from mobiletl.device.bundle.bundle import Bundle, open_bundle
from mobiletl.device.sessions.runtimes import open_session
from runtime_tests.support.board.shared_files import shared

pytest.importorskip("executorch", reason="needs the executorch package")

BATCH, CLASSES, THREADS, ROUNDS = 8, 10, 2, 15
TIMES_AS_LONG = 3.0
TIMES_THE_PLAN = 1.5


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    from mobiletl.export.writing.export_bundle import Request, export_bundle

    request = Request(
        "mbv2",
        str(shared("weights/mobilenet_v2-imagenet.safetensors")),
        "mobiletl",
        3,
        224,
        "sgd",
        tmp_path_factory.mktemp("bundles") / "executorch",
        runtimes=("onnxruntime", "executorch"),
        batch=BATCH,
        classes=CLASSES,
    )
    return open_bundle(export_bundle(request))


@pytest.mark.slow
def test_the_planned_arena_keeps_to_the_memory_plan(bundle: Bundle) -> None:
    planned = bundle.manifest.memory.train_step.peak_bytes(BATCH, CLASSES)
    arena = bundle.manifest.peak_bytes("executorch", "train_step", BATCH, CLASSES)
    print(f"arena {arena / 1e6:.1f} MB, planned activations {planned / 1e6:.1f} MB")
    assert arena <= TIMES_THE_PLAN * planned


@pytest.mark.slow
def test_a_step_keeps_up_with_onnxruntime(bundle: Bundle) -> None:
    """Rounds are paired, so that what else the machine does falls on both."""
    generator = np.random.default_rng(0)
    h = generator.standard_normal((BATCH, *bundle.manifest.feature.shape)).astype(np.float32)
    labels = np.arange(BATCH) % CLASSES
    state = bundle.initial_state(CLASSES, 0)
    ratios = []
    with (
        open_session(bundle, CLASSES, state, THREADS, "executorch") as ours,
        open_session(bundle, CLASSES, state, THREADS, "onnxruntime") as theirs,
    ):
        for round_number in range(ROUNDS + 1):
            seconds = []
            for session in (ours, theirs):
                start = perf_counter()
                session.train_step(h, labels, 0.0)
                seconds.append(perf_counter() - start)
            if round_number:  # the first one loads
                ratios.append(seconds[0] / seconds[1])
    print(f"{median(ratios):.2f} times onnxruntime's step")
    assert median(ratios) <= TIMES_AS_LONG
