"""The fake session: it must be a real learner, or it proves nothing about the runner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mobiletl.device.bundle.bundle import Bundle, open_bundle
from mobiletl.device.errors import BadBundle, BadState
from mobiletl.device.sessions.runtimes import open_session
from mobiletl.device.sessions.session import Session
from runtime_tests.support.board.tiny_bundle import (
    BIAS,
    WEIGHT,
    tiny_document,
    write_manifest,
    write_tiny_bundle,
)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return open_bundle(write_tiny_bundle(tmp_path / "tiny", graphs=False))


def fake(bundle: Bundle, classes: int = 3) -> Session:
    return open_session(bundle, classes, bundle.initial_state(classes, 0), runtime="fake")


def coloured(count: int) -> tuple[Any, Any]:
    """Return pictures whose class is their brightest channel."""
    generator = np.random.default_rng(0)
    labels = np.arange(count) % 3
    images = generator.normal(0.0, 0.3, (count, 3, 8, 8)).astype(np.float32)
    images[np.arange(count), labels] += 1.0
    return images, labels


def test_features_are_averages_of_the_channels(bundle: Bundle) -> None:
    images = coloured(2)[0]
    with fake(bundle) as session:
        h = session.features(images)
    assert h.shape == (2, 6, 2, 2)
    assert h.dtype == np.float32
    assert h[1, 4, 1, 0] == pytest.approx(images[1, 1, 4:, :4].mean(), abs=1e-6)


def test_it_learns(bundle: Bundle) -> None:
    images, labels = coloured(24)
    with fake(bundle) as session:
        h = session.features(images)
        first = session.train_step(h, labels, 1.0)
        for _ in range(40):
            last = session.train_step(h, labels, 1.0)
        answered = session.embed(h)
        state = session.state()
    assert first.loss == pytest.approx(np.log(3), abs=0.05)
    assert last.loss < 0.2
    assert last.correct == 24
    assert (answered.logits.argmax(axis=1) == labels).all()
    assert (answered.logits == answered.embeddings @ state[WEIGHT].T + state[BIAS]).all()


def test_the_step_follows_the_numerical_gradient(bundle: Bundle) -> None:
    images, labels = coloured(4)
    epsilon, rate = 1e-2, 0.25
    start = bundle.initial_state(3, 0)

    def loss_with(change: float) -> float:
        state = {name: array.copy() for name, array in start.items()}
        state[WEIGHT][1, 2] += change
        with open_session(bundle, 3, state, runtime="fake") as session:
            return session.train_step(session.features(images), labels, 0.0).loss

    slope = (loss_with(epsilon) - loss_with(-epsilon)) / (2 * epsilon)
    with open_session(bundle, 3, start, runtime="fake") as session:
        session.train_step(session.features(images), labels, rate)
        moved = session.state()[WEIGHT] - start[WEIGHT]
    assert moved[1, 2] == pytest.approx(-rate * slope, rel=1e-3)


def test_a_session_trains_a_copy_of_the_state_it_was_given(bundle: Bundle) -> None:
    start = bundle.initial_state(3, 0)
    with open_session(bundle, 3, start, runtime="fake") as session:
        images, labels = coloured(3)
        before = {name: array.copy() for name, array in session.state().items()}
        session.train_step(session.features(images), labels, 1.0)
        assert (session.state()[BIAS] != before[BIAS]).any()
        with pytest.raises(ValueError, match="read-only"):
            session.state()[BIAS][0] = 1.0
    assert not start[BIAS].any()
    assert not before[BIAS].any()


def test_a_manifest_without_classifier_is_refused(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path, graphs=False)
    (folder / "manifest.json").unlink()
    document = tiny_document(folder)
    document["state"][1]["role"] = "statistic"
    write_manifest(folder, document)
    with pytest.raises(BadBundle, match="the fake runtime needs one parameter"):
        fake(open_bundle(folder))


def test_a_state_for_other_classes_is_refused(bundle: Bundle) -> None:
    with pytest.raises(BadState, match=r"for 3 classes: .*float32 \[4, 6\]"):
        open_session(bundle, 3, bundle.initial_state(4, 0), runtime="fake")
