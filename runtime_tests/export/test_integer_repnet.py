"""Rep-Net beside frozen blocks on bytes: one bundle, a state for each task, switched in place."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mobiletl.core.integer.top import integer_top
from mobiletl.core.optimizers import find_optimizer
from mobiletl.core.step import TrainingStep
from mobiletl.device.bundle.arrays import Floats, Tensors
from mobiletl.device.bundle.bundle import Bundle, open_bundle
from mobiletl.device.sessions.runtimes import open_session
from runtime_tests.support.exported_bundles import Case, exported

pytestmark = pytest.mark.usefixtures("one_thread")

CLASSES, BATCH, STEPS = 2, 8, 12
FLOATS, BYTES = Case("repnet", None, "adam"), Case("repnet", None, "adam", step="int8")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return open_bundle(exported(tmp_path_factory, BYTES))


def pictures(bundle: Bundle, task: int, count: int) -> tuple[Floats, np.ndarray]:
    """Two patterns of a task's own, with noise."""
    generator = np.random.default_rng(task)
    shape = bundle.manifest.feature.shape
    patterns = generator.normal(size=(CLASSES, shape[0], 8, 8)).repeat(shape[1] // 8, 2)
    patterns = patterns.repeat(shape[2] // 8, 3)
    labels = np.arange(count) % CLASSES
    h = patterns[labels] + 0.3 * generator.normal(size=(count, *shape))
    return h.astype(np.float32), labels.astype(np.int64)


def test_pytorch_and_onnxruntime_compute_one_step(bundle: Bundle) -> None:
    step = TrainingStep(integer_top(BYTES.transfer(CLASSES)), find_optimizer("adam"))
    state = dict(bundle.initial_state(CLASSES, 0))
    for name, value in state.items():  # a module's last scale is 0 at first: nothing to see
        if name.startswith(("side.", "picture_side.")) and name.endswith("last_norm.weight"):
            state[name] = np.full_like(value, 0.2)
    h, labels = pictures(bundle, 0, BATCH)
    loss, correct, *expected = step.train(
        [torch.from_numpy(state[entry.name]) for entry in step.entries],
        torch.from_numpy(h),
        torch.from_numpy(labels),
        torch.tensor(1e-3),
    )
    with open_session(bundle, CLASSES, state, 1) as session:
        found = session.train_step(h, labels, 1e-3)
        after = session.state()
    assert found.loss == pytest.approx(loss.item(), rel=1e-5)
    assert found.correct == int(correct)
    for entry, wanted in zip(step.entries, expected, strict=True):
        if entry.name.startswith("adam.m/"):
            difference = np.linalg.norm(after[entry.name] - wanted.numpy())
            assert difference <= 5e-3 * float(wanted.norm()) + 1e-7, entry.name


def test_a_task_that_is_learned_later_changes_no_bit_of_an_earlier_one(bundle: Bundle) -> None:
    """Its state is loaded into the session that learned the other one."""
    state = bundle.initial_state(CLASSES, 0)
    with open_session(bundle, CLASSES, state, 1) as session:
        learned: list[tuple[Tensors, Floats]] = []
        for task in range(2):
            session.load(state)
            h, labels = pictures(bundle, task, BATCH)
            losses = [session.train_step(h, labels, 3e-3).loss for _ in range(STEPS)]
            assert losses[-1] < 0.5 * losses[0]
            kept = {name: value.copy() for name, value in session.state().items()}
            learned.append((kept, session.predict(h)))
        for task, (kept, logits) in enumerate(learned):
            session.load(kept)
            h, labels = pictures(bundle, task, BATCH)
            assert session.predict(h).tobytes() == logits.tobytes()
            assert (logits.argmax(axis=1) == labels).all()


def test_states_fit_the_bundle_of_floats(
    bundle: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> None:
    floats = open_bundle(exported(tmp_path_factory, FLOATS))
    assert bundle.manifest.fit == floats.manifest.fit
    planned = [
        one.manifest.memory.train_step.peak_bytes(BATCH, CLASSES) for one in (bundle, floats)
    ]
    assert planned[0] < 0.8 * planned[1]
