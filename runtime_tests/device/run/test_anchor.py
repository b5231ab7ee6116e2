"""The pull of FedProx, beside the gradient it stands for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mobiletl.device.bundle.bundle import open_bundle
from mobiletl.device.run.anchor import Anchor
from mobiletl.device.sessions.runtimes import open_session
from runtime_tests.support.board.tiny_bundle import (
    BIAS,
    CHANNELS,
    MEAN,
    SLOT,
    WEIGHT,
    write_tiny_bundle,
)

MU, LR = 0.3, 0.05


def test_a_step_and_the_pull_are_the_step_on_the_loss_with_the_proximal_term(
    tmp_path: Path,
) -> None:
    bundle = open_bundle(write_tiny_bundle(tmp_path / "bundle"))
    draw = np.random.default_rng(0)
    h = draw.normal(size=(4, CHANNELS, 2, 2)).astype(np.float32)
    labels = np.array([0, 1, 2, 1], np.int64)
    state = bundle.initial_state(3, 0)
    with open_session(bundle, 3, state, 1) as session:
        anchor = Anchor(bundle.manifest, session.state(), MU)
        session.train_step(h, labels, 0.5)  # somewhere else than where the run began
        before = {name: tensor.copy() for name, tensor in session.state().items()}
        session.train_step(h, labels, LR)
        plain = {name: tensor.copy() for name, tensor in session.state().items()}
        anchor.pull(session, LR)
        pulled = session.state()
        for name in (WEIGHT, BIAS):
            # w - lr (g + mu (w - w0)), but for the pull's own w, which is a step further on.
            expected = plain[name] - LR * MU * (before[name] - state[name])
            moved = np.abs(plain[name] - before[name]).max()
            np.testing.assert_allclose(pulled[name], expected, atol=LR * MU * moved + 1e-6)
            assert np.abs(pulled[name] - plain[name]).max() > 0
        for name in (MEAN, SLOT + WEIGHT, SLOT + BIAS):
            np.testing.assert_array_equal(pulled[name], plain[name])


@pytest.mark.parametrize("mu", [1e6])
def test_a_pull_never_overshoots(tmp_path: Path, mu: float) -> None:
    bundle = open_bundle(write_tiny_bundle(tmp_path / "bundle"))
    state = bundle.initial_state(2, 0)
    with open_session(bundle, 2, state, 1) as session:
        anchor = Anchor(bundle.manifest, session.state(), mu)
        session.train_step(np.ones((2, CHANNELS, 2, 2), np.float32), np.array([0, 1]), 0.5)
        anchor.pull(session, 0.5)
        np.testing.assert_allclose(session.state()[WEIGHT], state[WEIGHT], atol=1e-6)
