"""A state that was trained on one runtime goes on on another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mobiletl.device.bundle.bundle import Bundle, open_bundle
from mobiletl.device.sessions.runtimes import open_session
from runtime_tests.support.training_cases import (
    CASES,
    CLASSES,
    ONE_STEP,
    Array,
    Case,
    bundle_of,
    reference,
)
from runtime_tests.support.training_env import needs_training_env, run_in_training_env

# Of a block's last norm, which only convolutions with a norm over the batch read.
UNREAD_SHIFT = "conv.3.bias"
RESUME = """
import sys, numpy
sys.path.insert(0, sys.argv[1] + "/device")
__import__("_script").register()
from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.sessions.runtimes import open_session
bundle, data = open_bundle(sys.argv[1]), dict(numpy.load(sys.argv[2]))
state = {entry.name: data["state/" + entry.name] for entry in bundle.manifest.state}
classes = len(state["classifier." + str(data["classes_layer"]) + ".bias"])
with open_session(bundle, classes, state, 1, "onnxruntime-training") as session:
    maps = session.features(data["pictures"])
    losses = [session.train_step(data["h"], data["labels"], float(data["lr"])).loss
              for _ in range(int(data["steps"]))]
    answered = session.embed(data["h"])
    numpy.savez(sys.argv[3], losses=losses, maps=maps, logits=answered.logits,
                embedding=answered.embeddings,
                **{"state/" + name: value for name, value in session.state().items()})
"""


@needs_training_env
@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=str)
def test_state_moves_between_runtimes(
    case: Case, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    """Whichever runtime trained first, for another K than was exported: the next step is the same
    on both. One step, because a mask that rounding turns over makes ways part for good.
    """
    bundle = open_bundle(bundle_of(case, tmp_path_factory))
    classes, steps = CLASSES + 2, 3
    start = with_shifts(bundle.initial_state(classes, seed=1))
    batch = reference(case, bundle, bundle.initial_state(CLASSES, 0))
    for first in (on_stock_runtime, on_training_runtime):
        there = states(first(bundle, start, batch, steps, tmp_path))
        assert any(there[name].any() for name in there if "/" in name), "no slot has moved"
        on_stock = on_stock_runtime(bundle, there, batch, 1, tmp_path)
        on_training = on_training_runtime(bundle, there, batch, 1, tmp_path)
        assert_equal_states(on_training, on_stock, f"after {first.__name__}")
    whole_way = on_training_runtime(bundle, start, batch, steps + 1, tmp_path)
    assert_equal_states(on_training, whole_way, "without a stop")


def with_shifts(state: dict[str, Array]) -> dict[str, Array]:
    """The embedded network's shifts that nobody reads decayed to 0 in its training, and with them
    the mean of what comes next; nobody can tell 1e-5 of 0.
    """
    generator = np.random.default_rng(2)
    moved = {
        name: value + generator.normal(0.0, 0.1, value.shape).astype(np.float32)
        for name, value in state.items()
        if name.endswith(UNREAD_SHIFT) and "/" not in name
    }
    return {**state, **moved}


def on_stock_runtime(
    bundle: Bundle, state: dict[str, Array], batch: dict[str, Array], steps: int, _scratch: Path
) -> dict[str, Array]:
    classes = len(state[f"classifier.{batch['classes_layer']}.bias"])
    with open_session(bundle, classes, state, 1, "onnxruntime") as session:
        rate = float(batch["lr"])
        losses = [session.train_step(batch["h"], batch["labels"], rate).loss for _ in range(steps)]
        found = {f"state/{name}": value.copy() for name, value in session.state().items()}
        answered = session.embed(batch["h"])
        return {
            **found,
            "losses": np.array(losses),
            "logits": answered.logits,
            "embedding": answered.embeddings,
        }


def on_training_runtime(
    bundle: Bundle, state: dict[str, Array], batch: dict[str, Array], steps: int, scratch: Path
) -> dict[str, Array]:
    given = {name: value for name, value in batch.items() if not name.startswith("state/")}
    given |= {f"state/{name}": value for name, value in state.items()}
    np.savez(scratch / "given.npz", steps=steps, **given)
    out = scratch / "found.npz"
    result = run_in_training_env("-c", RESUME, bundle.path, scratch / "given.npz", out)
    assert result.returncode == 0, result.stderr[-4000:]
    found = dict(np.load(out))
    maps = found.pop("maps")
    assert np.linalg.norm(maps - batch["h"]) <= ONE_STEP * np.linalg.norm(batch["h"])
    return found


def states(found: dict[str, Array]) -> dict[str, Array]:
    return {k.removeprefix("state/"): v for k, v in found.items() if k.startswith("state/")}


def assert_equal_states(found: dict[str, Array], expected: dict[str, Array], way: str) -> None:
    assert list(states(found)) == list(states(expected)), "the manifest's order"
    losses = expected["losses"][-len(found["losses"]) :]
    np.testing.assert_allclose(found["losses"], losses, rtol=1e-5)
    for name in ("logits", "embedding"):
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-3)
    for name, value in states(expected).items():
        error = np.linalg.norm(states(found)[name] - value)
        # Adam divides by the root of a small number; its kernel has 1 - beta^t in float32.
        bound = ONE_STEP if "sgd" in "".join(expected) else 10 * ONE_STEP
        # Its gradient is 0 where norms over the batch follow: what is computed is rounding.
        least = 1e-6 if name.endswith(UNREAD_SHIFT) else 0.0
        assert error <= max(bound * np.linalg.norm(value), least), f"{way}: {name}"
