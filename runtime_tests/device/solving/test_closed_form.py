"""The classifier that a run begins with is the one that ridge regression gives, made less sure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from mobiletl.device.bundle.arrays import Tensors
from mobiletl.device.bundle.state_file import load_state
from mobiletl.device.heads.ridge import fit_ridge
from mobiletl.device.run.start import bundle_start
from mobiletl.device.sessions.session import Session
from mobiletl.device.solving.closed_form import START_SCALE, load_head
from runtime_tests.support.board.tiny_bundle import BIAS, WEIGHT
from runtime_tests.support.board.training_workshop import Workshop


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    return Workshop(tmp_path, monkeypatch)


def start_of(workshop: Workshop, run: str, **given: Any) -> Tensors:
    """Return the state that a run takes its first step from."""
    options = workshop.options(run, **given)
    workshop.interrupt(options, "train_step", 1)
    tensors, info = load_state(options.run / "state.safetensors", workshop.manifest)
    assert (info.epoch, info.step) == (0, 0)
    return tensors


def test_it_is_the_ridge_head_of_the_central_crops(workshop: Workshop) -> None:
    tensors = start_of(workshop, "run")
    assert workshop.session is not None
    embeddings = workshop.session.embeddings
    # Four batches to solve for the head; the fifth is the first evaluation.
    assert [len(part) for part in embeddings] == [5, 5, 5, 2, 4]
    dataset = workshop.train(workshop.options("whole")).dataset
    labels = np.array([picture.label for picture in dataset.train])
    head = fit_ridge(np.concatenate(embeddings[:4]), labels, 3).head
    assert START_SCALE == 0.1
    np.testing.assert_array_equal(tensors[WEIGHT], head.weight * np.float32(0.1))
    np.testing.assert_array_equal(tensors[BIAS], head.bias * np.float32(0.1))
    initial = workshop.bundle.initial_state(3, 0)
    for name in set(initial) - {WEIGHT, BIAS}:
        np.testing.assert_array_equal(tensors[name], initial[name])


def test_it_knows_the_classes_before_training(workshop: Workshop) -> None:
    solved = workshop.train(workshop.options("solved", epochs=1)).position
    drawn = workshop.train(workshop.options("drawn", epochs=1, start="random")).position
    assert solved.before is not None
    assert drawn.before is not None
    assert solved.before.accuracy == 1.0
    assert drawn.before.accuracy < 0.8
    assert solved.before.loss < drawn.before.loss


def test_a_random_start_is_the_bundles(workshop: Workshop) -> None:
    tensors = start_of(workshop, "drawn", start="random", seed=3)
    assert workshop.session is not None
    assert [len(part) for part in workshop.session.embeddings] == [4]
    expected = bundle_start(workshop.bundle, ("ant", "bee", "cat"), 3).tensors
    assert {name: t.tobytes() for name, t in tensors.items()} == {
        name: t.tobytes() for name, t in expected.items()
    }


def test_a_state_that_is_given_stays_as_it_is(workshop: Workshop) -> None:
    workshop.start = bundle_start(workshop.bundle, ("ant", "bee", "cat"), 3)
    tensors = start_of(workshop, "given")
    np.testing.assert_array_equal(tensors[WEIGHT], workshop.start.tensors[WEIGHT])


def test_a_classifier_without_a_bias_is_left_alone(workshop: Workshop) -> None:
    state = tuple(entry for entry in workshop.manifest.state if entry.name != BIAS)
    manifest = replace(workshop.manifest, state=state)
    assert manifest.classifier is None
    nothing = cast(Any, None)
    session = cast(Session, None)
    assert load_head(session, manifest, nothing, 3, 0, nothing, nothing) is None
